"""Structures scaled by one factor, as experts of another hospital draw them larger or smaller."""

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

LEAST, MOST = 0.5, 2.0  # range of plausible factors


def scale_mask(mask: np.ndarray, factor: float) -> np.ndarray:
    """Scale a mask about its centroid along its first two axes; volumes are scaled within their slices.

    Args:
        mask: (X, Y[, Z]), bool.
        factor: factor of the diameters. The mask is cut at the edge of the image.

    Returns:
        Mask of the same shape; an empty mask stays empty.
    """
    if factor == 1 or not mask.any():
        return mask
    scale = np.array([1 / factor, 1 / factor, 1][: mask.ndim])
    centroid = np.array(ndimage.center_of_mass(mask))
    return ndimage.affine_transform(mask.astype(np.float32), scale, centroid * (1 - scale), order=1) > 0.5


class DrawnSized(MapTransform):
    """Scale some structures in masks (S, X, Y[, Z]).

    Args:
        keys: keys of the masks.
        structures: names of the structures, in the order of the channels.
        factors: factor of each structure to scale, by name.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: `factors` has an unknown name or a factor outside [`LEAST`, `MOST`].
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
        if not (isinstance(factors, Mapping) and all(n in names and _is_factor(f) for n, f in factors.items())):
            raise InputError(
                f"drawn_size is {factors}: give structures ({', '.join(names)}) and factors from {LEAST} to {MOST}, "
                f"such as \"{{'{names[0]}': 0.9}}\", or null for none"
            )
        self.factors = {names.index(name): float(factor) for name, factor in factors.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with scaled structures."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks: Tensor = result[key].clone()
            for channel, factor in self.factors.items():
                scaled = scale_mask(masks[channel].detach().cpu().numpy() > 0, factor)
                masks[channel] = torch.as_tensor(scaled, dtype=masks.dtype, device=masks.device)
            result[key] = masks
        return result


def _is_factor(factor: Any) -> bool:
    return isinstance(factor, (int, float)) and LEAST <= factor <= MOST
