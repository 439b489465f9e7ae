"""What several organs' masks must have in common: one place where they lie together, a cavity inside its wall."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from skimage.measure import label as connected_pieces
from torch import Tensor
from torch.nn import functional as F

from shared.core.errors import InputError

REACH = 2  # pixels between a cavity and its wall that still count as touching
WALLED = 0.25  # least share of a cavity's rim that is wall (our choice; half costs ACDC's validation true slices)


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


def walled(cavity: Tensor, wall: Tensor) -> Tensor:
    """Take away, slice by slice, a cavity whose rim is not wall by a quarter: above the heart's base lies an atrium.

    In the 597 slices of ACDC's training labels that show the left ventricle, 0.80 of its rim or more is myocardium; a
    network's walls have gaps.

    Args:
        cavity, wall: (H, W) or (H, W, D) of 0 and 1.

    Returns:
        The cavity, of the same shape and type.
    """
    inside, muscle = (x.float().reshape(*x.shape[:2], -1).permute(2, 0, 1)[:, None] for x in (cavity, wall))
    rim = F.max_pool2d(inside, 2 * REACH + 1, stride=1, padding=REACH) - inside
    kept = (rim * muscle).sum((1, 2, 3)) >= WALLED * rim.sum((1, 2, 3))  # (D,)
    return cavity * kept.to(cavity.dtype).reshape(cavity.shape[2:])


class KeepWalledd(MapTransform):
    """`walled` in masks (S, H, W) or (S, H, W, D) by key.

    Args:
        keys: of the masks.
        structures: their names, in the order of the channels.
        cavity_and_wall: names of the two.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: not two names, or one that is not among `structures`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        structures: Sequence[str],
        cavity_and_wall: Sequence[str],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        names = list(structures)
        unknown = [name for name in cavity_and_wall if name not in names]
        if unknown or isinstance(cavity_and_wall, str) or len(cavity_and_wall) != 2:
            choice = f"give two of the structures ({', '.join(names)}), or null for none"
            raise InputError(f"cavity_and_wall is {cavity_and_wall}: {choice}")
        self.cavity, self.wall = map(names.index, cavity_and_wall)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` without cavities that have no wall."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks = result[key].clone()
            masks[self.cavity] = walled(masks[self.cavity], masks[self.wall])
            result[key] = masks
        return result
