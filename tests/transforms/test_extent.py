"""A volume of the wrong size in space is refused in one line, thin slabs and single slices are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from shared.transforms.extent import CheckExtentd
from tests.bundles.running import input_error

CHECK = CheckExtentd("image", (30, 600))


def image(shape: tuple[int, int, int], *spacing: float) -> dict:
    return {"case_id": "p1", "image": MetaTensor(torch.zeros(1, *shape), affine=np.diag([*spacing, 1]))}


@pytest.mark.parametrize(
    "shape, spacing",
    [
        ((182, 218, 182), (1, 1, 1)),
        ((256, 256, 1), (1, 1, 5)),
        ((1, 200, 200), (1, 1, 1)),
        ((512, 512, 30), (0.45,) * 3),
    ],
)
def test_heads_slabs_and_slices_pass(shape, spacing):
    item = image(shape, *spacing)
    assert CHECK(item)["image"] is item["image"]


@pytest.mark.parametrize(
    "factor, size", [(0.001, "0.18 x 0.22 x 0.18"), (0.1, "18 x 22 x 18"), (10, "1.8e+03"), (1000, "1.8e+05")]
)
def test_a_wrong_unit_is_named(factor, size):
    line = input_error(CHECK, image((180, 220, 180), factor, factor, factor))
    assert line.startswith(f"case p1: it covers {size}") and "\n" not in line
    assert "mm where 30 to 600 mm are expected: correct the unit or the voxel size in its header" in line
