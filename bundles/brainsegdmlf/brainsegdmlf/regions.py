"""Label values and regions: a region is a union of label values, regions may overlap (BraTS: ET in TC in WT)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform


class LabelToRegionsd(MapTransform):
    """Turn a label map (1, ...) into one mask a region (R, ...), float32.

    Args:
        keys: keys of label maps.
        regions: name of a region -> the label values that it unites, in channel order.
    """

    def __init__(
        self, keys: KeysCollection, regions: Mapping[str, Sequence[int]], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = {name: list(values) for name, values in regions.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with masks."""
        result = dict(data)
        for key in self.key_iterator(result):
            label = result[key]
            plain = torch.as_tensor(label)[0]
            masks = [
                torch.isin(plain, torch.tensor(v, dtype=plain.dtype, device=plain.device))
                for v in self.regions.values()
            ]
            stacked = torch.stack(masks).float()
            result[key] = MetaTensor(stacked, meta=label.meta) if isinstance(label, MetaTensor) else stacked
        return result


class RegionsToLabeld(MapTransform):
    """Turn masks (R, ...) into one label map (1, ...), uint8: regions are painted in order, later ones on top.

    Args:
        keys: keys of masks, 0 or 1.
        values: the label value that each region paints, in channel order (BraTS: WT 2, TC 1, ET 4).
    """

    def __init__(self, keys: KeysCollection, values: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values = list(values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks = result[key]
            plain = torch.as_tensor(masks) > 0.5
            label = torch.zeros_like(plain[:1], dtype=torch.uint8)
            for mask, value in zip(plain, self.values):
                label[0][mask] = value
            result[key] = MetaTensor(label, meta=masks.meta) if isinstance(masks, MetaTensor) else label
        return result
