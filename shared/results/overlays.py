"""Pictures of a result: the slices that hold most lesion, plain above, with contours below, in radiological view."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from monai.data import MetaTensor
from monai.transforms import Orientation
from monai.utils import convert_to_numpy

from shared.results.metrics import dice, not_annotated

SLICES = 3
APART_MM = 6.0  # least distance of the slices shown, so that they are not three times the same (our choice)
TRUTH, PREDICTION, AGREEMENT = "#37e05a", "#ff5a1f", "#ffe14d"
CLASS_COLOURS = ("#37e05a", "#ffb000", "#3fb8ff", "#ff5ad0", "#b48cff", "#f2f244")
PAPER, INK = "black", "#e8e8e8"
LETTERS, LINE = 14, 0.16  # of a caption: letters an inch, inches a line
THICK = 1.5  # a slice, in widths of a pixel: such slices are shown as they are (our choice)
OPPOSITE = {"S": "SI", "A": "AP", "L": "LR"}
VIEWS = {"S": ("LPS", "RL"), "A": ("LIA", "RL"), "L": ("PIL", "AP")}  # axial, coronal, sagittal slices


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
    """Write a PNG of a case: three slices, plain above and with contours below (a picture: side by side).

    A volume with an affine is turned to the radiological view: the patient's right on the left of the picture, anterior
    on top. Slices are axial, unless the volume has thick ones in another direction: then those are shown. Chosen are
    those with most foreground of the label, or of the prediction without one, at least 6 mm apart; the middle ones if
    there is none. Grey values: 1st to 99th percentile of what is not background.
    One class: truth green, prediction orange, a yellow tint where they agree. Several: a colour a class, truth solid,
    prediction dashed. Slices are counted from the lowest.

    Args:
        path: file to write; folders are made.
        image: (M, X, Y, Z), array or MetaTensor (its affine in RAS mm gives orientation and spacing), or a picture
            (M, H, W), rows from top to bottom.
        pred: label map (X, Y, Z) or (1, X, Y, Z); with `channel_wise` masks (C, X, Y, Z); of a picture H, W instead.
        label: the same for the truth, or None. A channel of -1 (nobody annotated it) has neither contour nor Dice.
        channel: channel of `image` to show; None shows three channels as a colour picture.
        title: usually the case; Dice is added where there is a label.
        names: class names, of the values 1, 2, ... or of the channels (a channel more than names is the background).
        channel_wise: `pred` and `label` are masks, one channel a class.
        caption: text under the title, e.g. the sentence that the image came with.

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
        axes_to, sides = _view(affine)
        turned = [_radiological(part, affine, axes_to) for part in (shown, masks, truth) if part is not None]
        shown, masks = (part.numpy() for part in turned[:2])
        truth = turned[2].numpy() if truth is not None else None
        spacing = np.asarray(turned[0].pixdim, float)
    else:
        shown, masks = _as_slice(shown), _as_slice(masks)
        truth = _as_slice(truth) if truth is not None else None

    window = _window(shown)
    indices = _pick_slices(masks if truth is None else truth, float(spacing[2]) if dims == 3 else 1.0)
    marked_voxels = masks if truth is None else np.concatenate([masks, truth])
    view = _field_of_view(shown[..., indices], marked_voxels[..., indices], window[1])
    aspect = float(spacing[1] / spacing[0])
    nx, ny = shown[0, view[0], view[1], 0].shape
    figure, axes = _canvas(len(indices), dims, min(max(aspect * ny / nx, 0.5), 2), heading, caption)
    for column, index in enumerate(indices):
        part = shown[:, view[0], view[1], index]
        picture = np.clip((part - window[0]) / (window[1] - window[0]), 0, 1) * (part != 0)  # air is black
        plain, marked = axes[0][column], axes[1][column]
        for axis in (plain, marked):
            axis.imshow(picture.transpose(2, 1, 0), cmap="gray", vmin=0, vmax=1, aspect=aspect)
            axis.autoscale(False)
        found = masks[:, view[0], view[1], index]
        true = None if truth is None else truth[:, view[0], view[1], index]
        _contours(marked, found, true, len(names) > 1)
        if dims == 3:
            _mark_sides(plain, sides)
            _mark_sides(marked, sides)
            plain.set_title(f"slice {index + 1} of {shown.shape[3]}", color=INK, fontsize=9, pad=3)
    _legend(figure, names, truth is not None)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, facecolor=PAPER, format="png")
    return target


def _masks(array: Any, dims: int, names: Sequence[str], channel_wise: bool) -> np.ndarray:
    """Return bool masks (C, X, Y[, Z]), one a class."""
    array = convert_to_numpy(array)
    if channel_wise:
        return array[len(array) - len(names) :] > 0
    flat = array[0] if array.ndim > dims else array
    return np.stack([flat == value for value in range(1, len(names) + 1)])


def _as_slice(array: np.ndarray) -> np.ndarray:
    """Turn a picture (C, H, W) into the one slice (C, X, Y, 1) of a volume, Y downwards."""
    return array.swapaxes(1, 2)[..., None]


