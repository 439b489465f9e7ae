"""Intensity transforms of the foreground alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform, Randomizable


class OnForegroundd(Randomizable, MapTransform):
    """Apply intensity transforms, then put back exact zeros where the image was zero: air, missing sequences.

    Args:
        keys: keys of images; the transforms themselves name the same keys.
        transforms: MONAI dictionary transforms that keep the shape.
    """

    def __init__(self, keys: KeysCollection, transforms: Sequence[Any], allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transforms = Compose(transforms)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> OnForegroundd:
        """Seed the transforms, which MONAI's `Compose` does not find by itself."""
        self.transforms.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with transformed foreground."""
        result = dict(data)
        air = {key: result[key] == 0 for key in self.key_iterator(result)}
        result = dict(self.transforms(result))
        for key, mask in air.items():
            result[key] = result[key].masked_fill(mask, 0)
        return result
