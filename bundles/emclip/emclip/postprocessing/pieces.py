"""Plausible arrangement of several structures: all in one connected piece, a cavity inside its wall."""

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

REACH = 2  # width of a cavity's rim in pixels
WALLED = 0.25  # least share of wall in a cavity's rim; 0.5 removes correct slices of ACDC's validation cases


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


def walled(cavity: Tensor, wall: Tensor) -> Tensor:
    """Remove a cavity from the slices in which less than `WALLED` of its rim is wall.

    Above the base of the heart networks mistake an atrium, which has no thick wall, for the ventricle. In all 597
    slices of ACDC's training labels that show the left ventricle, at least 0.80 of its rim is myocardium; the walls
    that a network predicts have gaps.

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
    """Remove cavities without a wall from masks (S, H, W) or (S, H, W, D), see `walled`.

    Args:
        keys: keys of the masks.
        structures: names of the structures, in the order of the channels.
        cavity_and_wall: names of the cavity and of its wall.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: `cavity_and_wall` is not two of the structures.
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
        """Return a copy of `data` without cavities that lack a wall."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks = result[key].clone()
            masks[self.cavity] = walled(masks[self.cavity], masks[self.wall])
            result[key] = masks
        return result
