"""Area and side of the segmented target in a chest X-ray."""

from __future__ import annotations

import math

import numpy as np

from shared.results.measures import Measures, Spacing, one_map, rounded


def chest(label: np.ndarray, spacing: Spacing = None) -> Measures:
    """Measure the area of the target and the side of the image on which it lies.

    Sides are those of the image: its left is the patient's right in the usual view, but a file does not tell the view.

    Args:
        label: (H, W) or (1, H, W), integers; 0 is background.
        spacing: pixel size in mm along H, W; None if unknown, as in PNG and JPG.

    Returns:
        ``affected_area_cm2`` (``affected_area_px`` without spacing); ``affected_share_of_picture`` in [0, 1];
        ``affected_side_of_picture``: "left", "right", "both" or "none", divided at the middle column.

    """
    mask = one_map(label) > 0
    middle = mask.shape[-1] / 2
    columns = np.flatnonzero(mask.any(axis=0))
    sides = {"left": (columns < math.floor(middle)).any(), "right": (columns >= math.ceil(middle)).any()}
    found = [side for side, there in sides.items() if there]
    area = int(mask.sum())
    size: Measures = {"affected_area_px": area}
    if spacing is not None:
        size = {"affected_area_cm2": rounded(area * math.prod(spacing) / 100)}
    side = "both" if len(found) == 2 else (found or ["none"])[0]
    return {**size, "affected_share_of_picture": rounded(area / mask.size), "affected_side_of_picture": side}
