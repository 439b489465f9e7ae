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

BRAIN, EDGES, RESULT = "#3fb8ff", "#ffb000", "#ff4060"
PAPER, INK = "black", "#e8e8e8"
HEIGHTS = (0.3, 0.5, 0.7)  # of the axial slices, between the lowest and the highest slice of the brain
WIDTH, DPI = 13.0, 90  # inches; pixels per inch
PIXEL = 1.0  # mm, of the slices as shown
HEAD = 0.15  # of the brightest tissue: what is brighter is head
MARGIN = 5.0  # mm round the head
EDGE_MM = 2.0  # standard deviation of the blur before edges are sought
RIM = 4  # pixels: at the border of a sequence no edges are sought: the brain mask has cut it there, wherever it lies
STEEP = 0.08, 0.12  # share of the contrast per mm: an edge is steeper than the first, at its core than the second
SOBEL = 8  # of canny, which multiplies gradients by it


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
    white = float(np.percentile(reference[reference > 0], 99)) if (reference > 0).any() else 1.0
    box = _head_box(reference > HEAD * white, brain > 0, spacing)
    reference, brain, result = reference[box], brain[box], result[box]
    cuts = _cuts(brain > 0)
    shown = [_cut(reference, cut, spacing) for cut in cuts]
    rows, top, bottom = 1 + len(names), 0.45 + 0.18 * len(warnings), 0.3  # inches
    widths = [part.shape[1] for part in shown]
    height = WIDTH * max(part.shape[0] for part in shown) / sum(widths)
    total = rows * height + top + bottom
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(rows, len(cuts), squeeze=False, width_ratios=widths)
    figure.subplots_adjust(0.005, bottom / total, 0.995, 1 - top / total, wspace=0.02, hspace=0.02)
    figure.suptitle(literal(title), y=1 - 0.1 / total, va="top", color=INK, fontsize=11)
    figure.text(0.5, 1 - 0.36 / total, literal("\n".join(warnings)), va="top", ha="center", color=EDGES, fontsize=9)
    for row, axes in enumerate(grid):
        for axis, cut, image in zip(axes, cuts, shown):
            axis.imshow(image, cmap="gray", vmin=0, vmax=white)
            axis.set_axis_off()
            axis.autoscale(False)
            if row == 0:
                _draw_contour(axis, _cut(brain, cut, spacing), BRAIN)
                _draw_contour(axis, _cut(result, cut, spacing), RESULT)
            else:
                _draw_edges(axis, others[row - 1][box], cut, spacing)
        label = "brain and result" if row == 0 else f"edges of {names[row - 1]}"
        figure.text(0.008, 1 - (top + row * height) / total, literal(label), va="top", color=INK, fontsize=9)
    entries = [Line2D([], [], color=BRAIN, label="brain"), Line2D([], [], color=RESULT, label="result")]
    if names:
        entries.append(Line2D([], [], color=EDGES, label="edges of the registered sequence"))
    figure.legend(handles=entries, loc="lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9)
    return save_figure(path, figure, facecolor=PAPER)


def _head_box(head: np.ndarray, brain: np.ndarray, spacing: np.ndarray) -> tuple[slice, ...]:
    """Return the box round head and brain; single bright voxels in the background do not count."""
    head = ndimage.binary_opening(head) | brain
    found = ndimage.find_objects(head.astype(np.uint8))
    if not found:
        return (slice(None),) * head.ndim
    margins = np.ceil(MARGIN / spacing).astype(int)
    return tuple(slice(max(span.start - more, 0), span.stop + more) for span, more in zip(found[0], margins))


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


def _cut(volume: np.ndarray, cut: tuple[int, int], spacing: np.ndarray) -> np.ndarray:
    """Return a slice with pixels of 1 mm, its rows from top to bottom."""
    plane, index = cut
    return _fine(volume.take(index, axis=plane), plane, spacing)


def _fine(part: np.ndarray, plane: int, spacing: np.ndarray) -> np.ndarray:
    part = ndimage.zoom(part, np.delete(spacing, plane) / PIXEL, order=1, mode="nearest", grid_mode=True)
    return part.T if plane == 2 else part.T[::-1]


def _draw_contour(axis: Axes, mask: np.ndarray, colour: str) -> None:
    if (mask > 0.5).any():
        axis.contour(mask, [0.5], colors=colour, linewidths=1.0)


def _draw_edges(axis: Axes, volume: np.ndarray, cut: tuple[int, int], spacing: np.ndarray) -> None:
    plane, index = cut
    part = volume.take(index, axis=plane)
    inside = ndimage.binary_fill_holes(part > 0)
    if not inside.any():
        return
    # beyond the border the nearest voxel goes on, so that the border itself is no edge
    sampling = np.delete(spacing, plane)
    nearest = ndimage.distance_transform_edt(~inside, sampling, return_distances=False, return_indices=True)
    blurred = ndimage.gaussian_filter(_fine(part[tuple(nearest)], plane, spacing), EDGE_MM / PIXEL)
    core = ndimage.binary_erosion(_fine(inside.astype(np.float32), plane, spacing) > 0.5, iterations=RIM)
    contrast = float(np.ptp(np.percentile(blurred[core], (5, 95)))) if core.any() else 0.0
    if contrast > 0:
        low, high = (SOBEL * steep * PIXEL for steep in STEEP)
        edges = canny(blurred / contrast, sigma=0.5, mask=core, low_threshold=low, high_threshold=high)
        rows, columns = np.nonzero(edges)
        axis.scatter(columns, rows, s=1.5, c=EDGES, marker="s", linewidths=0)
