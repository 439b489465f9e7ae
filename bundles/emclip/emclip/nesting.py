"""Augmentation of nested structures: larger and smaller cups in a disc, thicker and thinner heart walls."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple_rep
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 30  # pixels; smaller structures are left unchanged


class RandNestedd(RandomizableTransform, MapTransform):
    """Move the inside of a structure towards its centre or away from it, and keep the outside::

        y(p) = x( c + rho^(gamma - 1) (p - c) )   where rho = 1/2 sqrt( (p - c)^T S^-1 (p - c) ) < 1

    c and S are mean and covariance of the structure's pixels; rho is 1 on the border of an ellipse. A point at rho_0
    moves to rho_0^(1 / gamma): with gamma 0.5 a cup of 0.8 disc diameters shrinks to 0.64. The size of a cup and the
    thickness of a heart's wall differ more between two hospitals than within one.

    Args:
        keys: keys of images (C, H, W), including the label.
        labels: label values of the structure and of everything inside it.
        prob: probability of a change.
        gamma: range of gamma, above 0; drawn uniformly in its logarithm.
        mode: "bilinear" or "nearest", one for all keys or one per key.
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
        """Return a copy of `data`; structures below `SMALLEST` pixels stay unchanged."""
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
    """Compute where each output pixel is sampled, as `torch.nn.functional.grid_sample` expects it.

    Args:
        structure: (H, W) bool.
        gamma: below 1 shrinks the inside, above 1 enlarges it.

    Returns:
        (H, W, 2) float32, x before y, in [-1, 1] inside the image; None if the structure is too small or a line.
    """
    places = structure.nonzero().double()  # (n, 2), row before column
    if len(places) < SMALLEST:
        return None
    middle, spread = places.mean(0), torch.cov(places.T)
    if torch.linalg.det(spread) < 1:  # a line
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
    """Sample an image (C, H, W) of any dtype at the places of a grid."""
    read = F.grid_sample(picture[None].float(), grid[None], mode, padding_mode="border", align_corners=False)
    return read[0].to(picture.dtype)
