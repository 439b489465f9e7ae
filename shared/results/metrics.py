"""Segmentation metrics of one case: overlap, surface distances, lesion detection, sizes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.utils import convert_to_numpy
from scipy import ndimage

SURFACE_TOLERANCE = 1.0  # mm, or pixels
CROP_MARGIN = 2  # voxels around the union of both masks

ClassNames = Sequence[str] | Mapping[int, str]
MaskPairs = dict[str, tuple[np.ndarray, np.ndarray]]


def case_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    spacing: Sequence[float] | None,
    names: ClassNames,
    channel_wise: bool = False,
) -> dict[str, dict[str, float]]:
    """Compute all metrics of one case for each class.

    Args:
        pred: label map (X, Y[, Z]) or (1, X, Y[, Z]) of integers; with `channel_wise` binary masks (C, X, Y[, Z]),
            which may overlap (regions such as WT, TC, ET).
        label: the same for the truth. A channel of -1 marks a class that was not annotated: all its metrics are NaN.
        spacing: voxel size in mm along each spatial axis, or None where it is unknown, as in a photograph.
        names: class names. For a label map: value -> name, or the names of the values 1, 2, ... (0 is background). With
            `channel_wise` the channels' names in order; one additional first channel is the background.
        channel_wise: the inputs are masks, one channel per class.

    Returns:
        For each class name

        - ``dice`` in [0, 1]; 1 if both masks are empty;
        - ``hd95_mm``, the 95th percentile of the Hausdorff distance; 0 if both masks are empty, the diagonal of the
          image (the largest possible error) if only one is; ``hd95_px`` where `spacing` is None;
        - ``surface_dice`` in [0, 1] with a tolerance of 1 mm, or 1 pixel; 1 if both masks are empty, 0 if only one is;
        - the values of `lesion_wise`;
        - the size of the label and of the prediction, called ``volume_ml`` and ``volume_pred_ml`` in 3-D and
          ``area_mm2`` and ``area_pred_mm2`` in 2-D; ``..._voxels`` and ``..._px`` where `spacing` is None.

    Raises:
        ValueError: the shapes differ, or the number of names or spacings does not fit them.

    """
    found, truth = _same_shape(convert_to_numpy(pred), convert_to_numpy(label))
    axes = _spatial_axes(truth, spacing, channel_wise)
    if not channel_wise and truth.ndim > axes:
        found, truth = found[0], truth[0]
    pairs = _channels(found, truth, names) if channel_wise else _values(found, truth, names)
    sizes = None if spacing is None else [float(size) for size in spacing]
    return {name: _mask_metrics(mask_pred, mask, sizes) for name, (mask_pred, mask) in pairs.items()}


def dice(pred: np.ndarray, label: np.ndarray) -> float:
    """Return the Dice coefficient of two masks, in [0, 1]; 1 if both are empty.

    It equals `monai.metrics.compute_dice` with ``ignore_empty=False``, in float64 where that function has float32.
    """
    pred, label = _masks(pred, label)
    size = int(pred.sum()) + int(label.sum())
    return 2 * int((pred & label).sum()) / size if size else 1.0


def surface_metrics(
    pred: np.ndarray, label: np.ndarray, spacing: Sequence[float], crop: bool = True
) -> tuple[float, float]:
    """Return HD95 and surface Dice of two masks, computed by MONAI.

    Args:
        pred: predicted mask, 2-D or 3-D.
        label: true mask, same shape.
        spacing: voxel size along each axis; HD95 and the tolerance of surface Dice have its unit.
        crop: compute inside the bounding box of both masks, which gives the same values in less time.

    """
    pred, label = _masks(pred, label)
    if not (pred.any() and label.any()):
        same = pred.any() == label.any()
        diagonal = math.dist([0.0] * label.ndim, [n * size for n, size in zip(label.shape, spacing)])
        return (0.0, 1.0) if same else (diagonal, 0.0)
    if crop:
        (box,) = ndimage.find_objects((pred | label).astype(np.uint8))
        box = tuple(slice(max(s.start - CROP_MARGIN, 0), s.stop + CROP_MARGIN) for s in box)
        pred, label = pred[box], label[box]
    a, b = (torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (pred, label))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of an argument that it passes itself
        hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing))
        nsd = compute_surface_dice(a, b, [SURFACE_TOLERANCE], include_background=True, spacing=list(spacing))
    return hd95.item(), nsd.item()


def lesion_wise(pred: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Score the detection of lesions by the rule of the WMH segmentation challenge 2017 (Kuijf et al., IEEE TMI 2019).

    A lesion is a 26-connected component (8-connected in 2-D) of the label. It is found if any voxel of the prediction
    lies in it. A component of the prediction is true if it overlaps any lesion.

    Args:
        pred: predicted mask, bool or 0/1, 2-D or 3-D.
        label: true mask, same shape.

    Returns:
        ``lesion_recall``, ``lesion_precision``, ``lesion_f1`` in [0, 1] and the counts ``lesions`` (in the label),
        ``lesions_pred``, ``lesions_found``. Recall is 1 without lesions, precision is 1 without predicted components.
        F1, like Dice, is 1 if both masks are empty and 0 if only one is.

    Raises:
        ValueError: the shapes differ.

    """
    pred, label = _masks(pred, label)
    neighbours = np.ones((3,) * label.ndim)
    lesions, count = ndimage.label(label, neighbours)
    components, count_pred = ndimage.label(pred, neighbours)
    found = np.unique(lesions[pred & label]).size
    true = np.unique(components[pred & label]).size
    recall = found / count if count else 1.0
    precision = true / count_pred if count_pred else 1.0
    if count and count_pred:
        f1 = 2 * recall * precision / (recall + precision) if found else 0.0
    else:
        f1 = float(count == count_pred)
    return {
        "lesion_recall": recall,
        "lesion_precision": precision,
        "lesion_f1": f1,
        "lesions": count,
        "lesions_pred": count_pred,
        "lesions_found": found,
    }


