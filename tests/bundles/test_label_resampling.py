"""A label stays over its image: what resizes and moves both has no offset between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandomizableTransform
from scipy.ndimage import center_of_mass

from tests.bundles.emclip.facts import BUNDLE as FUNDUS
from tests.bundles.tmca.facts import BUNDLE as CHEST

SIDE = 224
PLACES = [
    (FUNDUS, [96, 96], "fitting"),
    (FUNDUS, [96, 96], "train#shape_transforms"),
    (CHEST, 96, "fitting"),
]


def disc(radius: float) -> torch.Tensor:
    """A disc of ones a little off the middle, (1, SIDE, SIDE)."""
    place = torch.arange(SIDE).float()
    return ((place[:, None] - 105) ** 2 + (place[None] - 117) ** 2 < radius**2).float()[None]


@pytest.mark.parametrize(("bundle", "size", "part"), PLACES, ids=["fundus", "fundus augmented", "chest"])
def test_image_and_label_keep_one_middle(bundle, size, part, tmp_path):
    """`nearest` takes each pixel's upper left neighbour: half a pixel off, a hundredth of Dice on an optic disc."""
    places = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path)}
    moved = 0
    for transform in bundle.workflow("train", **places, image_size=size).parser.get_parsed_content(part):
        if "label" not in transform.keys or not hasattr(transform, "mode"):
            continue
        if isinstance(transform, RandomizableTransform):
            transform.prob = 1.0
            transform.set_random_state(0)
        offsets = []
        for radius in np.linspace(40, 45, 12):
            before = disc(radius)
            result = transform({"image": before, "label": before})
            image, label = np.asarray(result["image"]), np.asarray(result["label"])
            offsets.append(np.subtract(center_of_mass(label[0]), center_of_mass(image[0])))
            moved += not np.array_equal(image, before.numpy())
        assert np.abs(np.mean(offsets, 0)).max() < 0.12, type(transform).__name__
    assert moved
