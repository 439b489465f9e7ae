"""Small parts of BrainSegDMLF that stand between its named modules."""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F


class StreamAdapter(nn.Module):
    """Bring the modality streams to the resolution and width of the next encoder stage.

    SAM's ViT keeps both, and then this is the identity; a pyramid such as TinyViT pools and widens (our choice).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project: nn.Module = nn.Identity() if in_channels == out_channels else nn.Linear(in_channels, out_channels)

    def forward(self, streams: Tensor, height: int, width: int, hidden: Tensor) -> Tensor:
        """(B, height * width, M, C) -> (B, h * w, M, C'), where `hidden` is (B, h, w, C')."""
        if hidden.shape[1] != height or hidden.shape[2] != width:
            batch, _, modalities, channels = streams.shape
            maps = streams.permute(0, 2, 3, 1).reshape(batch * modalities, channels, height, width)
            maps = F.adaptive_avg_pool2d(maps, (hidden.shape[1], hidden.shape[2]))
            streams = maps.reshape(batch, modalities, channels, -1).permute(0, 3, 1, 2)
        return self.project(streams)


class GatedInjection(nn.Module):
    """H + alpha F with alpha = 0 at the start: the encoder begins exactly as it was trained (DESIGN.md section 3).

    One alpha a channel (our choice): a single one would have to suit all channels, and stays near zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor, fused: Tensor) -> Tensor:
        """Both (B, h, w, C) -> (B, h, w, C)."""
        return hidden + self.alpha * fused


class SamUpsampling(nn.Module):
    """Upsample the deepest features by four as SAM's mask decoder does (Kirillov 2023), then bilinearly to the image.

    Stands in for the layer-by-layer decoder in the ablation; same call.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        half, quarter = max(8, in_channels // 4), max(8, in_channels // 8)
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(in_channels, half, 2, stride=2),
            LayerNorm2d(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(quarter, num_classes, 1),
        )

    def forward(self, features: list[Tensor], details: list[Tensor]) -> list[Tensor]:
        """The last of `features` (B, C, h, w), at the size of details[0] (B, M, H, W) -> [(B, num_classes, H, W)]."""
        size = [details[0].shape[-2], details[0].shape[-1]]
        return [F.interpolate(self.upscale(features[-1]), size=size, mode="bilinear", align_corners=False)]
