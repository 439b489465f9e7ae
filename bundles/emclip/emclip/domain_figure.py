"""The figure of domain generalisation: how much Dice and HD95 worsen on domains that were not in training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emclip.domain_table import (
    FORMATS,
    MEAN,
    Rows,
    case_frame,
    domain_lines,
    domain_table,
    headings,
    mean_cell,
    mean_of_unseen,
)
from shared.results.figures import literal, save_figure

INK = "#333333"
COLOURS = {"source": "#0072b2", "unseen": "#d55e00", MEAN: INK}  # Okabe and Ito's blue and vermilion
DASHED = (0, (3, 2))
SPREAD, GOLDEN = 0.5, 0.618034  # the dots of a domain step by the golden ratio through half of its line's height
FAR_OUT = 3  # interquartile ranges outside the quartiles (Tukey, Exploratory Data Analysis, 1977)


def save_domain_figure(
    path: str | os.PathLike, rows: Rows, class_names: Sequence[str], source: str, unit: str = "mm"
) -> Path:
    """Write `domain_figure` as PNG to `path` and return the path."""
    return save_figure(path, domain_figure(rows, class_names, source, unit))


def domain_figure(rows: Rows, class_names: Sequence[str], source: str, unit: str = "mm") -> Figure:
    """Draw one column of panels per class, Dice above and HD95 below, one line per domain.

    A light dot is a case, a bar the mean of a domain, with its value on the right. A dashed line goes down from the
    source's mean and shows what the unseen domains lose. Cases far out (Tukey: 3 interquartile ranges outside the
    quartiles of their domain) do not stretch the axis: an arrow at its end stands for each.

    Args:
        rows: see `domain_table`.
        class_names: see `domain_table`.
        source: see `domain_table`.
        unit: unit of HD95, "mm" or "px".

    """
    frame, table = case_frame(rows, class_names), domain_table(rows, class_names, source)
    names = [literal(line.name) for line in domain_lines(table)]
    inches = 0.29 * len(names) + 0.65  # height of a panel
    width = 0.3 + 0.085 * max(map(len, names)) + 2.9 * len(class_names)
    figure = Figure(figsize=(max(width, 4.8), 2 * inches + 0.4), dpi=200, layout="constrained")
    panels = figure.subplots(2, len(class_names), squeeze=False, sharex="row", sharey=True)
    beyond = False
    for axes, metric, heading in zip(panels, FORMATS, headings(unit)):
        low, high = _limits(frame[metric], table[f"{metric}_mean"])
        axes[0].set_xlim(low, high)
        beyond |= bool(((frame[metric] < low) | (frame[metric] > high)).any(axis=None))
        for axis, name in zip(axes, class_names):
            _panel(axis, metric, frame[metric, name].dropna(), table[table["class"] == name])
            axis.set_xlabel(heading, fontsize=9, labelpad=2)
        axes[0].set_yticks(range(len(names)), names, fontsize=9.5)
        for label, role in zip(axes[0].get_yticklabels(), [*table.drop_duplicates("domain")["role"], MEAN]):
            label.set_color(COLOURS[role])
    for axis, name in zip(panels[0], class_names):
        axis.set_title(literal(name), fontsize=11, fontweight="bold", loc="left")
    panels[0, 0].set_ylim(len(names) - 0.5, -0.5)
    _legend(figure, beyond, "source" in set(table["role"]))
    return figure


def _limits(cases: pd.DataFrame, means: pd.Series) -> tuple[float, float]:
    """Return the ends of an axis that holds all means and all cases except those far out of their domain."""
    quartiles = [cases.groupby(level=0).transform("quantile", q) for q in (0.25, 0.75)]
    reach = FAR_OUT * (quartiles[1] - quartiles[0])
    usual = cases.where((cases >= quartiles[0] - reach) & (cases <= quartiles[1] + reach))
    shown = np.concatenate([usual.to_numpy().ravel(), means])
    shown = shown[np.isfinite(shown)]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
    margin = 0.06 * max(high - low, 0.1)
    return float(low - margin), float(high + margin)


def _panel(axis: Axes, metric: str, cases: pd.Series, table: pd.DataFrame) -> None:
    """Draw a metric of one class: its cases, indexed by domain, and the rows of its table from top to bottom."""
    left, right = axis.get_xlim()
    ends = left + 0.02 * (right - left), right - 0.02 * (right - left)
    numbers: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center_baseline", "fontsize": 8.5}
    for y, (_, line) in enumerate(table.iterrows()):
        colour, mean = COLOURS[line["role"]], line[f"{metric}_mean"]
        values = cases[cases.index == line["domain"]].to_numpy()
        heights = y + SPREAD * ((np.arange(len(values)) * GOLDEN + 0.5) % 1 - 0.5)
        for marker, part in (("o", (values >= left) & (values <= right)), ("<", values < left), (">", values > right)):
            alpha = np.clip(10 / max(len(values), 1), 0.1, 0.35) if marker == "o" else 0.7
            axis.plot(np.clip(values[part], *ends), heights[part], marker, ms=4.5, mew=0, color=colour, alpha=alpha)
        axis.plot(mean, y, "|", ms=15, mew=3.4, color="white")
        axis.plot(mean, y, "|", ms=14, mew=2.4, color=colour)
        axis.text(1.04, y, mean_cell(metric, line), color=colour, **numbers)
        if line["role"] == "source":
            axis.plot([mean, mean], [y, len(table) + 1], color=colour, ls=DASHED, lw=0.9, zorder=0)
    for _, line in mean_of_unseen(table).iterrows():
        axis.axhline(len(table) - 0.5, color=INK, lw=0.6)
        axis.plot(line[f"{metric}_mean"], len(table), "D", ms=5.5, mew=0, color=INK)
        axis.text(1.04, len(table), mean_cell(metric, line), color=INK, fontweight="bold", **numbers)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.grid(axis="x", color="#e4e4e4", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _legend(figure: Figure, beyond: bool, source: bool) -> None:
    dot: dict[str, Any] = {"color": INK, "ls": "", "ms": 4.5, "mew": 0}
    entries = [
        (True, Line2D([], [], marker="o", label="case", alpha=0.4, **dot)),
        (beyond, Line2D([], [], marker=">", label="case beyond the axis", alpha=0.7, **dot)),
        (True, Line2D([], [], color=INK, marker="|", ls="", ms=11, mew=2.4, label="mean")),
        (source, Line2D([], [], color=COLOURS["source"], ls=DASHED, lw=0.9, label="mean of the source")),
    ]
    handles = [line for wanted, line in entries if wanted]
    style: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "handletextpad": 0.4, "columnspacing": 1.2}
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **style)
