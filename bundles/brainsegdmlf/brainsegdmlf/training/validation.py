"""Validation of the recipe: slices and volumes that were held out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

from brainsegdmlf.training.slices import Array, FlairSlice, tissue_scores
from brainsegdmlf.training.volumes import Volume

SPACING = (1.0, 1.0, 3.0)  # mm, of the phantoms
WINDOW = (96, 96)
SMALLEST_STROKE = 10  # pixels

_inferer = SlidingWindowInferer(WINDOW, sw_batch_size=8, overlap=0.25, mode="gaussian")


@dataclass
class Checks:
    """Held-out data.

    Attributes:
        channels: number of sequences that the network takes.
        slices: axial FLAIR slices with a stroke.
        patient: an MS patient, if one is left out of the training.
        phantoms: with voxels of `SPACING`; the first one has no lesion.
    """

    channels: int
    slices: list[FlairSlice] = field(default_factory=list)
    patient: Volume | None = None
    phantoms: list[Volume] = field(default_factory=list)


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


def validate(network: torch.nn.Module, checks: Checks) -> dict[str, float]:
    """Return the figures of a validation by name; the figures of absent data are left out.

    slices_dice, phantoms_dice, patient_dice: mean Dice. slices_touched: share of slices whose stroke the mask touches.
    false_ml: mL that are marked in the phantom without lesions.
    """
    network.eval()
    found: dict[str, float] = {}
    if checks.slices:
        found["slices_dice"], found["slices_touched"] = on_slices(network, checks.slices, checks.channels)
    healthy, *others = checks.phantoms
    found["phantoms_dice"] = sum(on_volume(network, other)[0] for other in others) / len(others)
    found["false_ml"] = on_volume(network, healthy)[1] * math.prod(SPACING) / 1000
    if checks.patient is not None:
        found["patient_dice"] = on_volume(network, checks.patient)[0]
    return found
