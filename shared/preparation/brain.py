"""Brain extraction: a small 3-D network that finds the brain in a scan of any contrast.

The network predicts the signed distance to the brain's surface, as SynthStrip does (Hoopes 2022), on a grid of 2.5 mm.
A distance interpolates smoothly, so the surface is found between the voxels of that coarse grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from monai.networks.nets import UNet
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from scipy import ndimage
from torch.nn.functional import interpolate

from shared.core.errors import InputError
from shared.preparation.scan import Scan

SPACING = 2.5  # mm, of the network's grid
MULTIPLE = 16  # voxels; the network halves its grid four times
FIELD = (80, 96, 80)  # voxels that the network sees in training; less air around a head changes its instance norms
LARGEST_DISTANCE = 12.0  # mm; the network learns distances up to this one
UNIT = 5.0  # mm per unit of the network's output
BRIGHTEST = 99.5  # percentile of the voxels that are not zero, becomes 1
SMALLEST_PART = 100.0  # mL; less is not worth segmenting, or is no brain
SMALLEST_BRAIN, LARGEST_BRAIN = 700.0, 2200.0  # mL, of a whole adult brain with its ventricles
CUT_DEPTH = 5.0  # mm; where a scan ends within the brain, the mask closes over this distance
LARGEST_CUT = 50.0  # cm2 of brain so close to the end of a scan; a crown has 25, a brain stem less
CANONICAL = io_orientation(np.eye(4))


class NoBrain(InputError):
    """A scan shows no brain, or only a small part of one."""


class BrainDistance(torch.nn.Module):
    """Predict the signed distance to the brain's surface.

    A residual U-Net (MONAI's) with 8 channels at full resolution; 0.6 M parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=(8, 16, 32, 64, 96, 96),
            strides=(1, 2, 2, 2, 2),
            num_res_units=1,
            norm=("instance", {"affine": True}),
            act="LEAKYRELU",
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return distances in mm, negative inside the brain.

        Args:
            image: (B, 1, X, Y, Z) in [0, 1] at 2.5 mm, axes to right, anterior and superior; sizes are multiples of 16,
                and at least `FIELD`.

        Returns:
            (B, 1, X, Y, Z), meaningful from -12 to 12.
        """
        return self.unet(image) * UNIT


class Brain(NamedTuple):
    """The brain of a scan.

    Args:
        mask: bool (X, Y, Z), on the scan's grid.
        distance: float32 (X, Y, Z), mm to the brain's surface, negative inside.
        warnings: what a reader should know, such as a brain that the scan cuts off; one line each.
    """

    mask: np.ndarray
    distance: np.ndarray
    warnings: tuple[str, ...] = ()

    def volume(self, scan: Scan) -> float:
        """Return the volume in mL."""
        return float(self.mask.sum() * abs(np.linalg.det(scan.affine[:3, :3])) / 1000)


@torch.no_grad()
def extract_brain(scan: Scan, network: BrainDistance, margin: float = 0.0) -> Brain:
    """Find the brain in a scan.

    Args:
        scan: a head in any MR contrast, at any resolution and orientation; intensities of at least 0.
        network: with trained weights, in evaluation mode.
        margin: mm by which the mask reaches beyond the brain's surface.

    Raises:
        NoBrain: the scan shows no brain, or only a small part of one.
    """
    image, to_scan = _coarse(scan)
    padded = [max(-size % MULTIPLE, field - size) for size, field in zip(image.shape, FIELD)]
    before = [pad // 2 for pad in padded]
    box = tuple(slice(start, start + size) for start, size in zip(before, image.shape))
    whole = np.pad(image, [(start, pad - start) for start, pad in zip(before, padded)])
    device = next(network.parameters()).device
    seen = torch.from_numpy(whole)[None, None].to(device)
    found = (network(seen) + network(seen.flip(2)).flip(2)) / 2  # mean with the scan mirrored left to right
    coarse = found[0, 0].float().cpu().numpy()[box]
    distance = to_scan(coarse)
    mask = largest_piece(distance <= margin)
    brain = Brain(mask, distance)
    volume = brain.volume(scan)
    if volume < SMALLEST_PART:
        raise NoBrain(f"no brain was found ({volume:.0f} mL): give a scan of a head, or --prepare off")
    return brain._replace(warnings=tuple(_warnings(scan, mask, volume)))


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected piece of a mask, with its holes filled."""
    parts, count = ndimage.label(mask)
    if count > 1:
        mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(mask)


def scale(image: np.ndarray) -> np.ndarray:
    """Scale a scan to [0, 1]: zero stays zero, the 99.5th percentile of the other voxels becomes 1."""
    tissue = image[image > 0]
    top = float(np.percentile(tissue, BRIGHTEST)) if tissue.size else 0.0
    return np.clip(image / top, 0, 1).astype(np.float32) if top > 0 else np.zeros(image.shape, np.float32)


def _coarse(scan: Scan) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Bring a scan to the network's grid; also return the way back for a map on that grid.

    The axes are permuted and flipped so that they run about to right, anterior and superior, and are not rotated.
    """
    order = io_orientation(scan.affine)
    image = apply_orientation(np.clip(scan.voxels, 0, None).astype(np.float32), order)
    spacing = scan.spacing[np.argsort(order[:, 0])]
    size = [max(round(n * edge / SPACING), 1) for n, edge in zip(image.shape, spacing)]
    fine = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    averaged = interpolate(fine, [min(pair) for pair in zip(size, image.shape)], mode="area")
    coarse = interpolate(averaged, size, mode="trilinear", align_corners=False)[0, 0].numpy()

    def to_scan(values: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(values))[None, None]
        back = interpolate(batch, image.shape, mode="trilinear", align_corners=False)[0, 0].numpy()
        return np.ascontiguousarray(apply_orientation(back, ornt_transform(CANONICAL, order)))

    return scale(coarse), to_scan


def _warnings(scan: Scan, mask: np.ndarray, volume: float) -> Iterator[str]:
    """Yield what is unusual about a brain, as one line each."""
    if not SMALLEST_BRAIN <= volume <= LARGEST_BRAIN:
        yield f"the brain has {volume:.0f} mL, which is unusual for an adult: look at the brain mask"
    for axis in range(3):
        areas = mask.sum(tuple({0, 1, 2} - {axis})) * np.prod(np.delete(scan.spacing, axis)) / 100
        close = max(round(CUT_DEPTH / scan.spacing[axis]), 1)
        for end, part, slice_ in (("first", areas[:close], 0), ("last", areas[-close:], -1)):
            shown = bool(scan.voxels.take(slice_, axis).any())  # else the image was padded
            if shown and part.max() > LARGEST_CUT:
                yield f"the scan cuts the brain off at its {end} slice along {'xyz'[axis]} ({part.max():.0f} cm2)"
