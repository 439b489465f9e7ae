"""The background of skull-stripped images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Spacingd

BACKGROUND_SHARE = 0.1  # smallest share of all voxels that counts as background
ROUNDING = 1e-5  # of the range of values; integers of 16 bits differ by more
TISSUE_SHARE = 0.49  # of a resampled voxel; not 0.5, which voxels halfway between two others have exactly


class ZeroBackgroundd(MapTransform):
    """Set the constant background of skull-stripped images to exactly zero, channel by channel.

    Files with an intercept decode empty space to a small constant, and programs that resample leave rounding noise
    there; nonzero normalisation and the search for missing sequences would take it for tissue. The value of the first
    voxel counts as background if at least a tenth of all voxels have it, up to 1e-5 of the channel's range; images with
    more noise in the air stay unchanged. A channel without a value above zero, as CT units may give, is shifted by its
    background instead, so that its tissue lies above zero.

    Args:
        keys: keys of images (M, X, Y, Z).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with zero backgrounds."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            plain = torch.as_tensor(image).flatten(1)
            first = plain[:, :1]
            air = (plain - first).abs() <= ROUNDING * (plain.amax(1) - plain.amin(1))[:, None]
            constant = (air & (plain != 0)).any(1) & (air.float().mean(1) >= BACKGROUND_SHARE)
            if constant.any():
                zeroed = image.masked_fill((air & constant[:, None]).view(image.shape), 0)
                below = constant & (first[:, 0] != 0) & (plain <= 0).all(1) & (zeroed != 0).flatten(1).any(1)
                for channel in below.nonzero().flatten().tolist():
                    shifted = (plain[channel] - first[channel]).masked_fill(air[channel], 0)
                    zeroed[channel] = shifted.view(image.shape[1:])
                result[key] = zeroed
        return result


class TissueSpacingd(Spacingd):
    """Resample to a voxel size, as `Spacingd`, and keep the background of the first key exactly zero.

    Interpolation gives voxels beside the brain a trace of its intensity, down to rounding noise that differs between
    two copies of one scan with another orientation or origin. Nonzero normalisation and the crop would count them as
    tissue. So a voxel of which the nonzero voxels of the original make up less than about half becomes zero, channel by
    channel. Images that already have the voxel size stay as they are.

    Args:
        keys: the key of an image (C, X, Y, Z), then those of label maps.
        pixdim, mode, allow_missing_keys, options: of `Spacingd`.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return a copy of `data` with resampled images and label maps."""
        key = self.keys[0]
        image = data[key]
        tissue = MetaTensor((image.as_tensor() != 0).float(), meta=image.meta)
        result: dict[Hashable, Any] = super().__call__(data, lazy)
        share: Any = self.spacing_transform(tissue, mode="bilinear")
        result[key] = result[key].masked_fill(share.as_tensor() < TISSUE_SHARE, 0)
        return result
