"""A chain of transforms for some of its keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Invertd, Orientationd, Spacingd

from shared.transforms.restrict import restrict

BOTH = ["image", "label"]
AFFINE = torch.tensor(np.diag([-1.0, 1.0, 3.0, 1.0]))


def chain(keys, mode) -> list:
    return [
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, pixdim=(2, 2, -1), mode=mode),
        CropForegroundd(keys, source_key="image", allow_smaller=True),
    ]


@pytest.fixture
def case() -> dict:
    torch.manual_seed(0)
    image = torch.zeros(1, 12, 10, 4)
    image[:, 2:9, 3:8] = torch.rand(1, 7, 5, 4) + 0.5
    return {"image": MetaTensor(image, affine=AFFINE), "label": MetaTensor((image > 1).float(), affine=AFFINE)}


def test_images_become_the_same_and_labels_stay(case):
    alone = Compose(chain("image", "bilinear"))({"image": case["image"]})
    found = Compose(restrict(chain(BOTH, ["bilinear", "nearest"]), "image"))(case)
    assert torch.equal(found["image"], alone["image"]) and torch.equal(found["image"].affine, alone["image"].affine)
    assert torch.equal(found["label"], case["label"]) and torch.equal(found["label"].affine, AFFINE)


def test_the_original_chain_still_takes_both(case):
    transforms = chain(BOTH, ["bilinear", "nearest"])
    before = Compose(transforms)(case)
    restrict(transforms, "image")
    after = Compose(transforms)(case)
    assert all(torch.equal(before[key], after[key]) for key in BOTH)
    assert after["label"].shape == after["image"].shape != case["label"].shape


def test_a_prediction_returns_to_the_grid_of_the_image(case):
    preprocessing = Compose(restrict(chain(BOTH, ["bilinear", "nearest"]), "image"))
    data = preprocessing(case)
    data["pred"] = MetaTensor(torch.ones_like(data["image"]), meta=data["image"].meta)
    found = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True)(data)
    assert found["pred"].shape == case["image"].shape and torch.allclose(found["pred"].affine, AFFINE)


def test_keys_in_another_order_are_refused():
    with pytest.raises(ValueError, match="Orientationd has the keys label, image: let them begin with image"):
        restrict([Orientationd(["label", "image"], axcodes="RAS", labels=None)], "image")
