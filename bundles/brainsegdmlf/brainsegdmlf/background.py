"""The background of skull-stripped images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

BACKGROUND_SHARE = 0.1  # smallest share of all voxels that counts as background


class ZeroBackgroundd(MapTransform):
    """Set the constant background of skull-stripped images to exactly zero, channel by channel.

    Files with an intercept decode empty space to a small constant; nonzero normalisation and the search for missing
    sequences would take it for tissue. The value of the first voxel counts as background if at least a tenth of all
    voxels have it; images with noise in the air stay unchanged. A channel without a value above zero, as CT units may
    give, is shifted by its background instead, so that its tissue lies above zero.

    Args:
        keys: keys of images (M, X, Y, Z).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with zero backgrounds."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            plain = torch.as_tensor(image)
            first = plain.flatten(1)[:, 0]
            air = (plain.flatten(1) == first[:, None]).view(plain.shape)
            constant = (first != 0) & (air.flatten(1).float().mean(dim=1) >= BACKGROUND_SHARE)
            if constant.any():
                zeroed = image.masked_fill(air & constant.view(-1, *[1] * (plain.ndim - 1)), 0)
                below = constant & (plain.flatten(1) <= 0).all(dim=1) & (zeroed != 0).flatten(1).any(dim=1)
                for channel in below.nonzero().flatten().tolist():
                    zeroed[channel] = plain[channel] - first[channel]
                result[key] = zeroed
        return result
