"""Overlays: the slices with most foreground, plain above and with contours below, in radiological view."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from monai.data import MetaTensor
from monai.utils import convert_to_numpy

from shared.results.figures import literal, save_figure
from shared.results.metrics import dice, not_annotated
from shared.results.slices import field_of_view, pick_slices, radiological, view, window

TRUTH, PREDICTION, AGREEMENT = "#37e05a", "#ff5a1f", "#ffe14d"
CLASS_COLOURS = ("#37e05a", "#ffb000", "#3fb8ff", "#ff5ad0", "#b48cff", "#f2f244")
PAPER, INK = "black", "#e8e8e8"
LETTERS, LINE, LINES = 14, 0.16, 6  # of a caption: letters per inch, inches per line, maximum number of lines


def save_overlay(
    path: str | os.PathLike,
    image: Any,
    pred: Any,
    label: Any = None,
    channel: int | None = 0,
    title: str = "",
    names: Sequence[str] = ("lesion",),
    channel_wise: bool = False,
    caption: str = "",
) -> Path:
    """Write a PNG of a case: three slices, plain above and with contours below; of a picture, both side by side.

    A volume with an affine is turned to the radiological view: the patient's right is on the left, anterior is on top.
    Slices are axial, unless the volume has thick slices in another direction, which are then shown. The slices with
    most foreground in the label (in the prediction, if there is no label) are chosen, at least 6 mm apart; without
    foreground, the middle ones. Slice numbers begin with 1 at the lowest slice.

    A single class has its truth in green, its prediction in orange and a yellow tint where they agree. Several classes
    have one colour each, with solid lines for the truth and dashed lines for the prediction.

    Args:
        path: file to write; its folder is created if absent.
        image: (M, X, Y, Z), array or MetaTensor (its affine in RAS mm gives orientation and spacing), or a picture
            (M, H, W), rows from top to bottom.
        pred: label map (X, Y, Z) or (1, X, Y, Z); with `channel_wise` masks (C, X, Y, Z). For a picture, H and W take
            the place of X, Y and Z.
        label: the same for the truth, or None. A channel of -1 (not annotated) has neither contour nor Dice.
        channel: channel of `image` to show; None shows the first three channels in colour.
        title: name of the case; Dice is added if there is a label.
        names: class names, of the values 1, 2, ... or of the channels; one additional first channel is the background.
        channel_wise: `pred` and `label` are masks, one channel per class.
        caption: text under the title, e.g. the sentence that belongs to the image; at most six lines of it are shown.

    Returns:
        The path written.

    Raises:
        ValueError: the shapes of image, prediction and label differ.

    """
    affine = image.affine.cpu().double().numpy() if isinstance(image, MetaTensor) else np.eye(4)
    dims = image.ndim - 1
    picked = convert_to_numpy(image)
    shown = picked[:3] if channel is None else picked[channel : channel + 1]
    masks = _masks(pred, dims, names, channel_wise)
    truth = None if label is None else _masks(label, dims, names, channel_wise)
    for other in (masks, truth):
        if other is not None and other.shape[1:] != shown.shape[1:]:
            raise ValueError(f"a mask of shape {other.shape[1:]} for an image of shape {shown.shape[1:]}")

    heading = title if truth is None else _heading(title, _scores(masks, truth, label, channel_wise), names)
    spacing, sides = np.ones(dims), ""
    if dims == 3:
        axes_to, sides = view(affine)
        turned = [radiological(part, affine, axes_to) for part in (shown, masks, truth) if part is not None]
        shown, masks = (part.numpy() for part in turned[:2])
        truth = turned[2].numpy() if truth is not None else None
        spacing = np.asarray(turned[0].pixdim, float)
    else:
        shown, masks = _as_slice(shown), _as_slice(masks)
        truth = _as_slice(truth) if truth is not None else None

    black, white = window(shown)
    indices = pick_slices(masks if truth is None else truth, float(spacing[2]) if dims == 3 else 1.0)
    marked_voxels = masks if truth is None else np.concatenate([masks, truth])
    box = field_of_view(shown[..., indices], marked_voxels[..., indices], white)
    aspect = float(spacing[1] / spacing[0])
    nx, ny = shown[0, box[0], box[1], 0].shape
    figure, axes = _canvas(len(indices), dims, min(max(aspect * ny / nx, 0.5), 2), heading, caption)
    for column, index in enumerate(indices):
        part = shown[:, box[0], box[1], index]
        picture = np.clip((part - black) / (white - black), 0, 1) * (part != 0)  # air is black
        plain, marked = axes[0][column], axes[1][column]
        for axis in (plain, marked):
            axis.imshow(picture.transpose(2, 1, 0), cmap="gray", vmin=0, vmax=1, aspect=aspect)
            axis.autoscale(False)
        found = masks[:, box[0], box[1], index]
        true = None if truth is None else truth[:, box[0], box[1], index]
        _contours(marked, found, true, len(names) > 1)
        if dims == 3:
            _mark_sides(plain, sides)
            _mark_sides(marked, sides)
            plain.set_title(f"slice {index + 1} of {shown.shape[3]}", color=INK, fontsize=9, pad=3)
    _legend(figure, names, truth is not None)
    return save_figure(path, figure, facecolor=PAPER)


def _masks(array: Any, dims: int, names: Sequence[str], channel_wise: bool) -> np.ndarray:
    """Return bool masks (C, X, Y[, Z]), one per class."""
    array = convert_to_numpy(array)
    if channel_wise:
        return array[len(array) - len(names) :] > 0
    flat = array[0] if array.ndim > dims else array
    return np.stack([flat == value for value in range(1, len(names) + 1)])


def _as_slice(array: np.ndarray) -> np.ndarray:
    """Turn a picture (C, H, W) into the one slice (C, X, Y, 1) of a volume, Y downwards."""
    return array.swapaxes(1, 2)[..., None]


def _canvas(columns: int, dims: int, height: float, title: str, caption: str) -> tuple[Figure, list[list[Axes]]]:
    """Return a black figure and two rows of axes, for plain slices and for marked ones.

    Args:
        columns: number of slices.
        dims: 3 for volumes, 2 for pictures.
        height: height of a slice divided by its width.
        title: heading.
        caption: text under the heading.

    """
    rows, across = (2, columns) if dims == 3 else (1, 2)
    width, top, bottom = 3.4, 0.7, 0.45  # inches
    letters = int(LETTERS * width * max(across, 2))
    lines = textwrap.wrap(caption[: letters * (LINES + 1)], letters, max_lines=LINES, placeholder=" ...")
    top += LINE * len(lines)
    total = width * height * rows + top + bottom
    figure = Figure(figsize=(width * max(across, 2), total), dpi=110, facecolor=PAPER)
    grid = figure.subplots(rows, across, squeeze=False)
    figure.subplots_adjust(0.005, bottom / total, 0.995, 1 - top / total, wspace=0.02, hspace=0.02)
    figure.suptitle(
        literal(title),
        y=1 - 0.12 / total,
        va="top",
        color=INK,
        fontsize=12,
    )
    figure.text(0.5, 1 - 0.42 / total, literal("\n".join(lines)), va="top", ha="center", color=INK, fontsize=9)
    for axis in grid.ravel():
        axis.set_axis_off()
    return figure, ([list(grid[0]), list(grid[1])] if dims == 3 else [[grid[0, 0]], [grid[0, 1]]])


def _contours(axis: Axes, found: np.ndarray, true: np.ndarray | None, several: bool) -> None:
    """Draw one slice of the masks (C, X, Y): truth, then prediction, over a tint where both agree."""
    for index, mask in enumerate(found):
        colour = _colour(index)
        if true is not None:
            _draw(axis, mask & true[index], colour if several else AGREEMENT, tint=0.18 if several else 0.3)
            _draw(axis, true[index], colour if several else TRUTH)
        _draw(axis, mask, colour if several else PREDICTION, "dashed" if several and true is not None else "solid")


def _draw(axis: Axes, mask: np.ndarray, colour: str, style: str = "solid", tint: float = 0) -> None:
    if not mask.any():
        return
    padded = np.pad(mask, 1).T.astype(float)  # closes the contours of masks at the border
    x, y = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
    if tint:
        axis.contourf(x, y, padded, [0.5, 1.5], colors=colour, alpha=tint)
    else:
        axis.contour(x, y, padded, [0.5], colors=colour, linewidths=1.3, linestyles=style)


def _colour(index: int) -> str:
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def _mark_sides(axis: Axes, sides: str) -> None:
    for x, letter, align in ((0.03, sides[0], "left"), (0.97, sides[1], "right")):
        axis.text(x, 0.5, letter, color=INK, fontsize=11, ha=align, va="center", transform=axis.transAxes)


def _legend(figure: Figure, names: Sequence[str], with_truth: bool) -> None:
    several = len(names) > 1
    if several:
        entries: list[Line2D | Patch] = [
            Line2D([], [], color=_colour(i), label=literal(name)) for i, name in enumerate(names)
        ]
    else:
        entries = [Line2D([], [], color=PREDICTION, label=literal(f"{names[0]}, prediction"))]
    if with_truth and several:
        entries += [
            Line2D([], [], color=INK, label="truth"),
            Line2D([], [], color=INK, ls="dashed", label="prediction"),
        ]
        entries += [Patch(color=INK, alpha=0.3, label="agreement")]
    elif with_truth:
        entries += [Line2D([], [], color=TRUTH, label=literal(f"{names[0]}, truth"))]
        entries += [Patch(color=AGREEMENT, alpha=0.4, label="agreement")]
    figure.legend(handles=entries, loc="lower center", ncols=len(entries), frameon=False, labelcolor=INK, fontsize=10)


def _scores(masks: np.ndarray, truth: np.ndarray, label: Any, channel_wise: bool) -> list[str]:
    """Return Dice of every class as text, "-" for a class that was not annotated."""
    channels = convert_to_numpy(label)[-len(masks) :] if channel_wise else truth
    unknown = [not_annotated(channel) for channel in channels]
    return ["-" if blank else f"{dice(mask, true):.2f}" for mask, true, blank in zip(masks, truth, unknown)]


def _heading(title: str, scores: Sequence[str], names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{title}   Dice {scores[0]}".strip()
    return f"{title}   Dice " + ", ".join(f"{name} {score}" for name, score in zip(names, scores))
