"""BrainSegDMLF's augmentation changes the foreground alone: zeros (air, missing sequences) stay zeros."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

CONFIG = Path(__file__).parents[2] / "bundles" / "brainsegdmlf" / "configs" / "train.json"


def augmentation() -> Compose:
    """The intensity transforms of the config, between the copy of the image and its use as a mask."""
    transforms = json.loads(CONFIG.read_text(encoding="utf-8"))["train"]["random_transforms"]
    names = [transform["_target_"] for transform in transforms]
    chain = transforms[names.index("CopyItemsd") : names.index("DeleteItemsd") + 1]
    return Compose(ConfigParser({"augmentation": 3, "chain": chain}).get_parsed_content("chain"))


def augmented(seed: int) -> torch.Tensor:
    image = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    image[0, :8], image[1] = 0, 0
    return augmentation().set_random_state(seed)({"image": image})["image"]


def test_zeros_stay_zeros():
    image = augmented(0)
    assert not image[0, :8].any() and not image[1].any() and image[0, 8:].all()


def test_the_copy_of_the_image_is_dropped():
    assert set(augmentation()({"image": torch.ones(1, 4, 4)})) == {"image"}


def test_a_seed_fixes_the_augmentation():
    assert torch.equal(augmented(1), augmented(1)) and not torch.equal(augmented(1), augmented(2))
