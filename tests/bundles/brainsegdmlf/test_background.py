"""The constant background of a brain becomes zero, and the brain stays above it."""

from __future__ import annotations

import pytest
import torch
from brainsegdmlf.background import ZeroBackgroundd
from monai.data import MetaTensor
from monai.transforms import CropForegroundd


def brain(background: float, low: float, high: float) -> torch.Tensor:
    """Return a channel (1, 8, 8, 8) of a constant background with a brain of 4 x 4 x 4 voxels in its middle."""
    image = torch.full((1, 8, 8, 8), float(background))
    image[:, 2:6, 2:6, 2:6] = torch.linspace(low, high, 64).reshape(1, 4, 4, 4)
    return image


@pytest.mark.parametrize(("low", "high"), [(-1000, -24), (-1023, 0)])
def test_a_brain_below_zero_is_shifted_by_its_background_and_found(low, high):
    image = brain(-1024, low, high)
    found = ZeroBackgroundd("image")({"image": MetaTensor(image)})["image"]
    assert isinstance(found, MetaTensor) and torch.equal(found.as_tensor(), image + 1024)
    cropped = CropForegroundd("image", source_key="image", allow_smaller=True)({"image": found})["image"]
    assert cropped.shape == (1, 4, 4, 4)


@pytest.mark.parametrize("below", [False, True], ids=["alone", "beside a brain below zero"])
def test_channels_with_voxels_above_zero_only_lose_their_background(below):
    channels = [brain(-1024, -1000, 0.1), brain(-0.25, 0.1, 7.7), brain(5, -3, -1), brain(0, 1, 2), brain(0, 0, 0)]
    image = torch.cat([*channels, brain(-1024, -900, -1)][: len(channels) + below])
    expected = image[: len(channels)].clone()
    for channel, background in zip(expected, (-1024, -0.25, 5, 0, 0)):
        channel[channel == background] = 0
    found = ZeroBackgroundd("image")({"image": image})["image"]
    assert torch.equal(found[: len(channels)].view(torch.int32), expected.view(torch.int32))


def test_a_channel_of_background_and_zeros_stays_without_tissue():
    assert not ZeroBackgroundd("image")({"image": brain(-1024, 0, 0)})["image"].any()


def test_noise_in_the_air_stays_as_it_is():
    image = -1 - torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ZeroBackgroundd("image")({"image": image})["image"], image)


def test_rounding_noise_outside_the_brain_becomes_zero_and_small_integers_stay():
    noise = 1e-6 * torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    clean = brain(0, 1, 1000)
    found = ZeroBackgroundd("image")({"image": torch.where(clean == 0, noise, clean)})["image"]
    assert torch.equal(found, clean)
    integers = brain(0, 1, 65535)
    integers[0, 0, 0, 1] = 1
    assert torch.equal(ZeroBackgroundd("image")({"image": integers})["image"], integers)
