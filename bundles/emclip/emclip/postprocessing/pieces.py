"""All structures in one connected piece."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from skimage.measure import label as connected_pieces
from torch import Tensor


def common_piece(masks: Tensor) -> Tensor:
    """Keep one connected piece of the union of the masks: the one with most votes of the structures.

    Every structure has one vote, which it divides among the pieces by its volume in each. A large false piece of one
    structure therefore does not replace the piece that holds all structures, as it would if the largest piece were
    kept.

    Args:
        masks: (S, ...) of 0 and 1 with one or more spatial dimensions; diagonal neighbours are connected.

    Returns:
        Masks of the same shape and type, zero outside the piece.
    """
    found = masks.detach().cpu().numpy() != 0
    pieces = connected_pieces(found.any(0))
    if pieces.max() < 2:
        return masks
    volumes = np.stack([np.bincount(pieces[mask], minlength=pieces.max() + 1) for mask in found])  # (S, 1 + pieces)
    votes = (volumes / np.maximum(volumes.sum(1, keepdims=True), 1)).sum(0)
    return masks * torch.as_tensor(pieces == votes.argmax(), device=masks.device)


class KeepCommonPieced(MapTransform):
    """Keep the common piece of masks (S, ...), see `common_piece`.

    Args:
        keys: keys of the masks.
        allow_missing_keys: skip absent keys instead of raising.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` in which the structures form one piece."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = common_piece(result[key])
        return result
