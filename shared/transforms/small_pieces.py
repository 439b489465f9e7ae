"""Masks without pieces that are too small to be what is sought."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage


class RemoveSmallPiecesd(MapTransform):
    """Remove connected pieces below a volume, region by region.

    Voxels belong together if they share a face, an edge or a corner. MONAI's `RemoveSmallObjectsd` would join pieces
    of different regions, and takes the product of the voxel's sides for its volume, also where the grid is sheared.

    Args:
        keys: keys of masks (R, X, Y, Z) of 0 and 1, with an affine in mm.
        smallest: volume in mm³ that a piece must have to stay; 0 keeps all.
        allow_missing_keys: skip absent keys instead of raising.
    """

    def __init__(self, keys: KeysCollection, smallest: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.smallest = smallest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with masks that lack the small pieces."""
        result = dict(data)
        for key in self.key_iterator(result) if self.smallest > 0 else ():
            small = [small_pieces(mask.cpu().numpy() > 0, self._least(result[key])) for mask in result[key].as_tensor()]
            result[key] = result[key].masked_fill(torch.from_numpy(np.stack(small)).to(result[key].device), 0)
        return result

    def _least(self, mask: MetaTensor) -> float:
        """Return the smallest number of voxels."""
        voxel = float(np.abs(np.linalg.det(np.asarray(mask.affine, float)[:3, :3])))
        return self.smallest / voxel - 1e-6  # a piece of exactly the smallest volume stays


def small_pieces(mask: np.ndarray, least: float) -> np.ndarray:
    """Return the pieces of a mask with fewer than `least` voxels.

    Args:
        mask: bool (X, Y, Z).
        least: number of voxels.

    Returns:
        bool (X, Y, Z).
    """
    small = np.zeros_like(mask)
    box = ndimage.find_objects(mask.astype(np.uint8))
    if box:
        pieces, _ = ndimage.label(mask[box[0]], np.ones((3,) * mask.ndim))
        counts = np.bincount(pieces.ravel())
        counts[0] = mask.size
        small[box[0]] = (counts < least)[pieces]
    return small
