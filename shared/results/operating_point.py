"""The operating point of a region: the temperature that calibrates it, and the threshold that serves an aim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from shared.core.errors import InputError
from shared.results.calibration import expected_calibration_error, fit_temperature
from shared.results.operating_curve import Curve, RegionCounts, best_threshold, operating_curve
from shared.results.tables import aligned

# Thresholds to try, on the probabilities before temperature scaling.
GRID = np.array([0.02, *np.linspace(0.05, 0.95, 19).round(2), 0.98])
USUAL = 0.5  # the default threshold; temperature scaling does not move it
HEADING = ("threshold", "Dice", "lesion recall", "false lesions per scan")
DIGITS = (3, 2, 2)  # decimals of the three figures


@dataclass
class OperatingPoint:
    """Temperature and threshold of a region, with the figures at all thresholds.

    name: of the region.
    temperature: the fitted one.
    thresholds: (T,), on the probabilities after temperature scaling.
    curve: figures at these thresholds.
    chosen: index of the threshold that serves the aim best; None if none serves it.
    histogram: (2, BINS), all voxels by their logit before temperature scaling.
    """

    name: str
    temperature: float
    thresholds: np.ndarray
    curve: Curve
    chosen: int | None
    histogram: np.ndarray

    @property
    def threshold(self) -> float:
        """The chosen threshold, or the usual one."""
        return USUAL if self.chosen is None else float(self.thresholds[self.chosen])


def fit_operating_point(
    name: str, cases: Sequence[RegionCounts], aim: str, false_lesions: float = 1.0, draws: int = 2000
) -> OperatingPoint:
    """Fit the temperature of a region, and choose its threshold.

    Args:
        name: of the region.
        cases: its counts in every annotated case, at the thresholds `GRID`, before temperature scaling.
        aim, false_lesions: see `shared.results.operating_curve.best_threshold`.
        draws: of the bootstrap.

    Raises:
        InputError: no case has the region, or it fills every case.
    """
    histogram = np.sum([case.histogram for case in cases], axis=0) if cases else np.zeros((2, 1))
    if not histogram.any(1).all():
        state = "is marked in none" if not histogram[1].any() else "fills every voxel"
        raise InputError(f"{name} {state} of the {len(cases)} labelled cases: give other cases")
    temperature = float(f"{fit_temperature(histogram):.4g}")
    thresholds = np.array([_rounded(value) for value in expit(logit(GRID) / temperature)])
    curve = operating_curve(cases, draws)
    chosen = best_threshold(curve, GRID, aim, false_lesions)
    return OperatingPoint(name, temperature, thresholds, curve, chosen, histogram)


def point_lines(point: OperatingPoint) -> list[str]:
    """Return a region's table for the terminal: every other threshold, the usual one and the chosen one."""
    shown = sorted({*range(0, len(GRID), 2), *([] if point.chosen is None else [point.chosen])})
    marks = {int(np.argmin(np.abs(GRID - USUAL))): "default"}
    marks |= {} if point.chosen is None else {point.chosen: "chosen"}
    before, after = (expected_calibration_error(point.histogram, value) for value in (1.0, point.temperature))
    title = f"{point.name}  temperature {point.temperature:g}, expected calibration error {before:.2g} -> {after:.2g}"
    names = [f"{point.thresholds[index]:g}" for index in shown]
    return [title, *curve_lines(names, point.curve, shown, [marks.get(index, "") for index in shown])]


def curve_lines(names: Sequence[str], curve: Curve, shown: Iterable[int], marks: Sequence[str]) -> list[str]:
    """Return figures with their intervals as an aligned table with a heading; `marks` end its lines."""
    rows = [
        [name, *(_cell(estimate, index, digits) for estimate, digits in zip(curve, DIGITS))]
        for name, index in zip(names, shown)
    ]
    heading, *lines = aligned([HEADING, *rows])
    return [f"  {heading}", *(f"  {line}  {mark}".rstrip() for line, mark in zip(lines, marks))]


def curve_records(thresholds: Iterable[float], curve: Curve) -> list[dict[str, Any]]:
    """Return one record per threshold for a JSON file: each figure with ``_low`` and ``_high``, None for NaN."""
    records = []
    for index, threshold in enumerate(thresholds):
        record: dict[str, Any] = {"threshold": float(threshold)}
        for name, estimate in curve._asdict().items():
            for end, values in zip(("", "_low", "_high"), estimate):
                record[name + end] = None if np.isnan(values[index]) else round(float(values[index]), 4)
        records.append(record)
    return records


def _cell(estimate: Any, index: int, digits: int) -> str:
    value, low, high = (float(part[index]) for part in estimate)
    return "-" if np.isnan(value) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _rounded(share: float) -> float:
    """Round so that the distance to the nearer of 0 and 1 keeps four digits: the result is never 0 or 1."""
    return float(f"{share:.4g}") if share <= 0.5 else round(1 - float(f"{1 - share:.4g}"), 12)
