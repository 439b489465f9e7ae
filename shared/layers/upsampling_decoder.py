"""Layer-by-layer upsampling decoder: deep features and full-resolution detail, merged one level at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from shared.core.errors import InputError

NORMS: dict[str, Any] = {"instance": ("instance", {"affine": True}), "batch": "batch"}


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Build a normalisation layer of MONAI.

    Args:
        norm: "instance", statistics of each image by itself; or "batch", which is faster.
        channels: of the features.

    Raises:
        InputError: `norm` is unknown.
    """
    if norm not in NORMS:
        raise InputError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")
    return get_norm_layer(NORMS[norm], spatial_dims=2, channels=channels)


def conv_block(in_channels: int, out_channels: int, stride: int = 1, norm: str = "instance") -> nn.Sequential:
    """Build 3x3 convolution, normalisation, activation: (B, in, H, W) -> (B, out, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        norm_layer(norm, out_channels),
        nn.SiLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Add two 3x3 convolutions to a shortcut: (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, norm: str = "instance") -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(in_channels, out_channels, stride, norm),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            norm_layer(norm, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            pool: nn.Module = nn.AvgPool2d(stride) if stride != 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return SiLU(body + shortcut)."""
        return F.silu(self.body(x) + self.shortcut(x), inplace=True)


