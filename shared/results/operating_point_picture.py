"""The picture of an operating point: figures at each threshold, and the calibration of the probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared.results.calibration import expected_calibration_error, reliability
from shared.results.figures import literal, save_figure
from shared.results.operating_point import OperatingPoint

INK, GREY = "#333333", "#999999"
BLUE, VERMILION = "#0072b2", "#d55e00"  # Okabe and Ito


def save_operating_point_picture(path: str | os.PathLike, regions: Sequence[OperatingPoint]) -> Path:
    """Write `operating_point_picture` as PNG and return the path."""
    return save_figure(path, operating_point_picture(regions))


def operating_point_picture(regions: Sequence[OperatingPoint]) -> Figure:
    """Draw one row per region: figures by threshold, recall against false lesions, and the reliability diagram."""
    figure = Figure(figsize=(11, 3.4 * len(regions)), dpi=150, layout="constrained")
    panels = figure.subplots(len(regions), 3, squeeze=False)
    for (by_threshold, by_false_lesions, diagram), region in zip(panels, regions):
        _draw_thresholds(by_threshold, region)
        _draw_false_lesions(by_false_lesions, region)
        _draw_reliability(diagram, region)
        for axes in (by_threshold, by_false_lesions, diagram):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
    return figure


def _draw_thresholds(axes: Axes, region: OperatingPoint) -> None:
    for name, estimate, colour in (
        ("Dice", region.curve.dice, BLUE),
        ("lesion recall", region.curve.recall, VERMILION),
    ):
        axes.plot(region.thresholds, estimate.value, color=colour, label=name)
        axes.fill_between(region.thresholds, estimate.low, estimate.high, color=colour, alpha=0.15, linewidth=0)
    if region.chosen is not None:
        axes.axvline(region.thresholds[region.chosen], color=INK, linestyle="--", linewidth=1, label="chosen")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(literal(region.name), fontsize=11, fontweight="bold", loc="left")
    axes.set_xlabel("threshold (shaded: 95 % interval)", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_false_lesions(axes: Axes, region: OperatingPoint) -> None:
    recall, false = region.curve.recall, region.curve.false_lesions
    axes.plot(false.value, recall.value, color=INK, marker="o", markersize=3, linewidth=1)
    if region.chosen is not None:
        at = region.chosen
        axes.errorbar(
            false.value[at],
            recall.value[at],
            [[recall.value[at] - recall.low[at]], [recall.high[at] - recall.value[at]]],
            [[false.value[at] - false.low[at]], [false.high[at] - false.value[at]]],
            color=VERMILION,
            marker="o",
            label="chosen, 95 % interval",
        )
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlim=(0, max(1.0, 1.05 * false.value.max())), ylim=(0, 1.02))
    axes.set_xlabel("false lesions per scan", fontsize=9)
    axes.set_ylabel("lesion recall", fontsize=9)


def _draw_reliability(axes: Axes, region: OperatingPoint) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for name, temperature, colour in (("before", 1.0, GREY), ("after", region.temperature, BLUE)):
        found = reliability(region.histogram, temperature)
        error = expected_calibration_error(region.histogram, temperature)
        label = f"{name}: temperature {temperature:.3g}, error {error:.2g}"
        axes.plot(found.predicted, found.observed, color=colour, marker="o", markersize=4, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("predicted share", fontsize=9)
    axes.set_ylabel("observed share", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
