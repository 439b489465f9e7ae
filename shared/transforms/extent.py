"""Refuse volumes whose size in space is not that of the body part."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from shared.core.errors import InputError
from shared.io.affine import check_extent


class CheckExtentd(MapTransform):
    """Refuse images that are too small or too large in space, as after a wrong unit of length.

    Args:
        keys: keys of images (C, X, Y, Z) with an affine (mm).
        extent_mm: smallest and largest size, see `shared.io.affine.check_extent`.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: the image is too small or too large; one line.
    """

    def __init__(
        self,
        keys: KeysCollection,
        extent_mm: Sequence[float],
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.extent_mm = tuple(extent_mm)
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`, unchanged."""
        for key in self.key_iterator(dict(data)):
            image = data[key]
            try:
                check_extent(tuple(image.shape[1:]), np.asarray(image.affine.cpu(), float), self.extent_mm)
            except ValueError as error:
                raise InputError(f"case {data.get(self.case_key, 'without id')}: {error}") from error
        return dict(data)
