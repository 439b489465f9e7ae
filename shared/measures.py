"""The numbers that people read off a mask: lesions, cup-to-disc ratio, volumes of the heart, affected area.

Every function takes a label map and the size of its voxels, and returns a flat dict for ``predictions.json``. Where the
size is not known (None) volumes are counts of voxels, and the keys say so. Research figures, no medical device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

Measures = dict[str, Any]
Spacing = Sequence[float] | None

MYOCARDIAL_DENSITY = 1.05  # g / mL (Grothues 2002)


def lesions(label: np.ndarray, spacing: Spacing) -> Measures:
    """Count lesions, 26-connected pieces of everything that is not background, and measure each and all.

    Args:
        label: (X, Y, Z) or (1, X, Y, Z), integers; 0 is background.
        spacing: mm a voxel along X, Y, Z; None if unknown.

    Returns:
        ``lesion_count``; ``lesion_volume_ml``, of all; ``lesion_volumes_ml``, of each, largest first (``..._voxels``
        without spacing).
    """
    mask = _one_map(label) > 0
    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)
    unit, factor = _volume_unit(spacing)
    volumes = [_rounded(size * factor) for size in sizes]
    return {
        "lesion_count": count,
        f"lesion_volume_{unit}": _rounded(sum(sizes) * factor),
        f"lesion_volumes_{unit}": volumes,
    }


def cup_to_disc(label: np.ndarray, spacing: Spacing = None, disc: int = 1, cup: int = 2) -> Measures:
    """Vertical cup-to-disc ratio: height of the cup over that of the disc, whose inner part it is.

    Args:
        label: (H, W) or (1, H, W), rows from top to bottom, integers.
        spacing: has no part in a ratio.
        disc, cup: their values.

    Returns:
        ``vertical_cup_to_disc_ratio`` in [0, 1], None without a disc; ``disc_height_px``, ``cup_height_px``.
    """
    values = _one_map(label)
    heights = [_height(np.isin(values, (disc, cup))), _height(values == cup)]
    ratio = _rounded(heights[1] / heights[0]) if heights[0] else None
    return {"vertical_cup_to_disc_ratio": ratio, "disc_height_px": heights[0], "cup_height_px": heights[1]}


def heart(label: np.ndarray, spacing: Spacing, left: int = 1, muscle: int = 2, right: int = 3) -> Measures:
    """Volumes of the ventricles and mass of the myocardium.

    Args:
        label: (X, Y, Z) or (1, X, Y, Z), integers.
        spacing: mm a voxel along X, Y, Z, gaps between slices included; None if unknown.
        left, muscle, right: values of left ventricle, myocardium and right ventricle.

    Returns:
        ``lv_volume_ml``, ``rv_volume_ml`` and ``myocardial_mass_g``; without spacing ``lv_volume_voxels``,
        ``rv_volume_voxels`` and ``myocardial_volume_voxels``.
    """
    values = _one_map(label)
    unit, factor = _volume_unit(spacing)
    sizes = [int((values == value).sum()) * factor for value in (left, right, muscle)]
    found = {f"lv_volume_{unit}": _rounded(sizes[0]), f"rv_volume_{unit}": _rounded(sizes[1])}
    if spacing is None:
        return {**found, f"myocardial_volume_{unit}": _rounded(sizes[2])}
    return {**found, "myocardial_mass_g": _rounded(sizes[2] * MYOCARDIAL_DENSITY)}


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
    mask = _one_map(label) > 0
    middle = mask.shape[-1] / 2
    columns = np.flatnonzero(mask.any(axis=0))
    sides = {"left": (columns < math.floor(middle)).any(), "right": (columns >= math.ceil(middle)).any()}
    found = [side for side, there in sides.items() if there]
    area = int(mask.sum())
    shown = {"affected_area_px": area} if spacing is None else {
        "affected_area_cm2": _rounded(area * math.prod(spacing) / 100)
    }  # fmt: skip
    side = "both" if len(found) == 2 else (found or ["none"])[0]
    return {**shown, "affected_share_of_picture": _rounded(area / mask.size), "affected_side_of_picture": side}


def ejection_fractions(cases: Sequence[Mapping[str, Any]]) -> dict[str, Measures]:
    """Ejection fractions of patients of whom both ends of the cycle are there: (EDV - ESV) / EDV.

    Args:
        cases: of each case ``patient`` (any name), ``phase`` ("ED" or "ES") and what `heart` measured; others, and a
            patient with two cases of one phase, are left out.

    Returns:
        By patient ``lv_ejection_fraction`` and ``rv_ejection_fraction``, in percent; None where ED is empty.
    """
    phases: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for case in cases:
        if case.get("patient") is not None and str(case.get("phase")).upper() in ("ED", "ES"):
            phases.setdefault(str(case["patient"]), {}).setdefault(str(case["phase"]).upper(), []).append(case)
    found = {}
    for patient, ends in phases.items():
        if len(ends.get("ED", ())) == len(ends.get("ES", ())) == 1:
            (start,), (end,) = ends["ED"], ends["ES"]
            found[patient] = {f"{side}_ejection_fraction": _fraction(start, end, side) for side in ("lv", "rv")}
    return found


def _fraction(start: Mapping[str, Any], end: Mapping[str, Any], side: str) -> float | None:
    for key in (f"{side}_volume_ml", f"{side}_volume_voxels"):
        if key in start and key in end:
            return _rounded(100 * (start[key] - end[key]) / start[key]) if start[key] else None
    return None


def _one_map(label: np.ndarray) -> np.ndarray:
    """Without the channel of a label map."""
    label = np.asarray(label)
    if label.ndim == 4 or (label.ndim == 3 and len(label) == 1):
        label = label[0]
    return label


def _volume_unit(spacing: Spacing) -> tuple[str, float]:
    return ("voxels", 1) if spacing is None else ("ml", math.prod(spacing) / 1000)


def _height(mask: np.ndarray) -> int:
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[-1] - rows[0] + 1) if rows.size else 0


def _rounded(value: float) -> float:
    """Four significant digits are more than a mask knows; integers stay."""
    return value if isinstance(value, int) else float(f"{value:.4g}")
