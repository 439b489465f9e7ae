"""Temperature scaling of probabilities (Guo et al., ICML 2017)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from shared.transforms.per_region import Numbers, per_region


class Temperatured(MapTransform):
    """Divide the logits of sigmoid probabilities (R, ...) by a temperature.

    Place it after `Invertd`, on the grid of the image, where the temperature was fitted. A temperature above 1 moves
    probabilities towards 0.5, one below 1 away from it. 0, 0.5, 1 and the order of the voxels are kept.

    Args:
        keys: keys of probabilities in [0, 1], one channel per region.
        temperature: above 0; one number, or one per region. 1 changes nothing.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: there is neither one temperature nor one per region.
    """

    def __init__(self, keys: KeysCollection, temperature: Numbers = 1.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.temperature = temperature

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with scaled probabilities."""
        result = dict(data)
        for key in self.key_iterator(result):
            temperature = per_region("temperature", self.temperature, result[key])
            if not bool((temperature == 1).all()):
                # Interpolation may leave [0, 1] by a rounding error. The logits of 0 and 1 are infinite, which is fine.
                result[key] = torch.sigmoid(torch.logit(result[key].clamp(0, 1)) / temperature)
        return result
