"""A cine whose headers were read and whose voxels were not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

FEWEST_PHASES = 6  # fewer do not show where a heartbeat begins and ends; 4-D files of up to 5 volumes hold channels


class OpenedCine(NamedTuple):
    """A cine as the readers of all formats return it.

    Args:
        shape: (X, Y, Z, T).
        affine: 4 x 4, from voxel indices to RAS, mm.
        step_s: time between phases in seconds; None if unknown.
        source: the file that a mask takes its header from; of DICOM, the folder.
        voxels: reads the array of that shape, intensities rescaled as the files say.
    """

    shape: tuple[int, int, int, int]
    affine: np.ndarray
    step_s: float | None
    source: str
    voxels: Callable[[], np.ndarray]


def check_stack(slices: int) -> None:
    """Raise ValueError for a film of one slice, whose ventricles have no volume."""
    if slices < 2:
        raise ValueError(
            "a film of one slice (a real-time cine, or a long-axis view): give the stack of short-axis slices"
        )
