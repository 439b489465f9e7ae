"""Number and volume of the lesions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from shared.results.measures import Measures, Spacing, one_map, rounded, volume_unit


def lesions(label: np.ndarray, spacing: Spacing) -> Measures:
    """Count lesions, the 26-connected components of everything except the background, and measure them.

    Args:
        label: (X, Y, Z) or (1, X, Y, Z), integers; 0 is background.
        spacing: voxel size in mm along X, Y, Z; None if unknown.

    Returns:
        ``lesion_count``; ``lesion_volume_ml``, the volume of all lesions; ``lesion_volumes_ml``, the volume of each,
        largest first. Without spacing ``lesion_volume_voxels`` and ``lesion_volumes_voxels``.

    """
    mask = one_map(label) > 0
    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)
    unit, factor = volume_unit(spacing)
    return {
        "lesion_count": count,
        f"lesion_volume_{unit}": rounded(sum(sizes) * factor),
        f"lesion_volumes_{unit}": [rounded(size * factor) for size in sizes],
    }
