"""Real FLAIR slices in which only strokes are labelled; other bright tissue counts as unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from shared.core.errors import InputError
from shared.datasets.datalist import read_datalist

Array = np.ndarray[Any, Any]

ONE_IN = 5  # patients, one of whom is held out
# Unknown pixels, in robust z-scores above the usual brightness of their place:
SEED, GROWN = 2.5, 1.3  # the brightest pixel of an area lies above the first, all of its pixels above the second
RIM = 4  # pixels (1 mm) from the edge of the brain, where cortex is; bright pixels there stay background
MARGIN = 2  # pixels around the label; bright pixels there stay background, so that the outline is learnt
USUAL = 40  # percentile over patients: the usual brightness of a place
VISIBLE = 0.7  # robust z-scores by which a visible stroke is brighter than its surroundings
HIDDEN_WEIGHT = 0.2  # of the pixels of a stroke that is not visible


@dataclass(frozen=True)
class Slice:
    """A slice for training.

    Attributes:
        image: (M, X, Y) float, z-scores over the tissue, 0 outside it and in missing sequences.
        label: (X, Y) uint8, 1 in lesions.
        weight: (X, Y) float, of each pixel in the loss, 0 where the label is not known.
    """

    image: Array
    label: Array
    weight: Array


@dataclass(frozen=True)
class FlairSlice:
    """A FLAIR slice as read from its files.

    Attributes:
        patient: number of the patient.
        plane: "axial", "sagittal" or "coronal".
        flair: (X, Y) uint8, 0 outside the brain; both axes run in the direction of RAS.
        label: (X, Y) bool, the stroke.
    """

    patient: str
    plane: str
    flair: Array
    label: Array

    @property
    def box(self) -> tuple[slice, ...]:
        """The smallest box that holds the brain."""
        return ndimage.find_objects((self.flair > 0).astype(np.uint8))[0]


def held_out(patient: str | int) -> bool:
    """Tell whether a patient is held out for validation: a fifth, chosen by a hash of the number, always the same."""
    digest = hashlib.sha256(str(int(patient)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % ONE_IN == 0


def read_slices(folder: str | Path) -> list[FlairSlice]:
    """Read all slices of a folder.

    Args:
        folder: holds ``dataset.json`` with a list ``slices`` of image, label, patient and plane; pictures stand as
            radiologists see them, with anterior or superior at the top.

    Raises:
        InputError: there is no such list.
    """
    items = read_datalist(Path(folder) / "dataset.json").get("slices")
    if not items:
        raise InputError(f"{folder}/dataset.json has no list 'slices': correct --data_dir")
    return [
        FlairSlice(
            item["patient"],
            item["plane"],
            _upright(Path(folder) / item["image"]),
            _upright(Path(folder) / item["label"]) > 0,
        )
        for item in items
    ]


def training_slices(slices: Sequence[FlairSlice], channels: int) -> list[Slice]:
    """Return slices for training: FLAIR as first channel, cropped to the brain, with the weight of each pixel.

    Args:
        slices: of patients in training; the slices of a plane show the same place of a standard space.
        channels: M, the number of sequences; all but the first are zero.
    """
    scores = [robust_scores(item.flair, item.label) for item in slices]
    found = []
    for plane in sorted({item.plane for item in slices}):
        of_plane = [(item, score) for item, score in zip(slices, scores) if item.plane == plane]
        usual = usual_brightness([score for _, score in of_plane])
        for item, score in of_plane:
            weight = np.ones(item.flair.shape, np.float32)
            weight[unknown(score, item.label, item.flair > 0, usual)] = 0
            weight *= visibility(score, item.label, item.flair > 0)
            box = item.box
            image = np.zeros((channels, *item.flair[box].shape), np.float32)
            image[0] = tissue_scores(item.flair[box])
            found.append(Slice(image, item.label[box].astype(np.uint8), weight[box]))
    return found


def tissue_scores(image: Array) -> Array:
    """Return z-scores over the nonzero pixels, 0 elsewhere, as `NormalizeIntensityd(nonzero=True)` does."""
    tissue = image[image > 0].astype(np.float32)
    return np.where(image > 0, (image - tissue.mean()) / max(float(tissue.std()), 1e-6), 0).astype(np.float32)


def robust_scores(flair: Array, label: Array) -> Array:
    """Return z-scores of healthy tissue: by its median and median absolute deviation, without fluid and the stroke.

    Args:
        flair: (X, Y), 0 outside the brain.
        label: (X, Y) bool.

    Returns:
        (X, Y) float32, slightly smoothed; 0 outside the brain.
    """
    tissue = flair[(flair > 0) & ~ndimage.binary_dilation(label, iterations=3)].astype(np.float32)
    if not len(tissue):
        return np.zeros(flair.shape, np.float32)
    tissue = tissue[tissue > np.median(tissue) / 2]  # without fluid
    middle = np.median(tissue)
    spread = max(1.4826 * float(np.median(np.abs(tissue - middle))), 1e-6)
    smooth = ndimage.gaussian_filter(flair.astype(np.float32), 0.7)
    return np.where(flair > 0, (smooth - middle) / spread, 0).astype(np.float32)


def usual_brightness(scores: Sequence[Array]) -> Array:
    """Return how bright a place usually is, from the robust z-scores (X, Y) of many patients; at least 0.

    Insula, hippocampus and caudate are bright in every patient, so they are not taken for disease.
    """
    middle = np.percentile(np.stack([ndimage.gaussian_filter(score, 1) for score in scores]), USUAL, axis=0)
    return np.clip(ndimage.maximum_filter(middle, 3), 0, None)


def unknown(scores: Array, label: Array, tissue: Array, usual: Array) -> Array:
    """Find bright tissue that is not labelled: white-matter disease and old strokes, which readers did not outline.

    Args:
        scores: robust z-scores (X, Y).
        label: (X, Y) bool, the stroke.
        tissue: (X, Y) bool, the brain.
        usual: (X, Y), z-scores that are usual at each place.

    Returns:
        (X, Y) bool.
    """
    depth = ndimage.distance_transform_edt(np.pad(ndimage.binary_fill_holes(tissue), 1))[1:-1, 1:-1]
    allowed = tissue & (depth > RIM) & ~ndimage.binary_dilation(label, iterations=MARGIN)
    excess = scores - usual
    return ndimage.binary_propagation((excess > SEED) & allowed, mask=(excess > GROWN) & allowed)


def visibility(scores: Array, label: Array, tissue: Array) -> Array:
    """Return a weight per pixel: 0.2 in strokes that are no brighter than their surroundings, else 1.

    The outlines come from diffusion images. FLAIR shows a stroke only hours after its onset.

    Args:
        scores: robust z-scores (X, Y).
        label, tissue: (X, Y) bool.
    """
    weight = np.ones(label.shape, np.float32)
    parts, count = ndimage.label(label, np.ones((3, 3)))
    for number in range(1, count + 1):
        part = parts == number
        around = ndimage.binary_dilation(part, iterations=5) & ~ndimage.binary_dilation(label, iterations=2) & tissue
        around &= scores > -2  # without fluid
        if not around.any() or scores[part].mean() - scores[around].mean() < VISIBLE:
            weight[part] = HIDDEN_WEIGHT
    return weight


def _upright(path: Path) -> Array:
    """Read a grey picture as (X, Y) whose axes run to the right and up."""
    with Image.open(path) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("L"))[::-1].T)
