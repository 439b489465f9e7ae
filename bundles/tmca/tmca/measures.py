"""Area and side of what is marked in a chest X-ray."""

from __future__ import annotations

import math

import numpy as np

from shared.results.measures import Measures, Spacing, one_map, rounded


def chest(label: np.ndarray, spacing: Spacing = None) -> Measures:
    """Area of what is marked in a chest X-ray, and the side of the picture on which it lies.

    The picture's left is the patient's right in the usual view; a file cannot say, so sides are the picture's.

    Args:
        label: (H, W) or (1, H, W), integers; 0 is background.
        spacing: mm a pixel along H, W; None if unknown, as in PNG and JPG.

    Returns:
        ``affected_area_cm2`` (``affected_area_px`` without spacing); ``affected_share_of_picture`` in [0, 1];
        ``affected_side_of_picture``: "left", "right", "both" or "none", by the middle column.
    """
    mask = one_map(label) > 0
    middle = mask.shape[-1] / 2
    columns = np.flatnonzero(mask.any(axis=0))
    sides = {"left": (columns < math.floor(middle)).any(), "right": (columns >= math.ceil(middle)).any()}
    found = [side for side, there in sides.items() if there]
    area = int(mask.sum())
    shown = {"affected_area_px": area} if spacing is None else {
        "affected_area_cm2": rounded(area * math.prod(spacing) / 100)
    }  # fmt: skip
    side = "both" if len(found) == 2 else (found or ["none"])[0]
    return {**shown, "affected_share_of_picture": rounded(area / mask.size), "affected_side_of_picture": side}
