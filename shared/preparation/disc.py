"""Find the optic disc in a photograph of the back of the eye, whole or cropped.

A small network looks twice: at the whole picture, and closely at each place where it saw a disc. The second look gives
the disc's centre and size, and rejects lesions, reflections and other things that resemble a disc from afar.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.nets import UNet
from scipy import ndimage
from torch.nn.functional import interpolate, pad

from shared.backbones.checkpoint import load_trained

GAIN = 10.0  # of the logits, so that a short training can make the network sure
RARE = -4.0  # logit of a disc before training: few pixels belong to it
SIDE = 160  # pixels of the square that the network sees
CLOSE = 8.0  # side of the second look, disc radii
CANDIDATES = 3  # places that get a second look
FAINT = 0.3  # probability from which a place is a candidate
LIKELY = 0.5  # probability from which a pixel of the second look belongs to the disc
SURE = 0.8  # mean probability of these pixels from which it is the disc of a whole photograph
SMALLEST = 2.0  # pixels of the first look; the radius of a candidate
SPECK = 14.0  # disc diameters along the shorter side of a picture, from which it is none: 60 degrees have 10
WHOLE = 3.6  # disc diameters along the longer side of a picture, from which it is a whole photograph
CROP = 2.4  # disc diameters along the side of a crop: the crops that the weights were trained on have 1.9 to 3


class DiscProbability(torch.nn.Module):
    """Predict where the optic disc is.

    A residual U-Net (MONAI's) of five depths, the first at half resolution, and a linear layer; 0.3 M parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=8,
            channels=(16, 32, 48, 64, 96),
            strides=(2, 2, 2, 2),
            num_res_units=1,
            norm=("instance", {"affine": True}),
            act="LEAKYRELU",
        )
        self.head = torch.nn.Conv2d(8, 1, 1)
        torch.nn.init.constant_(self.head.bias, RARE / GAIN)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Args:
            image: (B, 3, 160, 160), red, green, blue in [0, 1].

        Returns:
            (B, 1, 160, 160), above 0 where the disc is.
        """
        return GAIN * self.head(self.unet(2 * image - 1))


class Disc(NamedTuple):
    """An optic disc in a photograph.

    Args:
        row, column: of its centre, pixels.
        radius: pixels.
        score: how sure the network is, 0 to 1.
    """

    row: float
    column: float
    radius: float
    score: float

    def is_in_whole_photograph(self, height: int, width: int) -> bool:
        """Return whether a picture of this size is a whole photograph, not one that was cropped round the disc."""
        return self.score >= SURE and max(height, width) > WHOLE * 2 * self.radius

    def is_plausible(self, height: int, width: int) -> bool:
        """Return whether a picture of this size shows a disc here.

        Where the network is not sure, only a picture that is filled by the disc counts: nothing else that the network
        takes for a disc is as large.
        """
        return min(height, width) <= (SPECK if self.score >= SURE else WHOLE) * 2 * self.radius

    def box(self, height: int, width: int) -> tuple[slice, slice]:
        """Return rows and columns of the square round the disc, moved so that it lies within the picture."""
        side = min(round(CROP * 2 * self.radius), height, width)
        first = [
            int(np.clip(round(middle - side / 2), 0, size - side))
            for middle, size in ((self.row, height), (self.column, width))
        ]
        return slice(first[0], first[0] + side), slice(first[1], first[1] + side)


@torch.no_grad()
def find_disc(picture: torch.Tensor, network: DiscProbability) -> Disc | None:
    """Find the optic disc.

    Args:
        picture: (3, H, W), red, green, blue in [0, 1], at any resolution.
        network: with trained weights, in evaluation mode.

    Returns:
        The disc that the network is most sure of; None if there is none.
    """
    picture = picture.as_tensor() if isinstance(picture, MetaTensor) else picture
    height, width = picture.shape[1:]
    rows, columns = height / 2, width / 2
    faint = _look(picture, rows, columns, max(height, width), network, FAINT)
    smallest = SMALLEST * max(height, width) / SIDE
    seen = [disc for disc in faint if disc.radius >= smallest]
    found = []
    for disc in sorted(seen, key=lambda one: one.score * one.radius, reverse=True)[:CANDIDATES]:
        side = min(CLOSE * disc.radius, float(max(height, width)))
        row, column = (rows, columns) if side == max(height, width) else (disc.row, disc.column)
        close = _look(picture, row, column, side, network, LIKELY)
        found += [one for one in close if np.hypot(one.row - disc.row, one.column - disc.column) < 2 * disc.radius]
    best = max(found, key=lambda one: one.score * one.radius, default=None)
    return best if best is not None and best.is_plausible(height, width) else None


@lru_cache(maxsize=2)
def load_disc_network(weights: Path) -> DiscProbability:
    """Return the network with its weights, in evaluation mode.

    Raises:
        InputError: the file is missing or does not fit.
    """
    return load_trained(DiscProbability(), weights, "the finder of the optic disc")


def _look(
    picture: torch.Tensor, row: float, column: float, side: float, network: DiscProbability, likely: float
) -> list[Disc]:
    """Return every connected place of at least the probability `likely` in a square window of the picture."""
    seen, first, scale = view(picture, row, column, side)
    device = next(network.parameters()).device
    probability = torch.sigmoid(network(seen[None].to(device)))[0, 0].float().cpu().numpy()
    parts, count = ndimage.label(probability > likely)
    found = []
    for number in range(1, count + 1):
        part = parts == number
        weights = probability * part
        middle = ndimage.center_of_mass(weights)
        down, along = (float(start + (at + 0.5) * scale - 0.5) for start, at in zip(first, middle))
        radius = float(np.sqrt(part.sum() / np.pi)) * scale
        found.append(Disc(down, along, radius, float(weights.sum() / part.sum())))
    return found


def view(picture: torch.Tensor, row: float, column: float, side: float) -> tuple[torch.Tensor, tuple[int, int], float]:
    """Return what the network sees of a picture.

    Args:
        picture: (3, H, W).
        row, column: middle of the window, pixels.
        side: of the window, pixels; what lies outside of the picture is black.

    Returns:
        The window (3, 160, 160), row and column of its first pixel, and the size of its pixels in those of the picture.
    """
    size = max(round(side), 1)
    first = round(row - side / 2), round(column - side / 2)
    ends = [(max(start, 0), min(start + size, limit)) for start, limit in zip(first, picture.shape[1:])]
    (top, bottom), (left, right) = ends
    part = torch.as_tensor(picture[:, top:bottom, left:right]).float()
    margins = (left - first[1], first[1] + size - right, top - first[0], first[0] + size - bottom)
    square = pad(part, margins)[None]
    return interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True)[0].clamp(0, 1), first, size / SIDE
