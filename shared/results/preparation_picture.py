"""One picture that shows whether a preparation can be trusted: brain contour, registered edges, result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from nibabel.affines import voxel_sizes
from scipy import ndimage
from skimage.feature import canny

from shared.results.figures import literal, save_figure
from shared.results.slices import radiological

BRAIN, EDGES, RESULT = "#3fb8ff", "#ffb000", "#ff5a1f"
PAPER, INK = "black", "#e8e8e8"
HEIGHTS = (0.3, 0.5, 0.7)  # of the axial slices, between the lowest and the highest slice of the brain
WIDTH = 2.6  # inches per slice
EDGE_MM = 1.5  # standard deviation of the blur before edges are sought


def save_preparation_picture(
    path: str | os.PathLike,
    reference: np.ndarray,
    registered: Mapping[str, np.ndarray],
    brain: np.ndarray,
    result: np.ndarray,
    affine: np.ndarray,
    title: str = "",
    warnings: Sequence[str] = (),
) -> Path:
    """Write a PNG: three axial slices, a coronal and a sagittal one of the reference, in one row per question.

    The first row asks whether the brain was found and where the result lies: contours of both on the reference. Each
    further row asks whether a sequence lies right: its edges on the reference.

    Args:
        path: file to write.
        reference: (X, Y, Z), as the scanner gave it.
        registered: by name, (X, Y, Z) on the same grid.
        brain: bool (X, Y, Z).
        result: bool (X, Y, Z), what the network found.
        affine: 4 x 4 of the grid (RAS, mm).
        title: name of the case.
        warnings: one line each, written under the title.
    """
    names = list(registered)
    parts = [reference, brain, result, *(registered[name] for name in names)]
    stacked = np.stack([part.astype(np.float32) for part in parts])
    turned = radiological(stacked, affine, "LPS")
    spacing = voxel_sizes(np.asarray(turned.affine, float))
    reference, brain, result, *others = turned.numpy()
    cuts = _cuts(brain > 0)
    white = float(np.percentile(reference[reference > 0], 99)) if (reference > 0).any() else 1.0

    rows = 1 + len(names)
    shape, top, bottom = reference.shape, 0.45 + 0.18 * len(warnings), 0.3  # inches
    height = WIDTH * max(shape[1] * spacing[1] / (shape[0] * spacing[0]), 0.6)
    total = rows * height + top + bottom
    figure = Figure(figsize=(WIDTH * len(cuts), total), dpi=90, facecolor=PAPER)
    grid = figure.subplots(rows, len(cuts), squeeze=False)
    figure.subplots_adjust(0.005, bottom / total, 0.995, 1 - top / total, wspace=0.02, hspace=0.02)
    figure.suptitle(literal(title), y=1 - 0.1 / total, va="top", color=INK, fontsize=11)
    figure.text(0.5, 1 - 0.36 / total, literal("\n".join(warnings)), va="top", ha="center", color=EDGES, fontsize=9)
    for row, axes in enumerate(grid):
        for axis, (plane, index) in zip(axes, cuts):
            _show(axis, reference, plane, index, spacing, white)
            if row == 0:
                _contour(axis, brain, plane, index, BRAIN)
                _contour(axis, result, plane, index, RESULT)
            else:
                _draw_edges(axis, others[row - 1], plane, index, spacing)
        label = "brain and result" if row == 0 else f"edges of {names[row - 1]}"
        axes[0].text(0.02, 0.98, literal(label), color=INK, fontsize=9, va="top", transform=axes[0].transAxes)
    entries = [Line2D([], [], color=BRAIN, label="brain"), Line2D([], [], color=RESULT, label="result")]
    if names:
        entries.append(Line2D([], [], color=EDGES, label="edges of the registered sequence"))
    figure.legend(handles=entries, loc="lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9)
    return save_figure(path, figure, facecolor=PAPER)


def _cuts(brain: np.ndarray) -> list[tuple[int, int]]:
    """Return (axis, index) of the slices: three axial ones, a coronal and a sagittal one through the brain."""
    spans = []
    for axis in range(3):
        found = np.flatnonzero(brain.any(tuple({0, 1, 2} - {axis})))
        spans.append((found[0], found[-1]) if found.size else (0, brain.shape[axis] - 1))
    low, high = spans[2]
    axial = [(2, int(low + part * (high - low))) for part in HEIGHTS]
    # beside the middle, where the sagittal slice would show the gap between the hemispheres
    return [*axial, (1, sum(spans[1]) // 2), (0, int(spans[0][0] + 0.42 * (spans[0][1] - spans[0][0])))]


def _cut(volume: np.ndarray, plane: int, index: int) -> np.ndarray:
    """Return a slice with its rows from top to bottom."""
    part = volume.take(index, axis=plane)
    return part.T if plane == 2 else part.T[::-1]


def _show(axis: Axes, volume: np.ndarray, plane: int, index: int, spacing: np.ndarray, white: float) -> None:
    across, down = np.delete(spacing, plane)
    axis.imshow(_cut(volume, plane, index), cmap="gray", vmin=0, vmax=white, aspect=float(down / across))
    axis.set_axis_off()
    axis.autoscale(False)


def _contour(axis: Axes, mask: np.ndarray, plane: int, index: int, colour: str) -> None:
    part = _cut(mask, plane, index)
    if part.any():
        axis.contour(part, [0.5], colors=colour, linewidths=1.0)


def _draw_edges(axis: Axes, volume: np.ndarray, plane: int, index: int, spacing: np.ndarray) -> None:
    part = _cut(volume, plane, index)
    across, down = np.delete(spacing, plane)
    blurred = ndimage.gaussian_filter(part, (EDGE_MM / down, EDGE_MM / across))
    edges = canny(blurred, sigma=0.5, mask=part > 0, low_threshold=0.8, high_threshold=0.9, use_quantiles=True)
    rows, columns = np.nonzero(edges)
    axis.scatter(columns, rows, s=1.5, c=EDGES, marker="s", linewidths=0)
