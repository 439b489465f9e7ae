"""Volumes in memory from which slices are drawn: real patients, and phantoms that are replaced during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from brainsegdmlf.phantoms.random_case import random_case
from brainsegdmlf.training.slices import Array, Slice

THINNEST_TO_THICKEST = 1.25  # largest ratio of voxel sides at which coronal and sagittal slices are drawn
LESION_SHARE = 0.7  # of the slices show a lesion, if the volume has any
AXIAL_SHARE = 0.5  # of the slices of volumes that are cut in three planes
POOL, USES = 8, 96  # phantoms in memory; slices drawn before the next phantom is made
HEALTHY_SHARE = 0.35  # of the phantoms; `real_lesions.MIX` adds more without lesions


@dataclass(frozen=True)
class Volume:
    """A case as the network gets it.

    Attributes:
        image: (M, X, Y, Z) float16, z-scores in RAS orientation.
        label: (X, Y, Z) uint8.
        isotropic: whether coronal and sagittal slices have nearly square pixels.
    """

    image: Array
    label: Array
    isotropic: bool

    def draw(self, rng: np.random.Generator) -> Slice:
        """Draw a slice, in `LESION_SHARE` of the draws one with a lesion."""
        axis = 2 if not self.isotropic or rng.random() < AXIAL_SHARE else int(rng.integers(2))
        places = self.lesion_places[axis]
        if not len(places) or rng.random() > LESION_SHARE:
            places = self.tissue_places[axis]
        place = int(rng.choice(places))
        image = np.take(self.image, place, axis + 1).astype(np.float32)
        label = np.take(self.label, place, axis)
        return Slice(image, label, np.ones(label.shape, np.float32))

    @cached_property
    def lesion_places(self) -> list[Array]:
        """For each axis, the indices of the slices that show a lesion."""
        return _places(self.label != 0)

    @cached_property
    def tissue_places(self) -> list[Array]:
        """For each axis, the indices of the slices that show the brain."""
        return _places((self.image != 0).any(0))


def _places(mask: Array) -> list[Array]:
    return [np.flatnonzero(mask.any(others)) for others in ((1, 2), (0, 2), (0, 1))]


def to_volume(item: dict[str, Any]) -> Volume:
    """Return the volume of a case after the transforms of ``train.json``: image (M, X, Y, Z), label (1, X, Y, Z)."""
    image = item["image"]
    sides = torch.as_tensor(image.affine)[:3, :3].norm(dim=0)
    isotropic = bool(sides.max() <= THINNEST_TO_THICKEST * sides.min())
    return Volume(image.numpy().astype(np.float16), item["label"].numpy()[0].astype(np.uint8), isotropic)


class Patients:
    """Slices of real patients.

    Args:
        volumes: one per patient.
    """

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self.volumes = volumes

    def draw(self, rng: np.random.Generator) -> Slice:
        """Draw a slice of any patient."""
        return self.volumes[int(rng.integers(len(self.volumes)))].draw(rng)


class Phantoms:
    """Slices of phantoms: a new one every `USES` slices, and the last `POOL` of them in memory.

    Args:
        make: makes the phantom of a seed.
    """

    def __init__(self, make: Callable[[int], Volume]) -> None:
        self.make = make
        self.pool: list[Volume] = []
        self.uses = 0

    def draw(self, rng: np.random.Generator) -> Slice:
        """Draw a slice of a phantom in the pool."""
        if self.uses % USES == 0:
            self.pool = [*self.pool, self.make(int(rng.integers(2**31)))][-POOL:]
        self.uses += 1
        return self.pool[int(rng.integers(len(self.pool)))].draw(rng)


def phantom_volume(seed: int, fitting: Compose, **options: Any) -> Volume:
    """Make the phantom of a seed and run the transforms of ``train.json`` on it.

    Args:
        seed: decides everything that the options leave open, such as whether there are lesions.
        fitting: the transforms `fitting` of ``train.json``.
        options: of `random_case`.
    """
    lesions = bool(np.random.default_rng([seed, 2]).random() > HEALTHY_SHARE)
    case = random_case(seed, **{"lesions": lesions, **options})
    image = torch.from_numpy(np.stack(list(case.images.values())).astype(np.float32))
    label = torch.from_numpy(case.label[None].copy())
    item = {"image": MetaTensor(image, affine=case.affine), "label": MetaTensor(label, affine=case.affine)}
    return to_volume(fitting(item))