class DetailStem(nn.Module):
    """Extract shallow convolutional features of the raw input; small lesions vanish at an encoder's stride of 16.

    Args:
        in_channels: channels of the raw input.
        channels: channels at strides 1, 2, 4, ...; the sides of the input must be multiples of the last stride.
        norm: of `norm_layer`.
    """

    def __init__(self, in_channels: int, channels: Sequence[int] = (8, 24, 48), norm: str = "instance") -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(in_channels, channels[0], 3, padding=1), nn.SiLU(inplace=True))
        ]
        for before, after in zip(channels[:-1], channels[1:]):
            blocks.append(ResidualBlock(before, after, stride=2, norm=norm))
        self.blocks = nn.ModuleList(blocks)
        self.channels = list(channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (B, in_channels, H, W) to one (B, channels[i], H / 2^i, W / 2^i) per stride."""
        details: list[Tensor] = []
        for block in self.blocks:
            image = block(image)
            details.append(image)
        return details


class DecoderLevel(nn.Module):
    """Merge one level: y = ResidualBlock( W_b up(x) + W_l resize(feature) + detail ).

    The sum, as in LinkNet (Chaurasia 2017), costs half of U-Net's concatenation.

    Args:
        below: channels of x, the result of the level below.
        feature_channels: channels of the encoder feature; 0 for a level without one.
        width: channels of the result, and of the detail.
        norm: of `norm_layer`.
    """

    def __init__(self, below: int, feature_channels: int, width: int, norm: str = "instance") -> None:
        super().__init__()
        self.below = nn.Conv2d(below, width, 1)
        self.lateral: nn.Module = nn.Conv2d(feature_channels, width, 1) if feature_channels else nn.Identity()
        self.merge = ResidualBlock(width, width, norm=norm)

    def forward(self, x: Tensor, size: list[int], feature: Tensor | None, detail: Tensor | None) -> Tensor:
        """Map x (B, below, h, w), a feature of any size, detail (B, width, H, W) to (B, width, H, W); [H, W] = size."""
        x = resize(self.below(x), size)  # resample after the convolution, which reduces the channels
        if feature is not None:
            x = x + resize(self.lateral(feature), size)
        if detail is not None:
            x = x + detail
        return self.merge(x)


class LayerwiseUpsamplingDecoder(nn.Module):
    """Merge features of several depths and a detail stem, one level at a time, up to full resolution::

        x_L = start(feature_D)                                       the deepest feature, at its own stride
        x_l = Level( x_{l+1} , feature of this level , detail_l )     the resolution doubles from level to level
        mask_l = head_l( x_l )                                       levels of deep supervision, in training

    The features are taken up from deep to shallow, one per level, and resized to the level (after UNETR, Hatamizadeh
    2022).

    Args:
        in_channels: channels of the features, shallow to deep.
        in_strides: their strides: powers of two, in rising order (equal ones allowed).
        detail_channels: channels of the detail stem at strides 1, 2, 4, ...
        num_classes: channels of a mask.
        deep_supervision: number of mask heads besides the full-resolution one; they run in training only.
        dropout: share of the deepest channels dropped in training.
        prior: initial probability of a sigmoid head at every pixel; rare foreground is learnt sooner from a low value
            (RetinaNet, Lin 2017). None for 0.5.
        norm: of `norm_layer`.

    Raises:
        ValueError: a stride is not a power of two, or the strides do not rise.
        InputError: `norm` is unknown.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        detail_channels: Sequence[int],
        num_classes: int,
        deep_supervision: int = 2,
        dropout: float = 0.0,
        prior: float | None = None,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        deepest = int(in_strides[-1]).bit_length() - 1
        if any(s < 1 or s & (s - 1) for s in in_strides) or list(in_strides) != sorted(in_strides):
            raise ValueError(f"strides must be powers of two in rising order, got {list(in_strides)}")
        widths = [detail_channels[min(i, len(detail_channels) - 1)] for i in range(deepest + 1)]
        self.start = nn.Sequential(
            nn.Conv2d(in_channels[-1], widths[deepest], 1),
            norm_layer(norm, widths[deepest]),
            nn.SiLU(inplace=True),
        )
        self.dropout = nn.Dropout2d(dropout)
        # One entry per level, deep to full resolution: index of its feature and of its detail, -1 for none.
        self.feature_index: list[int] = []
        self.detail_index: list[int] = []
        levels: list[nn.Module] = []
        for step, power in enumerate(range(deepest, -1, -1)):
            feature = max(-1, len(in_channels) - 2 - step)
            detail = power if power < len(detail_channels) else -1
            levels.append(
                DecoderLevel(
                    below=widths[deepest if step == 0 else power + 1],
                    feature_channels=in_channels[feature] if feature >= 0 else 0,
                    width=widths[power],
                    norm=norm,
                )
            )
            self.feature_index.append(feature)
            self.detail_index.append(detail)
        self.levels = nn.ModuleList(levels)
        num_heads = min(deep_supervision, deepest) + 1
        self.first_head = len(levels) - num_heads
        heads = [nn.Conv2d(widths[i], num_classes, 1) for i in range(num_heads - 1, -1, -1)]
        if prior is not None:
            for head in heads:
                nn.init.constant_(torch.as_tensor(head.bias), math.log(prior / (1 - prior)))
        self.heads = nn.ModuleList(heads)

    def forward(self, features: list[Tensor], details: list[Tensor]) -> list[Tensor]:
        """Decode.

        Args:
            features: (B, in_channels[i], H / in_strides[i], W / in_strides[i]), shallow to deep.
            details: (B, detail_channels[i], H / 2^i, W / 2^i).

        Returns:
            logits (B, num_classes, H / 2^i, W / 2^i), full resolution first; in evaluation only the first.
        """
        height, width = details[0].shape[-2], details[0].shape[-1]
        x = self.dropout(self.start(features[-1]))
        decoded: list[Tensor] = []
        for step, level in enumerate(self.levels):
            scale = 1 << (len(self.levels) - 1 - step)
            feature: Tensor | None = None
            detail: Tensor | None = None
            if self.feature_index[step] >= 0:
                feature = features[self.feature_index[step]]
            if self.detail_index[step] >= 0:
                detail = details[self.detail_index[step]]
            x = level(x, [height // scale, width // scale], feature, detail)
            if step >= self.first_head:
                decoded.append(x)
        logits: list[Tensor] = []
        for index, head in enumerate(self.heads):
            if self.training or index == len(self.heads) - 1:
                logits.insert(0, head(decoded[index]))
        return logits


def resize(x: Tensor, size: list[int]) -> Tensor:
    """Resample (B, C, h, w) bilinearly to (B, C, *size)."""
    if x.shape[-2] == size[0] and x.shape[-1] == size[1]:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
