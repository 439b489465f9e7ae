"""Augmentation of what lies inside a structure: larger and smaller cups in a disc, thinner and thicker hearts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple_rep
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 30  # pixels of a structure that is still looked into


class RandNestedd(RandomizableTransform, MapTransform):
    """Draw what lies inside a structure towards its middle, or away from it; what lies outside stays as it is::

        y(p) = x( c + rho^(gamma - 1) (p - c) )   where rho = 1/2 sqrt( (p - c)^T S^-1 (p - c) ) < 1

    c and S are mean and covariance of the structure's pixels, so that rho is 1 on the border of an ellipse. A part at
    rho_0 goes to rho_0^(1 / gamma): with gamma 0.5 a cup of 0.8 of its disc's diameter becomes one of 0.64. How large a
    cup is and how thick a heart's wall differ between the patients of two hospitals more than between those of one
    (our choice).

    Args:
        keys: keys of pictures (C, H, W), the label among them.
        labels: values of the structure and of all that lies inside it.
        prob: chance of a change.
        gamma: range from which gamma is drawn, evenly in its logarithm; above 0.
        mode: "bilinear" or "nearest", one for all keys or one each.
        label_key: key of the label (1, H, W).
        allow_missing_keys: skip absent keys instead of raising.
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Sequence[int],
        prob: float = 0.5,
        gamma: Sequence[float] = (0.4, 1.4),
        mode: str | Sequence[str] = ("bilinear", "nearest"),
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.labels = torch.tensor(list(labels))
        self.range = torch.tensor(gamma, dtype=torch.float64).log().tolist()
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`, changed or not; a structure that is hardly there is left alone."""
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        gamma = float(torch.tensor(self.R.uniform(*self.range)).exp())
        grid = nested_grid(torch.isin(torch.as_tensor(result[self.label_key])[0], self.labels), gamma)
        if grid is not None:
            for key, mode in self.key_iterator(result, self.mode):
                result[key] = _sample(torch.as_tensor(result[key]), grid, mode)
        return result


def nested_grid(structure: Tensor, gamma: float) -> Tensor | None:
    """Where each pixel of the result is read, (H, W, 2) as `torch.nn.functional.grid_sample` takes it.

    Args:
        structure: (H, W) bool.
        gamma: below 1 shrinks what is inside.

    Returns:
        float32, x before y, in [-1, 1] inside the picture; None if there are too few pixels to speak of an inside.
    """
    places = structure.nonzero().double()  # (n, 2), row before column
    if len(places) < SMALLEST:
        return None
    middle, spread = places.mean(0), torch.cov(places.T)
    if torch.linalg.det(spread) < 1:  # a line has no inside
        return None
    height, width = structure.shape
    pixels = torch.stack(
        torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij"), dim=-1
    )
    away = pixels - middle
    rho = 0.5 * torch.einsum("hwi,ij,hwj->hw", away, torch.linalg.inv(spread), away).clamp_min(1e-12).sqrt()
    pixels = middle + away * rho.clamp(max=1)[..., None] ** (gamma - 1)
    return ((2 * pixels + 1) / torch.tensor([height, width]) - 1).flip(-1).float()


def _sample(picture: Tensor, grid: Tensor, mode: str) -> Tensor:
    """(C, H, W) of any dtype, read at the places of a grid."""
    read = F.grid_sample(picture[None].float(), grid[None], mode, padding_mode="border", align_corners=False)
    return read[0].to(picture.dtype)
