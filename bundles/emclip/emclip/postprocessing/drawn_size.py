"""Structures drawn larger or smaller by one factor: as the experts of another hospital draw them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage
from torch import Tensor

from shared.core.errors import InputError

LEAST, MOST = 0.5, 2.0  # factors beyond which it is no matter of drawing


def scale_mask(mask: np.ndarray, factor: float) -> np.ndarray:
    """Scale a mask about its centroid in its first two axes: in a volume, within its slices.

    Args:
        mask: (X, Y[, Z]), bool.
        factor: of diameters. What grows over the edge of the image is cut.

    Returns:
        A mask of the same shape; an empty one stays empty.
    """
    if factor == 1 or not mask.any():
        return mask
    scale = np.array([1 / factor, 1 / factor, 1][: mask.ndim])
    centroid = np.array(ndimage.center_of_mass(mask))
    return ndimage.affine_transform(mask.astype(np.float32), scale, centroid * (1 - scale), order=1) > 0.5


class DrawnSized(MapTransform):
    """`scale_mask` of some structures in masks (S, X, Y[, Z]) by key.

    Args:
        keys: of the masks.
        structures: their names, in the order of the channels.
        factors: a factor by name, of the structures to scale.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: a name that is not among `structures`, or a factor outside [`LEAST`, `MOST`].
    """

    def __init__(
        self,
        keys: KeysCollection,
        structures: Sequence[str],
        factors: Mapping[str, float],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        names = list(structures)
        if not (isinstance(factors, Mapping) and all(n in names and _possible(f) for n, f in factors.items())):
            raise InputError(
                f"drawn_size is {factors}: give structures ({', '.join(names)}) and factors from {LEAST} to {MOST}, "
                f"such as \"{{'{names[0]}': 0.9}}\", or null for none"
            )
        self.factors = {names.index(name): float(factor) for name, factor in factors.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` in which these structures have another size."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks: Tensor = result[key].clone()
            for channel, factor in self.factors.items():
                scaled = scale_mask(masks[channel].detach().cpu().numpy() > 0, factor)
                masks[channel] = torch.as_tensor(scaled, dtype=masks.dtype, device=masks.device)
            result[key] = masks
        return result


def _possible(factor: Any) -> bool:
    return isinstance(factor, (int, float)) and LEAST <= factor <= MOST
