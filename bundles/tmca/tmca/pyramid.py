"""The image pyramid: any convolutional backbone of timm, then one width for all levels and a code of the place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from shared.core.errors import InputError
from shared.core.messages import nearest, reason

STRIDES = (4, 8, 16, 32)
PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:")  # timm's own, of names


def build_backbone(
    name: str = "regnetx_002", pretrained: bool = False, checkpoint: str | None = None
) -> tuple[nn.Module, list[int]]:
    """Build a backbone of timm for grey images, without its head.

    Args:
        name: any of `timm.list_models()` with features at strides 4, 8, 16 and 32; a tag may follow a point, and
            ``hf-hub:`` or ``local-dir:`` may stand before it.
        pretrained: load timm's weights of that name (from its cache, or the network).
        checkpoint: file with the model's weights, in place of timm's.

    Returns:
        the backbone, (B, 1, H, W) -> list of (B, channels[i], H / STRIDES[i], W / STRIDES[i]); and the channels.

    Raises:
        InputError: unknown name (with the nearest known one), weights that cannot be had, or a model whose features
            are of other strides or that takes one size of image only; one line.
    """
    if not name.startswith(PREFIXES) and not timm.is_model(name):
        raise InputError(f"unknown backbone {name!r}: {nearest(name, timm.list_models())}")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise InputError(f"backbone {name}: there is no file {checkpoint}: give the path of its weights")
    state = torch.get_rng_state()
    overlay = None if checkpoint is None else {"file": checkpoint}
    try:
        backbone = _create(name, pretrained=pretrained or checkpoint is not None, pretrained_cfg_overlay=overlay)
    except Exception as error:  # timm raises many kinds, of tags, files, networks and models without features
        raise InputError(
            f"backbone {name} cannot be built ({reason(error)}): choose another, or other weights"
        ) from error
    if checkpoint is not None:  # timm passes over what a file lacks: those weights are as without a file
        torch.set_rng_state(state)
        pairs = zip(backbone.named_parameters(), _create(name).parameters())
        lacking = [layer for (layer, ours), fresh in pairs if ours.ndim > 1 and torch.equal(ours, fresh)]
        if lacking:
            raise InputError(f"backbone {name}: {checkpoint} lacks {len(lacking)} of its weights, such as {lacking[0]}")
    remedy = "choose a convolutional one, such as resnet10t or convnext_tiny"
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, 1, 64, 96))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"backbone {name} does not take images of any size ({reason(error)}): {remedy}") from error
    shapes = [tuple(feature.shape[2:]) for feature in features]
    if shapes != [(64 // stride, 96 // stride) for stride in STRIDES]:
        raise InputError(f"backbone {name} has no features (B, C, H, W) at strides 4, 8, 16 and 32: {remedy}")
    return backbone.train(), [feature.shape[1] for feature in features]


def _create(name: str, **options: Any) -> Any:
    """The model's last four features of a grey image."""
    return timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1), in_chans=1, **options)


class LevelFeatures(nn.Module):
    """One width for all levels: a feature pyramid network (FPN, Lin 2017), plus a code of where each pixel lies.

    From the top down every level learns what the deeper ones know, and sentences speak of places (both our choice).
    Nothing of the text is in it, so its features can be compared with sentences.

    Args:
        in_channels: of the backbone's features, shallow to deep.
        channels: C.
    """

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(in_channels, channels)
        self.position = PositionCode(channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """(B, in_channels[i], h_i, w_i) -> (B, C, h_i, w_i) each."""
        levels = self.fpn({str(i): feature for i, feature in enumerate(features)}).values()
        return [level + self.position(level.shape[-2], level.shape[-1]) for level in levels]


class PositionCode(nn.Module):
    """Sines and cosines of row and column (Vaswani 2017), projected to C channels.

    Both run from 0 to 1 over the image, whatever its size: "upper left" is the same place at every level.

    Args:
        channels: C.
        frequencies: half periods over the image, 1, 2, 4, ... so many.
    """

    half_periods: Tensor

    def __init__(self, channels: int, frequencies: int = 3) -> None:
        super().__init__()
        self.register_buffer("half_periods", math.pi * 2.0 ** torch.arange(frequencies), persistent=False)
        self.project = nn.Conv2d(4 * frequencies, channels, 1)

    def forward(self, height: int, width: int) -> Tensor:
        """Return the code (1, C, height, width)."""
        rows, columns = (self._waves(size) for size in (height, width))
        rows, columns = rows[:, :, None].expand(-1, -1, width), columns[:, None].expand(-1, height, -1)
        return self.project(torch.cat([rows, columns])[None])

    def _waves(self, size: int) -> Tensor:
        """(2 frequencies, size)."""
        places = (torch.arange(size, device=self.half_periods.device) + 0.5) / size
        angles = self.half_periods[:, None] * places
        return torch.cat([angles.sin(), angles.cos()])
