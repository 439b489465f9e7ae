"""A cavity inside its wall: the left ventricle is kept where muscle surrounds it, not where it is largest."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage
from skimage.measure import label as connected_pieces

from shared.core.errors import InputError

REACH = 2  # width of a cavity's rim in pixels
RIM_PER_WALL = 4  # at least one pixel in four of a cavity's rim is wall; with one in two, ACDC's weak walls lose slices


def cavity_in_wall(cavity: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """Keep the pieces of a cavity that its wall surrounds, and cut off the slices above or below the wall.

    The rim of a cavity are the pixels up to `REACH` beside it in the same slice. Its score is the wall in the rim less
    a quarter of the rim, see `RIM_PER_WALL`.

    1. The piece with the highest score is kept, and further pieces of positive score in slices where no better piece
       lies, as on both sides of a slice in which the network missed the cavity.
    2. Of the stack, the run of slices with the highest sum of scores is kept. Slices with a gap in the wall stay
       between slices with a wall; an atrium or the aorta at the end of the stack goes.

    Both steps repeat until nothing changes. Voxels are only removed, and never all: without any score above zero the
    largest piece is kept. The result does not depend on the thickness of the slices.

    Args:
        cavity, wall: (H, W) or (H, W, D), bool, with slices along the last axis.

    Returns:
        The cavity, of the same shape.
    """
    if not cavity.any():
        return cavity
    stack = cavity.reshape(*cavity.shape[:2], -1)
    (rows, columns, _), result = stack.nonzero(), np.zeros_like(stack)
    box = tuple(slice(max(axis.min() - REACH, 0), axis.max() + REACH + 1) for axis in (rows, columns))
    before, kept, muscle = None, stack[box], wall.reshape(stack.shape)[box]
    while before is None or (kept != before).any():
        before = kept
        kept = _walled_slices(_walled_pieces(before, muscle), muscle)
    result[box] = kept
    return result.reshape(cavity.shape)


def _scores(cavity: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """Return the score of each slice (D,), in quarters of a pixel."""
    rim = ndimage.maximum_filter(cavity, (2 * REACH + 1, 2 * REACH + 1, 1)) & ~cavity
    return RIM_PER_WALL * (rim & wall).sum((0, 1)) - rim.sum((0, 1))


def _walled_pieces(cavity: np.ndarray, wall: np.ndarray) -> np.ndarray:
    pieces = connected_pieces(cavity)
    if pieces.max() < 2:
        return cavity
    masks = [pieces == number for number in range(1, pieces.max() + 1)]
    ranks = [(int(_scores(mask, wall).sum()), int(mask.sum())) for mask in masks]
    if max(ranks)[0] <= 0:
        ranks = [(0, size) for _, size in ranks]
    kept, taken = np.zeros_like(cavity), np.zeros(cavity.shape[-1], bool)
    for rank in sorted(set(ranks), reverse=True):
        if rank[0] <= 0 and kept.any():
            break
        equal = [mask for mask, other in zip(masks, ranks) if other == rank and not (mask.any((0, 1)) & taken).any()]
        for mask in equal:  # equal pieces stay together, so that the result does not depend on the direction of an axis
            kept |= mask
            taken |= mask.any((0, 1))
    return kept


def _walled_slices(cavity: np.ndarray, wall: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0], _scores(cavity, wall).cumsum()])
    sums = np.triu(total[None] - total[:, None])  # (first, one after the last)
    if sums.max() <= 0:
        return cavity
    firsts, ends = (sums == sums.max()).nonzero()
    kept = np.zeros_like(cavity)
    kept[..., firsts.min() : ends.max()] = cavity[..., firsts.min() : ends.max()]
    return kept


class CavityInWalld(MapTransform):
    """Keep a cavity inside its wall in masks (S, H, W) or (S, H, W, D), see `cavity_in_wall`.

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
        """Return a copy of `data` in which the cavity lies inside its wall."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks = result[key].clone()
            cavity, wall = (masks[i].detach().cpu().numpy() > 0 for i in (self.cavity, self.wall))
            kept = cavity_in_wall(cavity, wall)
            masks[self.cavity] = torch.as_tensor(kept, dtype=masks.dtype, device=masks.device)
            result[key] = masks
        return result