def not_annotated(label: np.ndarray | torch.Tensor) -> bool:
    """Tell whether the label of a class marks it as not annotated: it is -1 everywhere."""
    return bool((label < 0).any())


def _mask_metrics(pred: np.ndarray, label: np.ndarray, spacing: list[float] | None) -> dict[str, float]:
    if not_annotated(label):
        empty = np.zeros((1,) * label.ndim)
        return dict.fromkeys(_mask_metrics(empty, empty, spacing), math.nan)
    pred, label = _masks(pred, label)
    hd95, surface_dice = surface_metrics(pred, label, spacing or [1.0] * label.ndim)
    size, unit, factor = _size_unit(label.ndim, spacing)
    return {
        "dice": dice(pred, label),
        "hd95_px" if spacing is None else "hd95_mm": hd95,
        "surface_dice": surface_dice,
        **lesion_wise(pred, label),
        f"{size}_{unit}": int(label.sum()) * factor,
        f"{size}_pred_{unit}": int(pred.sum()) * factor,
    }


def _size_unit(axes: int, spacing: list[float] | None) -> tuple[str, str, float]:
    """Return the name of a mask's size (area or volume), its unit, and the size of one voxel in that unit."""
    if axes == 2:
        return ("area", "px", 1) if spacing is None else ("area", "mm2", math.prod(spacing))
    return ("volume", "voxels", 1) if spacing is None else ("volume", "ml", math.prod(spacing) / 1000)


def _spatial_axes(label: np.ndarray, spacing: Sequence[float] | None, channel_wise: bool) -> int:
    """Return the number of spatial axes; without a spacing, a first axis of length 1 is the channel."""
    if spacing is None:
        return label.ndim - 1 if channel_wise or len(label) == 1 else label.ndim
    if label.ndim - len(spacing) not in ((1,) if channel_wise else (0, 1)):
        raise ValueError(f"{len(spacing)} spacings for an array of shape {label.shape}")
    return len(spacing)


def _channels(pred: np.ndarray, label: np.ndarray, names: ClassNames) -> MaskPairs:
    background = len(label) - len(names)
    if background not in (0, 1):
        raise ValueError(f"{len(names)} class names for {len(label)} channels")
    channels = names.values() if isinstance(names, Mapping) else names
    return {name: (pred[i], label[i]) for i, name in enumerate(channels, start=background)}


def _values(pred: np.ndarray, label: np.ndarray, names: ClassNames) -> MaskPairs:
    values = names if isinstance(names, Mapping) else dict(enumerate(names, start=1))
    return {name: (pred == value, label == value) for value, name in values.items()}


def _masks(pred: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, label = _same_shape(pred, label)
    return pred > 0, label > 0


def _same_shape(pred: Any, label: Any) -> tuple[np.ndarray, np.ndarray]:
    if pred.shape != label.shape:
        raise ValueError(f"prediction of shape {pred.shape} for a label of shape {label.shape}")
    return pred, label
