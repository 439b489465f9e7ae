"""Label maps of pictures are transposed for viewers."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from shared.serving.viewer import PictureForViewerd


def test_label_map_of_a_picture_is_transposed():
    data = {"pred": MetaTensor(torch.arange(6).view(1, 2, 3)), "image": MetaTensor(torch.zeros(3, 2, 3))}
    turned = PictureForViewerd("pred")(data)
    assert turned["pred"].tolist() == [[0, 3], [1, 4], [2, 5]] and turned["pred"].dtype == torch.uint8
    assert tuple(turned["image"].meta["spatial_shape"]) == (3, 2)
