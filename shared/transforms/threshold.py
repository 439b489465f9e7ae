"""Masks from probabilities, with one threshold per region."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import AsDiscrete, MapTransform

from shared.transforms.per_region import Numbers, per_region


class Thresholdd(MapTransform):
    """Turn probabilities (R, ...) into masks of 0 and 1: MONAI's `AsDiscreted` with a threshold per region.

    Args:
        keys: keys of probabilities in [0, 1], one channel per region.
        threshold: probability from which a voxel belongs to the region, in [0, 1]; one number, or one per region.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: there is neither one threshold nor one per region.
    """

    def __init__(self, keys: KeysCollection, threshold: Numbers = 0.5, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.threshold = threshold
        self.discrete = AsDiscrete()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with masks."""
        result = dict(data)
        for key in self.key_iterator(result):
            threshold: Any = per_region("threshold", self.threshold, result[key])
            result[key] = self.discrete(result[key], threshold=threshold)
        return result
