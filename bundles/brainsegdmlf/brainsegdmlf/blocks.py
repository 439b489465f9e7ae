"""Blocks of BrainSegDMLF: adapt the streams to a stage, inject the fusion into it, and SAM's plain upsampling."""

from typing import NamedTuple

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from shared.layers.modality_fusion import FusionOutput


class ModalityWeights(NamedTuple):
    """Weights of the sequences in one fusion: per_image (B, M), per_position (B, M, h, w); over M each sums to one."""

    per_image: Tensor
    per_position: Tensor


def weights_of(fusion: FusionOutput, height: int, width: int) -> ModalityWeights:
    """Return the weights of a fusion, those per position as maps of height x width."""
    maps = fusion.position_weights.transpose(1, 2).unflatten(2, (height, width))
    return ModalityWeights(fusion.image_weights, maps)


class StreamAdapter(nn.Module):
    """Bring the modality streams to the resolution and width of the next encoder stage.

    With SAM's ViT, which keeps both, this is the identity. For a pyramid such as TinyViT it pools and projects.

    Args:
        in_channels, out_channels: of the stage before and of the next one.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project: nn.Module = nn.Identity() if in_channels == out_channels else nn.Linear(in_channels, out_channels)

    def forward(self, streams: Tensor, height: int, width: int, hidden: Tensor) -> Tensor:
        """Map streams (B, height * width, M, C) to (B, h * w, M, C'), for `hidden` (B, h, w, C')."""
        if hidden.shape[1] != height or hidden.shape[2] != width:
            batch, _, modalities, channels = streams.shape
            maps = streams.permute(0, 2, 3, 1).reshape(batch * modalities, channels, height, width)
            maps = F.adaptive_avg_pool2d(maps, (hidden.shape[1], hidden.shape[2]))
            streams = maps.reshape(batch, modalities, channels, -1).permute(0, 3, 1, 2)
        return self.project(streams)


class GatedInjection(nn.Module):
    """Inject the fused sequences into the encoder: H <- H + alpha F.

    The gate alpha in R^C is zero at the start, so the encoder starts exactly as it was trained.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor, fused: Tensor) -> Tensor:
        """Add the gated fusion to the encoder's tokens; all (B, h, w, C)."""
        return hidden + self.alpha * fused


class SamUpsampling(nn.Module):
    """Upsample the deepest features by four as SAM's mask decoder does (Kirillov 2023), then bilinearly to the image.

    Replaces the layer-by-layer decoder in an ablation.

    Args:
        in_channels: of the deepest features.
        num_classes: channels of a mask.
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
        """Map the last of `features`, (B, C, h, w), to logits [(B, num_classes, H, W)] of the size of details[0]."""
        size = [details[0].shape[-2], details[0].shape[-1]]
        return [F.interpolate(self.upscale(features[-1]), size=size, mode="bilinear", align_corners=False)]
