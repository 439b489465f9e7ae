"""Number and volume of the lesions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from shared.results.measures import Measures, Spacing, one_map, rounded, volume_unit


def lesions(label: np.ndarray, spacing: Spacing) -> Measures:
    """Count lesions, 26-connected pieces of everything that is not background, and measure each and all.

    Args:
        label: (X, Y, Z) or (1, X, Y, Z), integers; 0 is background.
        spacing: mm a voxel along X, Y, Z; None if unknown.

    Returns:
        ``lesion_count``; ``lesion_volume_ml``, of all; ``lesion_volumes_ml``, of each, largest first (``..._voxels``
        without spacing).
    """
    mask = one_map(label) > 0
    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)
    unit, factor = volume_unit(spacing)
    volumes = [rounded(size * factor) for size in sizes]
    return {
        "lesion_count": count,
        f"lesion_volume_{unit}": rounded(sum(sizes) * factor),
        f"lesion_volumes_{unit}": volumes,
    }
