"""The numbers that people read off a mask: lesions, cup-to-disc ratio, volumes of the heart, affected area.

Every function takes a label map and the size of its voxels, and returns a flat dict for ``predictions.json``. Where the
size is not known (None) volumes are counts of voxels, and the keys say so. Research figures, no medical device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Measures = dict[str, Any]
Spacing = Sequence[float] | None


def one_map(label: np.ndarray) -> np.ndarray:
    """Without the channel of a label map."""
    label = np.asarray(label)
    if label.ndim == 4 or (label.ndim == 3 and len(label) == 1):
        label = label[0]
    return label


def volume_unit(spacing: Spacing) -> tuple[str, float]:
    """Return the unit of volumes and the size of a voxel in it."""
    return ("voxels", 1) if spacing is None else ("ml", math.prod(spacing) / 1000)


def rounded(value: float) -> float:
    """Four significant digits are more than a mask knows; integers stay."""
    return value if isinstance(value, int) else float(f"{value:.4g}")
