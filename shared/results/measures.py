"""Voxel sizes, units and rounding, for the bundles' functions that measure masks.

Such a function takes a label map and the size of its voxels and returns a flat dict for ``predictions.json``. Where the
size is unknown (None), volumes are numbers of voxels and the keys end in "voxels". The figures are for research, not
for clinical use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Measures = dict[str, Any]
Spacing = Sequence[float] | None

SIGNIFICANT_DIGITS = 4


def voxel_spacing(steps: np.ndarray) -> list[float]:
    """Return the distances between voxels along each axis, perpendicular to the axes before it.

    Their product is the determinant, which is the size of a voxel: the slices of a tilted gantry lie closer together
    than the step from one to the next is long.

    Args:
        steps: linear part (A, A) of an affine; a column is the step to the next voxel along an axis.

    Returns:
        A distances, in the unit of `steps`.

    """
    return np.abs(np.diagonal(np.linalg.qr(np.asarray(steps, float)).R)).tolist()


def one_map(label: np.ndarray) -> np.ndarray:
    """Remove the channel axis of a label map."""
    label = np.asarray(label)
    if label.ndim == 4 or (label.ndim == 3 and len(label) == 1):
        label = label[0]
    return label


def volume_unit(spacing: Spacing) -> tuple[str, float]:
    """Return the unit of volumes and the size of one voxel in it."""
    return ("voxels", 1) if spacing is None else ("ml", math.prod(spacing) / 1000)


def rounded(value: float) -> float:
    """Round to four significant digits; integers stay."""
    return value if isinstance(value, int) else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
