"""Of several organs' masks, the one place where they lie together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from skimage.measure import label as connected_pieces
from torch import Tensor


def common_piece(masks: Tensor) -> Tensor:
    """Keep one connected piece of the union of masks: that which most of the structures say is theirs.

    Every structure has one vote, shared among the pieces by its volume in each: a large blob of one structure elsewhere
    does not outvote a heart (our choice; the largest piece of the union would let it).

    Args:
        masks: (S, ...) of 0 and 1, one or more spatial dimensions; diagonal neighbours are connected.

    Returns:
        Masks of the same shape and type, zero outside that piece.
    """
    found = masks.detach().cpu().numpy() != 0
    pieces = connected_pieces(found.any(0))
    if pieces.max() < 2:
        return masks
    volumes = np.stack([np.bincount(pieces[mask], minlength=pieces.max() + 1) for mask in found])  # (S, 1 + pieces)
    votes = (volumes / np.maximum(volumes.sum(1, keepdims=True), 1)).sum(0)
    return masks * torch.as_tensor(pieces == votes.argmax(), device=masks.device)


class KeepCommonPieced(MapTransform):
    """`common_piece` of masks (S, ...) by key.

    Args:
        keys: of the masks.
        allow_missing_keys: skip absent keys instead of raising.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with one piece of each."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = common_piece(result[key])
        return result
