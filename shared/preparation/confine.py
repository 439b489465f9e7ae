"""A mask of a head from which the skull was removed lies within its brain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from shared.io.sources import load_volume
from shared.preparation.cache import BRAIN
from shared.preparation.load import record_in


class ConfineToBraind(MapTransform):
    """Set a result outside the brain to zero, if the brain was found by the preparation.

    A network that works at another voxel size than the scan's gives probabilities back by interpolation, which spreads
    them by up to half a voxel beyond the brain that was cut out.

    Args:
        keys: keys of results (C, X, Y, Z) on the grid of the prepared sequences.
        source_key: key of the image of `shared.preparation.load.LoadPreparedd`, whose record names the brain mask.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        The result, zero outside the brain; unchanged if the preparation did not remove the skull.
    """

    def __init__(self, keys: KeysCollection, source_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with confined results."""
        result = dict(data)
        record = record_in(result[self.source_key])
        if "folder" not in record or "remove the skull" not in record["steps"]:
            return result
        outside = load_volume(Path(record["folder"]) / BRAIN, BRAIN).as_tensor() == 0
        for key in self.key_iterator(result):
            result[key] = result[key].masked_fill(outside.to(result[key].device), 0)
        return result
