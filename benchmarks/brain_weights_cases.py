"""Cases with known lesions for `brain_weights`: real and synthetic ones, none of which the recipe trains on.

The only exception are the patients of ``brain_ms``, on which the recipe trains unless one is left out. Heads and lesion
masks of the phantoms, and the patients of the slices, are the fifth that ``make_weights.py`` holds out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from brain_weights_inference import Inference
from brainsegdmlf.phantoms import real_lesions
from brainsegdmlf.phantoms.random_case import random_case
from brainsegdmlf.phantoms.raw_study import RawStudy, make_raw_study
from brainsegdmlf.training.shapes import phantom_options
from brainsegdmlf.training.slices import held_out, read_slices
from brainsegdmlf.training.sources import patient_items
from brainsegdmlf.training.validation import SMALLEST_STROKE
from monai.data import MetaTensor
from preparation_masks import write

from shared.io.sources import load_volume
from shared.preparation.resampling import resample
from shared.preparation.scan import Scan

SEED = 2**31 + 1000  # apart from the seeds of training, which are smaller, and from those of its validation
PHANTOMS, CHRONIC, HEALTHY, WHOLE_HEADS = 8, 8, 10, 4  # cases
SPACING = (1.0, 1.0, 3.0)  # mm, of the phantoms
SLICE_MM = 5.0  # thickness that is assumed for single slices; any thick one is segmented in its own plane only


class Case(NamedTuple):
    """A case to segment.

    Args:
        name: of the case.
        source: of a row in the tables.
        image: (M, X, Y, Z) with affine, on the grid of `label`.
        label: bool (X, Y, Z), the lesions.
        brain: bool (X, Y, Z), the true brain; None if it is not known.
    """

    name: str
    source: str
    image: MetaTensor
    label: np.ndarray
    brain: np.ndarray | None = None


def patients(data: Path, inference: Inference) -> Iterator[Case]:
    """Yield the MS patients of ``brain_ms``, loaded as inference does."""
    for item in patient_items(data / "brain_ms"):
        label = load_volume(item["label"], item["case_id"])[0].numpy() > 0
        yield Case(item["case_id"], f"MS {item['case_id']}", inference.load(item["image"], item["case_id"]), label)


def slices(data: Path, inference: Inference) -> Iterator[Case]:
    """Yield the FLAIR slices of held-out patients with a stroke of at least 10 pixels, as volumes of one slice."""
    for item in read_slices(data / "brain_flair_slices"):
        if held_out(item.patient) and item.label.sum() >= SMALLEST_STROKE:
            image = torch.zeros(len(inference.channels), *item.flair.shape, 1)
            image[inference.channels.index("flair"), ..., 0] = torch.from_numpy(item.flair.astype(np.float32))
            affine = np.diag([1.0, 1.0, SLICE_MM, 1.0])
            name = f"{item.patient} {item.plane}"
            yield Case(name, f"stroke, {item.plane} slices", MetaTensor(image, affine=affine), item.label[..., None])


def phantoms(data: Path, inference: Inference) -> Iterator[Case]:
    """Yield phantoms with the lesions of MS and of strokes in turn, every second pair with artefacts."""
    for number in range(PHANTOMS):
        kind, rough = ("ms", "stroke")[number % 2], number % 4 > 1
        yield _phantom(data, inference, number, f"phantoms, {kind}", lesion_kind=kind, rough=rough)


def chronic(data: Path, inference: Inference) -> Iterator[Case]:
    """Yield phantoms that have a chronic stroke, with a cavity, and no other lesion."""
    for number in range(CHRONIC):
        with mock.patch.object(real_lesions, "CHRONIC", 1.0):  # the share of strokes that have a cavity
            case = _phantom(
                data, inference, 100 + number, "phantoms, chronic stroke", lesion_kind="stroke", rough=False
            )
        yield case


def healthy(data: Path, inference: Inference) -> Iterator[Case]:
    """Yield phantoms without lesions, every second one with artefacts."""
    for number in range(HEALTHY):
        rough = number % 2 > 0
        source = f"{'with' if rough else 'without'} artefacts"
        yield _phantom(data, inference, 200 + number, source, lesions=False, rough=rough)


def skull(data: Path, inference: Inference) -> Iterator[Case]:
    """Yield whole synthetic heads twice: after the bundle's own preparation, and after a perfect one."""
    for number in range(WHOLE_HEADS):
        study = make_raw_study(SEED + 300 + number, inference.channels)
        brain, label, name = study.brains["flair"] > 0, study.lesion > 0, f"head {number}"
        with tempfile.TemporaryDirectory() as scratch:
            scans = [Scan(volume.voxels, volume.affine) for volume in study.images.values()]
            files = [write(Path(scratch) / f"{index}.nii.gz", scan) for index, scan in enumerate(scans)]
            yield Case(name, "whole heads, own preparation", inference.load(files, name), label, brain)
        image = MetaTensor(torch.from_numpy(perfectly_prepared(study)), affine=study.flair_affine)
        yield Case(name, "whole heads, true transforms and brain mask", image, label, brain)


def perfectly_prepared(study: RawStudy) -> np.ndarray:
    """Return the sequences of a study on the grid of FLAIR by the true transforms, 0 outside the true brain.

    Returns:
        float32 (M, X, Y, Z).
    """
    brain = study.brains["flair"] > 0
    grid = Scan(study.brains["flair"], study.flair_affine)
    moved = [
        resample(Scan(volume.voxels.astype(np.float32), volume.affine), grid, study.transforms[name]).voxels
        for name, volume in study.images.items()
    ]
    return np.where(brain, np.stack(moved), 0)


def _phantom(data: Path, inference: Inference, number: int, source: str, **options: Any) -> Case:
    """Make a phantom from a held-out head and held-out lesion masks."""
    names = [item["case_id"] for item in patient_items(data / "brain_ms")]
    held = phantom_options(data, True, names)
    case = random_case(SEED + number, sequences=inference.channels, hard=True, head_share=1.0, spacing=SPACING,
                       **held, **options)  # fmt: skip
    image = torch.from_numpy(np.stack(list(case.images.values())).astype(np.float32))
    return Case(f"phantom {number}", source, MetaTensor(image, affine=case.affine), case.label > 0)
