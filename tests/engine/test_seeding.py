"""What an epoch draws follows from its seed and number alone, whatever ran before it and however many workers load."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import CacheDataset
from monai.transforms import Compose, RandGaussianNoised, RandomizableTransform, ToTensord

from shared.engine import seeding
from shared.engine.seeding import SeededLoader, SeedEpochs


class FromGlobalGenerators(RandomizableTransform):
    """Draw from the generators of torch, numpy and random, as transforms of other libraries do."""

    def __call__(self, data):
        return {**data, "drawn": torch.tensor([torch.rand(()), np.random.rand(), random.random()])}


def loader(workers, transforms=(), **options):
    noise = RandGaussianNoised("image", prob=1, std=1)
    transform = Compose([ToTensord("image"), noise, *transforms])
    data = [{"image": np.full(3, 10 * n, np.float32), "case": n} for n in range(5)]
    dataset = CacheDataset(data, transform, progress=False)
    return SeededLoader(dataset, batch_size=2, num_workers=workers, persistent_workers=workers > 0, **options)


def epochs(batches, first, last, seed=0):
    """Return what a trainer sees in some epochs: cases, images, and what the main process draws meanwhile."""
    seen = {}

    def step(engine, batch):
        drawn = torch.rand(1)  # as dropout does
        seen.setdefault(engine.state.epoch, []).append((batch["case"], batch["image"], drawn, batch.get("drawn")))

    trainer = Engine(step)
    SeedEpochs(seed).attach(trainer)
    trainer.state.epoch, trainer.state.iteration = first - 1, (first - 1) * len(batches)
    trainer.state.epoch_length = len(batches)
    trainer.state.max_epochs = last
    trainer.run(batches, max_epochs=last)
    return seen


def same(one, other):
    return all(
        all(torch.equal(a, b) for a, b in zip(first, second) if a is not None) for first, second in zip(one, other)
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_resumed_epoch_draws_what_the_undisturbed_one_drew(workers):
    undisturbed = epochs(loader(workers), 1, 4)
    resumed = epochs(loader(workers), 3, 4)
    assert list(resumed) == [3, 4]
    assert same(resumed[3], undisturbed[3]) and same(resumed[4], undisturbed[4])


def test_every_epoch_draws_anew():
    seen = epochs(loader(1), 1, 3)
    for one, other in ((1, 2), (2, 3), (1, 3)):
        images = [torch.cat([image for _, image, _, _ in seen[epoch]]).sort(0).values for epoch in (one, other)]
        assert not (images[0] == images[1]).any()
    assert len({tuple(torch.cat([case for case, *_ in batches]).tolist()) for batches in seen.values()}) > 1
    assert all(
        sorted(torch.cat([case for case, *_ in batches]).tolist()) == list(range(5)) for batches in seen.values()
    )


def test_draws_do_not_depend_on_the_number_of_workers():
    expected = epochs(loader(0), 1, 2)
    for workers in (1, 3):
        seen = epochs(loader(workers), 1, 2)
        assert same(seen[1], expected[1]) and same(seen[2], expected[2])


def test_cases_of_one_epoch_draw_different_numbers():
    (batches,) = epochs(loader(0), 1, 1).values()
    noise = torch.cat([image - 10 * case[:, None] for case, image, _, _ in batches])
    assert len(noise.unique()) == noise.numel()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_seed_the_global_generators_too(workers):
    extra = [FromGlobalGenerators()]
    undisturbed = epochs(loader(workers, extra), 1, 3)
    resumed = epochs(loader(workers, extra), 3, 3)
    assert resumed[3][0][3].unique().numel() == 6
    assert same(resumed[3], undisturbed[3])


def test_another_seed_or_process_draws_other_numbers(monkeypatch):
    first = epochs(loader(0), 1, 1, seed=0)
    assert not same(epochs(loader(0), 1, 1, seed=1)[1], first[1])
    monkeypatch.setattr(seeding.idist, "get_rank", lambda: 1)
    assert not same(epochs(loader(0), 1, 1, seed=0)[1], first[1])


def test_order_of_the_cases():
    def order(**options):
        return torch.cat([case for case, *_ in epochs(loader(0, **options), 1, 1)[1]]).tolist()

    assert order(shuffle=False) == [0, 1, 2, 3, 4]
    assert order(sampler=[4, 2]) == [4, 2]
