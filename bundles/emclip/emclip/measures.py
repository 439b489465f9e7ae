"""Cup-to-disc ratio, volumes of the heart, ejection fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.results.measures import Measures, Spacing, one_map, rounded, volume_unit

MYOCARDIAL_DENSITY = 1.05  # g / mL (Grothues 2002)


def cup_to_disc(label: np.ndarray, spacing: Spacing = None, disc: int = 1, cup: int = 2) -> Measures:
    """Measure the vertical cup-to-disc ratio: the height of the cup over that of the disc that contains it.

    Args:
        label: (H, W) or (1, H, W), rows from top to bottom, integers.
        spacing: not used: a ratio has no unit.
        disc: label value of the disc's rim.
        cup: label value of the cup.

    Returns:
        ``vertical_cup_to_disc_ratio`` in [0, 1], None without a disc; ``disc_height_px``, ``cup_height_px``.

    """
    values = one_map(label)
    heights = [_height(np.isin(values, (disc, cup))), _height(values == cup)]
    ratio = rounded(heights[1] / heights[0]) if heights[0] else None
    return {"vertical_cup_to_disc_ratio": ratio, "disc_height_px": heights[0], "cup_height_px": heights[1]}


def heart(label: np.ndarray, spacing: Spacing, left: int = 1, muscle: int = 2, right: int = 3) -> Measures:
    """Measure the volumes of the ventricles and the mass of the myocardium.

    Args:
        label: (X, Y, Z) or (1, X, Y, Z), integers.
        spacing: distance between voxels in mm along X, Y, Z, including gaps between slices; None if unknown.
        left: label value of the left ventricle.
        muscle: label value of the myocardium.
        right: label value of the right ventricle.

    Returns:
        ``lv_volume_ml``, ``rv_volume_ml`` and ``myocardial_mass_g``; without spacing ``lv_volume_voxels``,
        ``rv_volume_voxels`` and ``myocardial_volume_voxels``.

    """
    values = one_map(label)
    unit, factor = volume_unit(spacing)
    sizes = [int((values == value).sum()) * factor for value in (left, right, muscle)]
    found = {f"lv_volume_{unit}": rounded(sizes[0]), f"rv_volume_{unit}": rounded(sizes[1])}
    if spacing is None:
        return {**found, f"myocardial_volume_{unit}": rounded(sizes[2])}
    return {**found, "myocardial_mass_g": rounded(sizes[2] * MYOCARDIAL_DENSITY)}


def ejection_fractions(cases: Sequence[Mapping[str, Any]]) -> dict[str, Measures]:
    """Compute ejection fractions, (EDV - ESV) / EDV, of patients with one case at each end of the cardiac cycle.

    Args:
        cases: for each case ``patient``, ``phase`` ("ED" or "ES") and what `heart` measured. Cases without these, and
            patients with two cases of one phase, are left out.

    Returns:
        For each patient ``lv_ejection_fraction`` and ``rv_ejection_fraction`` in percent; None where the ventricle is
        empty at ED.

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
            return rounded(100 * (start[key] - end[key]) / start[key]) if start[key] else None
    return None


def _height(mask: np.ndarray) -> int:
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[-1] - rows[0] + 1) if rows.size else 0
