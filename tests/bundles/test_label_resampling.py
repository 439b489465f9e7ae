"""A label stays over its image: what resizes and moves both has no offset between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import RandomizableTransform

from tests.bundles.emclip.helpers import workflow as fundus
from tests.bundles.tmca.helpers import workflow as chest

SIDE = 224
TRANSFORMS = [
    (bundle, part)
    for bundle, parts in ((fundus, ("fitting_both", "train#shape_transforms")), (chest, ("fitting_both",)))
    for part in parts
]


def middle(mask: Any) -> torch.Tensor:
    """Centre of mass of (1, H, W) in pixels, row before column."""
    mask = torch.as_tensor(np.asarray(mask)[0]).double()
    rows, columns = torch.meshgrid(*(torch.arange(n).double() for n in mask.shape), indexing="ij")
    return torch.stack([(mask * rows).sum(), (mask * columns).sum()]) / mask.sum()


def disc(radius: float) -> torch.Tensor:
    """A disc of ones a little off the middle, (1, SIDE, SIDE)."""
    place = torch.arange(SIDE).float()
    return ((place[:, None] - 105) ** 2 + (place[None] - 117) ** 2 < radius**2).float()[None]


@pytest.mark.parametrize(("bundle", "part"), TRANSFORMS, ids=lambda x: x if isinstance(x, str) else x.__module__)
def test_image_and_label_keep_one_middle(bundle, part, tmp_path):
    """`nearest` takes each pixel's upper left neighbour: half a pixel off, a hundredth of Dice on an optic disc."""
    parser = bundle("train", "train", dataset_dir=str(tmp_path), output_dir=str(tmp_path), image_size=[96, 96]
                    if bundle is fundus else 96).parser  # fmt: skip
    moved = 0
    for transform in parser.get_parsed_content(part):
        if "label" not in transform.keys or not hasattr(transform, "mode"):
            continue
        if isinstance(transform, RandomizableTransform):
            transform.prob = 1.0
            transform.set_random_state(0)
        offsets = []
        for radius in np.linspace(40, 45, 12):
            result = transform({"image": disc(radius), "label": disc(radius)})
            offsets.append(middle(result["label"]) - middle(result["image"]))
            moved += result["image"].shape != (1, SIDE, SIDE) or not torch.equal(
                torch.as_tensor(result["image"]), disc(radius)
            )
        assert torch.stack(offsets).mean(0).abs().max() < 0.12, type(transform).__name__
    assert moved
