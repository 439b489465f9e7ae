"""Randomness that follows from the seed and the epoch, so that a resumed training equals one that was never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.utils import manual_seed
from monai.data import ThreadDataLoader
from monai.data.utils import set_rnd
from torch.utils.data import Dataset, RandomSampler, Sampler, SequentialSampler, get_worker_info


class SeedEpochs:
    """Seed torch, numpy and random anew at the beginning of every epoch.

    Args:
        seed: seed of the training; every process draws other numbers.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, trainer: Engine) -> None:
        """Register on the trainer."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)

    def start_epoch(self, trainer: Any) -> None:
        """Seed the generators from seed, epoch and process."""
        mixed = np.random.SeedSequence([self.seed % 2**32, trainer.state.epoch, idist.get_rank()])
        manual_seed(int(mixed.generate_state(1)[0]))


class SeededLoader(ThreadDataLoader):
    """MONAI's `ThreadDataLoader`, whose cases follow from torch's seed at the beginning of the epoch.

    The main process draws a seed for every case and sends it along with the index; it seeds the dataset's random
    transforms before they process the case. So the result does not depend on the number of workers or on their age.

    Args:
        dataset: dataset with random transforms.
        shuffle: draw the cases in random order; without effect if `sampler` is given.
        sampler: order of the cases.
        kwargs: as of `ThreadDataLoader`.
    """

    def __init__(
        self, dataset: Dataset, shuffle: bool = True, sampler: Sampler[int] | None = None, **kwargs: Any
    ) -> None:
        order = sampler or (RandomSampler(dataset) if shuffle else SequentialSampler(dataset))  # type: ignore[arg-type]
        # torch draws a number from this generator when it starts workers; the global one would then be one draw ahead.
        kwargs.setdefault("generator", torch.Generator())
        super().__init__(SeededDataset(dataset), sampler=SeededSampler(order), **kwargs)  # type: ignore[arg-type]


class SeededSampler(Sampler[tuple[int, int]]):
    """Add a seed to every index of another sampler."""

    def __init__(self, sampler: Sampler[int]) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of index and seed."""
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        for index in self.sampler:
            yield index, int(torch.randint(2**31, (), generator=generator))

    def __len__(self) -> int:
        """Return the number of indices."""
        return len(self.sampler)  # type: ignore[arg-type]


class SeededDataset(Dataset):
    """Take pairs of index and seed, and seed the transforms of another dataset before they see a case."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, pair: tuple[int, int]) -> Any:
        """Return a case."""
        index, seed = pair
        set_rnd(getattr(self.dataset, "transform", self.dataset), seed)
        if get_worker_info() is not None:  # in the main process, the training draws from the same generators
            manual_seed(seed)
        return self.dataset[index]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.dataset)
