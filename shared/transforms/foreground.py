"""Intensity transforms of the foreground alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform


class OnForegroundd(MapTransform):
    """Apply intensity transforms, then put back exact zeros where the image was zero: air, missing sequences.

    Args:
        keys: keys of images; the transforms themselves name the same keys.
        transforms: MONAI dictionary transforms that keep the shape.
    """

    def __init__(self, keys: KeysCollection, transforms: Sequence[Any], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transforms = Compose(transforms)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with transformed foreground."""
        result = dict(data)
        air = {key: result[key] == 0 for key in self.key_iterator(result)}
        result = dict(self.transforms(result))
        for key, mask in air.items():
            result[key] = result[key].masked_fill(mask, 0)
        return result
