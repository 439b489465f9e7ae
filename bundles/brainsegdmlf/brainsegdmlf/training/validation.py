"""Validation of the recipe: slices and volumes that were held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

from brainsegdmlf.training.slices import Array, FlairSlice, tissue_scores
from brainsegdmlf.training.volumes import Volume

WINDOW = (96, 96)
SMALLEST_STROKE = 10  # pixels

_inferer = SlidingWindowInferer(WINDOW, sw_batch_size=8, overlap=0.25, mode="gaussian")


def validation_slices(slices: Iterable[FlairSlice], number: int) -> list[FlairSlice]:
    """Return at most `number` axial slices with a stroke of at least 10 pixels, evenly spaced in the list."""
    usable = [item for item in slices if item.plane == "axial" and item.label.sum() >= SMALLEST_STROKE]
    return usable[:: max(1, -(-len(usable) // number))]


@torch.inference_mode()
def segment(network: torch.nn.Module, image: Array) -> Array:
    """Segment a slice (M, X, Y) of z-scores: bool (X, Y)."""
    logits: torch.Tensor = _inferer(torch.from_numpy(image)[None], network)  # type: ignore[assignment]
    return logits[0, 0].numpy() > 0


def dice(found: Array, label: Array) -> float:
    """Return the Dice of two masks; 1 if both are empty."""
    total = int(found.sum()) + int(label.sum())
    return float(2 * (found & (label > 0)).sum() / total) if total else 1.0


def on_slices(network: torch.nn.Module, slices: Sequence[FlairSlice], channels: int) -> tuple[float, float]:
    """Segment slices from FLAIR alone; return their mean Dice, and the share whose stroke the mask touches."""
    scores, touched = [], []
    for item in slices:
        label = item.label[item.box]
        image = np.zeros((channels, *label.shape), np.float32)
        image[0] = tissue_scores(item.flair[item.box])
        found = segment(network, image)
        scores.append(dice(found, label))
        touched.append(bool((found & label).any()))
    return float(np.mean(scores)), float(np.mean(touched))


def on_volume(network: torch.nn.Module, volume: Volume) -> tuple[float, int]:
    """Segment the axial slices of a volume; return its Dice and the number of voxels that were marked."""
    found = np.zeros(volume.label.shape, bool)
    for place in volume.tissue_places[2]:
        found[..., place] = segment(network, volume.image[..., place].astype(np.float32))
    return dice(found, volume.label), int(found.sum())
