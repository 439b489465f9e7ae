"""Convex structures: an optic disc is round, even where vessels cross its border."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from skimage.morphology import convex_hull_image
from torch import Tensor

from shared.core.errors import InputError


def convex_hull(mask: Tensor) -> Tensor:
    """Fill holes and dents: all pixels whose centres lie in the convex hull of the mask's pixel centres.

    Args:
        mask: (H, W) of 0 and 1.

    Returns:
        Mask of the same shape, type and device. Masks without an area (empty, one pixel, pixels on one line) stay.
    """
    found = mask.detach().cpu().numpy() != 0
    rows, columns = found.any(1).nonzero()[0], found.any(0).nonzero()[0]
    if not len(rows):
        return mask
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # skimage takes seconds for large pictures
    with warnings.catch_warnings():  # without an area skimage warns and returns an empty mask
        warnings.simplefilter("ignore", UserWarning)
        found[box] |= convex_hull_image(found[box], offset_coordinates=False)
    return torch.as_tensor(found, dtype=mask.dtype, device=mask.device)


class ConvexHulld(MapTransform):
    """Replace some structures in masks (S, H, W) by their convex hulls.

    Args:
        keys: keys of the masks.
        structures: names of the structures, in the order of the channels.
        convex: names of the convex structures.
        allow_missing_keys: skip absent keys instead of raising.

    Raises:
        InputError: `convex` has an unknown name, or a mask has more than two spatial dimensions.
    """

    def __init__(
        self,
        keys: KeysCollection,
        structures: Sequence[str],
        convex: Sequence[str],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        names = list(structures)
        if isinstance(convex, str) or any(name not in names for name in convex):
            raise InputError(f"convex is {convex}: give a list of structures ({', '.join(names)}), or null for none")
        self.channels = [names.index(name) for name in convex]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with convex structures."""
        result = dict(data)
        for key in self.key_iterator(result):
            masks = result[key].clone()
            if masks.ndim != 3:
                raise InputError(f"masks of shape {tuple(masks.shape)} are not pictures: set convex to null")
            for channel in self.channels:
                masks[channel] = convex_hull(masks[channel])
            result[key] = masks
        return result
