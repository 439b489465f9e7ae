"""An endless mixture of patches from several sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from brainsegdmlf.training.patches import make_patch
from brainsegdmlf.training.slices import Slice


class Source(Protocol):
    """A source of slices."""

    def draw(self, rng: np.random.Generator) -> Slice:
        """Draw a slice."""


class Pictures:
    """Slices in memory; those with a lesion are drawn more often.

    Args:
        slices: as `training_slices` returns them.
        lesion_share: share of the drawn slices that show a lesion, in [0, 1].
    """

    def __init__(self, slices: list[Slice], lesion_share: float = 0.75) -> None:
        self.slices = slices
        self.groups = [group for group in (self._with(True), self._with(False)) if len(group)]
        self.lesion_share = lesion_share

    def draw(self, rng: np.random.Generator) -> Slice:
        """Draw a slice."""
        group = self.groups[0 if rng.random() < self.lesion_share else -1]
        return self.slices[int(rng.choice(group))]

    def _with(self, lesion: bool) -> list[int]:
        return [index for index, item in enumerate(self.slices) if item.label.any() == lesion]


class Mixture(IterableDataset[dict[str, torch.Tensor]]):
    """Patches without end, each from a source that is drawn by its share.

    Args:
        sources: by name.
        shares: by the same names; need not sum to 1.
        seed: seeds the random numbers together with the worker's number.
    """

    def __init__(self, sources: Mapping[str, Source], shares: Mapping[str, float], seed: int) -> None:
        self.sources = [sources[name] for name in shares]
        self.shares = np.array(list(shares.values()), float) / sum(shares.values())
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield patches, see `make_patch`."""
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield make_patch(rng, self.sources[int(rng.choice(len(self.sources), p=self.shares))].draw(rng))
