"""Per-case segmentation metrics: overlap, surface distances in mm, lesion-wise detection."""

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

SURFACE_TOLERANCE_MM = 1.0  # as for lesions in our benchmarks (our choice)
CROP_MARGIN = 2  # voxels round the union; one would do for the surfaces


def lesion_wise(pred: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Detection of lesions by the rule of the WMH segmentation challenge 2017 (Kuijf et al., IEEE TMI 2019).

    A lesion is a 26-connected component (8-connected in 2-D) of the label. It is found when any voxel of the prediction
    lies in it; a predicted component is true when it overlaps any lesion.

    Args:
        pred: predicted mask, bool or 0/1, 2-D or 3-D.
        label: true mask, same shape.

    Returns:
        ``lesion_recall``, ``lesion_precision``, ``lesion_f1`` in [0, 1] and the counts ``lesions`` (in the label),
        ``lesions_pred``, ``lesions_found``. Without lesions the recall is 1, without predicted components the precision
        is 1; F1 is 1 if both masks are empty, 0 if one is (our choice, as for Dice).

    Raises:
        ValueError: shapes differ.

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


def case_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    spacing: Sequence[float],
    names: Sequence[str] | Mapping[int, str],
    channel_wise: bool = False,
) -> dict[str, dict[str, float]]:
    """Compute all metrics of one case, per class.

    Args:
        pred: label map (X, Y[, Z]) or (1, X, Y[, Z]), integer values; with `channel_wise` binary masks (C, X, Y[, Z]),
            which may overlap (regions such as WT, TC, ET).
        label: the same for the truth; a channel of -1 is a class that nobody annotated: all its metrics are NaN.
        spacing: voxel size in mm, one value a spatial axis.
        names: class names. Of a label map: value -> name, or names of the values 1, 2, ... in order (0 is background);
            with `channel_wise` the names of the channels in order; a channel more than names is the background.
        channel_wise: the inputs are masks, one channel a class.

    Returns:
        Per class name a dict of
        ``dice`` in [0, 1] (both empty: 1);
        ``hd95_mm`` 95th percentile Hausdorff distance in mm (both empty: 0; one empty: the image diagonal in mm, the
        largest error the image allows, our choice);
        ``surface_dice`` in [0, 1] at 1 mm tolerance (both empty: 1, one empty: 0);
        ``lesion_recall``, ``lesion_precision``, ``lesion_f1``, ``lesions``, ``lesions_pred``, ``lesions_found`` (see
        `lesion_wise`); ``volume_ml`` and ``volume_pred_ml``, in mL (of a picture: its area in cm2).

    Raises:
        ValueError: shapes differ, or the number of names or spacings does not fit.

    """
    found, truth = _same_shape(convert_to_numpy(pred), convert_to_numpy(label))
    sizes = [float(size) for size in spacing]
    if truth.ndim - len(sizes) not in ((1,) if channel_wise else (0, 1)):
        raise ValueError(f"{len(sizes)} spacings for an array of shape {truth.shape}")
    if not channel_wise and truth.ndim > len(sizes):
        found, truth = found[0], truth[0]
    masks = _channels(found, truth, names) if channel_wise else _values(found, truth, names)
    return {name: _mask_metrics(mask_pred, mask, sizes) for name, (mask_pred, mask) in masks.items()}


def dice(pred: np.ndarray, label: np.ndarray) -> float:
    """Dice coefficient of two masks in [0, 1]; 1 if both are empty."""
    pred, label = _masks(pred, label)
    size = int(pred.sum()) + int(label.sum())
    return 2 * int((pred & label).sum()) / size if size else 1.0


def surface_metrics(
    pred: np.ndarray, label: np.ndarray, spacing: Sequence[float], crop: bool = True
) -> tuple[float, float]:
    """Return HD95 in mm and surface Dice at 1 mm, computed by MONAI on the bounding box of both masks.

    Cropping changes no value (tested) and makes whole-head volumes fast; `crop` False is there to check that.
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
        nsd = compute_surface_dice(a, b, [SURFACE_TOLERANCE_MM], include_background=True, spacing=list(spacing))
    return hd95.item(), nsd.item()


def not_annotated(label: np.ndarray | torch.Tensor) -> bool:
    """Whether the label of one class says that nobody annotated it: it holds a negative value (-1, everywhere)."""
    return bool((label < 0).any())


def _mask_metrics(pred: np.ndarray, label: np.ndarray, spacing: list[float]) -> dict[str, float]:
    if not_annotated(label):
        empty = np.zeros((1,) * label.ndim)
        return dict.fromkeys(_mask_metrics(empty, empty, spacing), math.nan)
    pred, label = _masks(pred, label)
    hd95, surface_dice = surface_metrics(pred, label, spacing)
    voxel_ml = math.prod(spacing) / 10**label.ndim
    return {
        "dice": dice(pred, label),
        "hd95_mm": hd95,
        "surface_dice": surface_dice,
        **lesion_wise(pred, label),
        "volume_ml": int(label.sum()) * voxel_ml,
        "volume_pred_ml": int(pred.sum()) * voxel_ml,
    }


Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def _channels(pred: np.ndarray, label: np.ndarray, names: Sequence[str] | Mapping[int, str]) -> Pairs:
    background = len(label) - len(names)
    if background not in (0, 1):
        raise ValueError(f"{len(names)} class names for {len(label)} channels")
    channels = names.values() if isinstance(names, Mapping) else names
    return {name: (pred[i], label[i]) for i, name in enumerate(channels, start=background)}


def _values(pred: np.ndarray, label: np.ndarray, names: Sequence[str] | Mapping[int, str]) -> Pairs:
    values = names if isinstance(names, Mapping) else dict(enumerate(names, start=1))
    return {name: (pred == value, label == value) for value, name in values.items()}


def _masks(pred: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, label = _same_shape(pred, label)
    return pred > 0, label > 0


def _same_shape(pred: Any, label: Any) -> tuple[np.ndarray, np.ndarray]:
    if pred.shape != label.shape:
        raise ValueError(f"prediction of shape {pred.shape} for a label of shape {label.shape}")
    return pred, label