def _view(affine: np.ndarray) -> tuple[str, str]:
    """Return where the axes shall run (across, down, from slice to slice) and what lies left and right in the picture.

    Thick slices are shown as they are; else axial ones.
    """
    sizes = nib.affines.voxel_sizes(affine)
    thick = int(sizes.argmax())
    if sizes[thick] < THICK * np.sort(sizes)[1]:
        return VIEWS["S"]
    direction = nib.aff2axcodes(affine)[thick]
    return next(view for axis, view in VIEWS.items() if direction in OPPOSITE[axis])


def _radiological(array: np.ndarray, affine: np.ndarray, axcodes: str) -> MetaTensor:
    """Turn (C, X, Y, Z) so that its axes run as `axcodes` says."""
    turned = Orientation(axcodes=axcodes, labels=None)(
        MetaTensor(torch.from_numpy(array.copy()), torch.from_numpy(affine))
    )
    return cast(MetaTensor, turned)


def _window(shown: np.ndarray) -> tuple[float, float]:
    """Return the grey values shown as black and white."""
    if len(shown) > 1:
        return 0.0, 255.0 if shown.max() > 1 else 1.0
    inside = shown[shown != shown[0, 0, 0, 0]]  # the corner is background, which is not exactly 0 in scaled files
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def _field_of_view(shown: np.ndarray, masks: np.ndarray, white: float) -> tuple[slice, slice]:
    """Return the in-plane box that holds the head and every mask, with a small margin."""
    background = shown[0, 0, 0, 0]
    head = np.abs(shown - background) > 0.05 * abs(white - background)
    plane = head.any(axis=(0, 3)) | masks.any(axis=(0, 3))
    if not plane.any():
        return slice(None), slice(None)
    margin = max(plane.shape) // 25 + 1
    spans = [np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0)]
    first, second = (slice(max(span[0] - margin, 0), span[-1] + 1 + margin) for span in spans)
    return first, second


def _pick_slices(masks: np.ndarray, thickness: float) -> list[int]:
    """Return slice indices, inferior to superior."""
    depth = masks.shape[3]
    area = masks.any(axis=0).sum(axis=(0, 1)).astype(float)
    middle = (depth - 1) / 2
    area -= np.abs(np.arange(depth) - middle) / (depth + 1)  # equal slices, empty ones above all: the middle first
    apart = max(1, min(round(APART_MM / max(thickness, 1e-3)), depth // SLICES))
    chosen: list[int] = []
    for index in np.argsort(-area):
        if len(chosen) < SLICES and all(abs(index - other) >= apart for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def _canvas(columns: int, dims: int, height: float, title: str, caption: str) -> tuple[Figure, list[list[Axes]]]:
    """Return a black figure and two rows of axes: plain pictures and marked ones (`height`: of a picture, widths)."""
    rows, across = (2, columns) if dims == 3 else (1, 2)
    width, top, bottom = 3.4, 0.7, 0.45  # inches
    lines = textwrap.wrap(caption, int(LETTERS * width * max(across, 2)))
    top += LINE * len(lines)
    total = width * height * rows + top + bottom
    figure = Figure(figsize=(width * max(across, 2), total), dpi=110, facecolor=PAPER)
    grid = figure.subplots(rows, across, squeeze=False)
    figure.subplots_adjust(0.005, bottom / total, 0.995, 1 - top / total, wspace=0.02, hspace=0.02)
    figure.suptitle(title, y=1 - 0.12 / total, va="top", color=INK, fontsize=12)
    figure.text(0.5, 1 - 0.42 / total, "\n".join(lines), va="top", ha="center", color=INK, fontsize=9)
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
    padded = np.pad(mask, 1).T.astype(float)  # so that a mask at the border is closed too
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
        entries: list[Line2D | Patch] = [Line2D([], [], color=_colour(i), label=name) for i, name in enumerate(names)]
    else:
        entries = [Line2D([], [], color=PREDICTION, label=f"{names[0]}, prediction")]
    if with_truth and several:
        entries += [
            Line2D([], [], color=INK, label="truth"),
            Line2D([], [], color=INK, ls="dashed", label="prediction"),
        ]
        entries += [Patch(color=INK, alpha=0.3, label="agreement")]
    elif with_truth:
        entries += [Line2D([], [], color=TRUTH, label=f"{names[0]}, truth")]
        entries += [Patch(color=AGREEMENT, alpha=0.4, label="agreement")]
    figure.legend(handles=entries, loc="lower center", ncols=len(entries), frameon=False, labelcolor=INK, fontsize=10)


def _scores(masks: np.ndarray, truth: np.ndarray, label: Any, channel_wise: bool) -> list[str]:
    """Return Dice of every class as text, "-" of one that nobody annotated."""
    channels = convert_to_numpy(label)[-len(masks) :] if channel_wise else truth
    unknown = [not_annotated(channel) for channel in channels]
    return ["-" if blank else f"{dice(mask, true):.2f}" for mask, true, blank in zip(masks, truth, unknown)]


def _heading(title: str, scores: Sequence[str], names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{title}   Dice {scores[0]}".strip()
    return f"{title}   Dice " + ", ".join(f"{name} {score}" for name, score in zip(names, scores))
