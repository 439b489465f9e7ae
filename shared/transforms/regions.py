"""From label values to regions and back. A region unites label values; regions may overlap (BraTS: ET in TC in WT)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from shared.core.errors import InputError

NOT_ANNOTATED = -1  # fills the channel of a region without annotation, which losses and metrics leave out


class LabelToRegionsd(MapTransform):
    """Turn a label map (1, ...) into one mask per region (R, ...), float32.

    Args:
        keys: keys of label maps.
        regions: name of each region and the label values that it unites, in channel order.
        labelled_key: key of the names of the regions that are annotated in a case, e.g. ``labelled``; every other
            region becomes a channel of -1. If None, or if an item lacks the key, all regions are annotated.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: a name under `labelled_key` is not among `regions`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        regions: Mapping[str, Sequence[int]],
        labelled_key: str | None = None,
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = {name: list(values) for name, values in regions.items()}
        self.labelled_key = labelled_key
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with masks."""
        result = dict(data)
        unknown = self._not_annotated(data)
        for key in self.key_iterator(result):
            label = result[key]
            plain = torch.as_tensor(label)[0]
            masks = [
                torch.isin(plain, torch.tensor(v, dtype=plain.dtype, device=plain.device))
                for v in self.regions.values()
            ]
            stacked = torch.stack(masks).float()
            stacked[unknown] = NOT_ANNOTATED
            result[key] = MetaTensor(stacked, meta=label.meta) if isinstance(label, MetaTensor) else stacked
        return result

    def _not_annotated(self, data: Mapping[Hashable, Any]) -> list[int]:
        """Return the channels of the regions without annotation."""
        if self.labelled_key is None or data.get(self.labelled_key) is None:
            return []
        labelled = ensure_tuple(data[self.labelled_key])
        if wrong := [name for name in labelled if name not in self.regions]:
            raise InputError(
                f"case {data.get(self.case_key, 'without id')}: {self.labelled_key} names {wrong[0]!r}, which is not a "
                f"region: choose from {', '.join(self.regions)}, or add it to the config's regions"
            )
        return [channel for channel, name in enumerate(self.regions) if name not in labelled]


class RegionsToLabeld(MapTransform):
    """Turn masks (R, ...) into one label map (1, ...), uint8, by painting regions in order, later ones on top.

    Args:
        keys: keys of masks with values 0 and 1.
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
