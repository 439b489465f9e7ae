"""A volume whose header was read and whose voxels were not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class OpenedVolume(NamedTuple):
    """A volume as the readers of all formats return it.

    Args:
        shape: (X, Y, Z), (X, Y, Z, M) or (X, Y, Z, 1, M).
        affine: 4 x 4, from voxel indices to RAS, mm.
        voxels: reads the array of that shape, intensities rescaled as the file says.
        needs_reading: only reading the voxels shows whether they are damaged, NaN or of a kind that cannot be decoded.
        step: difference between neighbouring values of a file that stores integers with a slope; else 0.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    voxels: Callable[[], np.ndarray]
    needs_reading: bool = False
    step: float = 0.0
