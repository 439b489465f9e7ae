"""Volumes of a beating heart: end diastole, end systole, ejection fraction, stroke volume, mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emclip.measures import MYOCARDIAL_DENSITY
from shared.results.measures import Measures, Spacing, rounded

# The labels of ACDC and M&Ms, on which the weights were trained, count papillary muscles and trabeculae as cavity.
PAPILLARY = "in the cavity"
MASS_CHANGE = 0.25  # of the muscle's mass between end diastole and end systole; muscle neither grows nor shrinks
LEAP = 0.15  # of the curve's height, by which a phase may leave the middle of its neighbours beyond a quick heart
SYSTOLE = 3 / 8  # of the heartbeat
JUMP_MM = 4.0  # of the heart between two phases; from end diastole to end systole ACDC's hearts move by 7 mm at most
LEAST_VOXELS = 50  # of the heart in a slice, to find its centre


class Curves(NamedTuple):
    """The volumes of a cine, one number per phase.

    Args:
        left: left ventricle.
        right: right ventricle.
        muscle: myocardium.
        unit: "ml" or "voxels".
        step_s: time between phases in seconds; None if unknown.
    """

    left: list[float]
    right: list[float]
    muscle: list[float]
    unit: str
    step_s: float | None = None

    @property
    def end_diastole(self) -> int:
        """The phase of the largest left ventricle, from 0."""
        return int(np.argmax(self.left))

    @property
    def end_systole(self) -> int:
        """The phase of the smallest left ventricle, from 0."""
        return int(np.argmin(self.left))


def curves_of(phases: Sequence[Measures], step_s: float | None = None) -> Curves | None:
    """Collect what `emclip.measures.heart` found in each phase.

    Args:
        phases: its results, in order.
        step_s: time between phases in seconds; None if unknown.

    Returns:
        The curves; None where something else was measured.
    """
    for unit in ("ml", "voxels"):
        muscle, factor = (
            ("myocardial_mass_g", 1 / MYOCARDIAL_DENSITY) if unit == "ml" else ("myocardial_volume_voxels", 1)
        )
        keys = (f"lv_volume_{unit}", f"rv_volume_{unit}", muscle)
        if all(key in phase for phase in phases for key in keys):
            left, right, wall = ([phase[key] for phase in phases] for key in keys)
            return Curves(left, right, [rounded(value * factor) for value in wall], unit, step_s)
    return None


def measure_cine(curves: Curves) -> Measures:
    """Measure a heartbeat.

    Args:
        curves: volumes per phase.

    Returns:
        Phases are numbered from 1. End diastole and end systole are the phases of the largest and of the smallest left
        ventricle; both ventricles are measured there. ``lv_volumes_ml``, ``rv_volumes_ml`` and
        ``myocardial_volumes_ml`` list every phase, ``myocardial_mass_g`` is that of end diastole. Ejection fractions
        are in percent, None where the ventricle is empty. ``papillary_muscles`` says which side they are counted on.
        Without spacing, volumes are in voxels, and there is no mass.
    """
    start, end, unit = curves.end_diastole, curves.end_systole, curves.unit
    found: dict[str, Any] = {
        "phases": len(curves.left),
        "end_diastolic_phase": start + 1,
        "end_systolic_phase": end + 1,
    }
    for side, volumes in (("lv", curves.left), ("rv", curves.right)):
        stroke = volumes[start] - volumes[end]
        found[f"{side}_end_diastolic_volume_{unit}"] = volumes[start]
        found[f"{side}_end_systolic_volume_{unit}"] = volumes[end]
        found[f"{side}_stroke_volume_{unit}"] = rounded(stroke)
        found[f"{side}_ejection_fraction"] = rounded(100 * stroke / volumes[start]) if volumes[start] else None
    if unit == "ml":
        found["myocardial_mass_g"] = rounded(curves.muscle[start] * MYOCARDIAL_DENSITY)
    found["papillary_muscles"] = PAPILLARY
    named = {"lv": curves.left, "rv": curves.right, "myocardial": curves.muscle}
    return {**found, **{f"{name}_volumes_{unit}": list(volumes) for name, volumes in named.items()}}


def doubts(curves: Curves) -> list[str]:
    """Return what speaks against the curves, one sentence each."""
    left, found = np.array(curves.left, float), []
    empty = (np.flatnonzero(left == 0) + 1).tolist()
    if empty:
        found.append(f"No left ventricle in phase {', '.join(map(str, empty))}: do not trust the ejection fraction.")
    before, after = curves.muscle[curves.end_diastole], curves.muscle[curves.end_systole]
    if abs(before - after) > MASS_CHANGE * max(before, after):
        found.append(
            f"The myocardium changes from {before:g} to {after:g} {'mL' if curves.unit == 'ml' else 'voxels'} between "
            "end diastole and end systole, though muscle keeps its volume: look at the masks."
        )
    bend = 1 - np.cos(np.pi / max(1.0, SYSTOLE * len(left)))  # twice that of a cosine with this many phases
    away = np.abs(left[1:-1] - (left[:-2] + left[2:]) / 2)
    worst = away >= np.maximum(np.r_[away[1:], 0], np.r_[0, away[:-1]])  # the neighbours of such a phase are away, too
    for phase in np.flatnonzero(worst & (away > (LEAP + bend) * np.ptp(left))) + 2:
        found.append(f"Phase {phase} leaves the left ventricle's curve: look at its mask.")
    return found


def jumps(labels: np.ndarray, spacing: Spacing) -> list[str]:
    """Return between which phases the heart as a whole moves, one sentence each.

    Args:
        labels: (X, Y, Z, T), 0 is background.
        spacing: distance between voxels in mm; None if unknown, which finds nothing.
    """
    if spacing is None:
        return []
    found, centres = [], _centres(labels > 0) * np.array(spacing[:2])
    for phase, steps in enumerate(np.diff(centres, axis=1).swapaxes(0, 1), 1):  # (slices, 2)
        steps = steps[np.isfinite(steps).all(axis=1)]
        away = float(np.hypot(*np.median(steps, axis=0))) if len(steps) else 0.0
        if away > JUMP_MM:
            found.append(
                f"The heart moves by {away:.0f} mm between phases {phase} and {phase + 1} (two breath-holds?): "
                "do not trust the curve."
            )
    return found


def _centres(heart: np.ndarray) -> np.ndarray:
    """Return the centre of the heart in each slice and phase (Z, T, 2), in voxels; NaN where there is little of it."""
    size = heart.sum(axis=(0, 1), dtype=float)
    places = [np.arange(length, dtype=float) for length in heart.shape[:2]]
    sums = np.stack([np.einsum("xyzt,x->zt", heart, places[0]), np.einsum("xyzt,y->zt", heart, places[1])], axis=-1)
    return sums / np.where(size < LEAST_VOXELS, np.nan, size)[..., None]
