"""Intensity transforms of the foreground: zeros stay zeros, and a seed fixes what the inner transforms draw."""

from __future__ import annotations

import torch
from monai.transforms import Compose, RandShiftIntensityd

from shared.transforms.foreground import OnForegroundd


def shifted(seed: int) -> torch.Tensor:
    transform = Compose([OnForegroundd("image", [RandShiftIntensityd("image", offsets=0.5, prob=1)])])
    return transform.set_random_state(seed)({"image": torch.tensor([[0.0, 1.0, 2.0]])})["image"]


def test_zeros_stay_zeros():
    image = shifted(0)
    assert image[0, 0] == 0 and image[0, 1] != 1 and image[0, 2] != 2


def test_a_seed_reaches_the_inner_transforms():
    assert torch.equal(shifted(1), shifted(1)) and not torch.equal(shifted(1), shifted(2))
