"""The part of a volume that an overlay shows: view, slices, box and grey values."""

from __future__ import annotations

from typing import cast

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

SLICES = 3
APART_MM = 6.0  # least distance of the slices shown, so that they differ
THICK = 1.5  # slices this many times thicker than a pixel is wide are shown as they are
OPPOSITE = {"S": "SI", "A": "AP", "L": "LR"}
VIEWS = {"S": ("LPS", "RL"), "A": ("LIA", "RL"), "L": ("PIL", "AP")}  # axial, coronal, sagittal slices


def view(affine: np.ndarray) -> tuple[str, str]:
    """Choose the direction of the slices to show: that of thick slices if there are any, otherwise axial.

    Args:
        affine: (4, 4), RAS, mm.

    Returns:
        The directions in which columns, rows and slices of the picture run, as MONAI's axis codes, and the letters of
        the patient's sides at the left and the right of the picture.

    """
    sizes = nib.affines.voxel_sizes(affine)
    thick = int(sizes.argmax())
    if sizes[thick] < THICK * np.sort(sizes)[1]:
        return VIEWS["S"]
    direction = nib.aff2axcodes(affine)[thick]
    return next(view for axis, view in VIEWS.items() if direction in OPPOSITE[axis])


def radiological(array: np.ndarray, affine: np.ndarray, axcodes: str) -> MetaTensor:
    """Turn a volume (C, X, Y, Z) so that its axes run in the directions `axcodes`."""
    turned = Orientation(axcodes=axcodes, labels=None)(
        MetaTensor(torch.from_numpy(array.copy()), torch.from_numpy(affine))
    )
    return cast(MetaTensor, turned)


def window(shown: np.ndarray) -> tuple[float, float]:
    """Return the grey values to show as black and as white: 1st and 99th percentile of what is not background."""
    if len(shown) > 1:
        return 0.0, 255.0 if shown.max() > 1 else 1.0
    inside = shown[shown != shown[0, 0, 0, 0]]  # a corner is background; in scaled files it is not exactly 0
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def field_of_view(shown: np.ndarray, masks: np.ndarray, white: float) -> tuple[slice, slice]:
    """Return the in-plane box that contains the head and every mask, with a small margin."""
    background = shown[0, 0, 0, 0]
    head = np.abs(shown - background) > 0.05 * abs(white - background)
    plane = head.any(axis=(0, 3)) | masks.any(axis=(0, 3))
    if not plane.any():
        return slice(None), slice(None)
    margin = max(plane.shape) // 25 + 1
    spans = [np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0)]
    first, second = (slice(max(span[0] - margin, 0), span[-1] + 1 + margin) for span in spans)
    return first, second


def pick_slices(masks: np.ndarray, thickness: float) -> list[int]:
    """Return the slices with most foreground that are at least 6 mm apart, in their order; the middle ones if empty.

    Args:
        masks: bool (C, X, Y, Z).
        thickness: distance of two slices, in mm.

    """
    depth = masks.shape[3]
    area = masks.any(axis=0).sum(axis=(0, 1)).astype(float)
    middle = (depth - 1) / 2
    area -= np.abs(np.arange(depth) - middle) / (depth + 1)  # ties go to the slice nearest to the middle
    apart = max(1, min(round(APART_MM / max(thickness, 1e-3)), depth // SLICES))
    chosen: list[int] = []
    for index in np.argsort(-area):
        if len(chosen) < SLICES and all(abs(index - other) >= apart for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)
