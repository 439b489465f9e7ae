"""The image pyramid: a convolutional backbone of timm, one width for all levels, and a code of the position."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from shared.backbones.checkpoint import check_finite
from shared.core.errors import InputError
from shared.core.messages import nearest, reason

STRIDES = (4, 8, 16, 32)
PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:")  # of timm's model names
CONVOLUTIONAL = "choose a convolutional one, such as resnet10t or convnext_tiny"


def build_backbone(
    name: str = "regnetx_002", pretrained: bool = False, checkpoint: str | None = None
) -> tuple[nn.Module, list[int]]:
    """Build a backbone of timm for grey images, without its head.

    Args:
        name: any of `timm.list_models()` with features at strides 4, 8, 16 and 32, with an optional tag after a dot;
            or timm's ``hf-hub:organisation/model`` and ``local-dir:folder``.
        pretrained: load timm's weights of that name, from its cache or the network.
        checkpoint: file with the model's weights, to use instead of timm's.

    Returns:
        the backbone, (B, 1, H, W) -> list of (B, channels[i], H / STRIDES[i], W / STRIDES[i]); and the channels.

    Raises:
        InputError: the name is unknown, the weights cannot be loaded or are not finite, or the model has features at
            other strides or takes images of one size only.
    """
    if not name.startswith(PREFIXES) and not timm.is_model(name):
        raise InputError(f"unknown backbone {name!r}: {nearest(name, timm.list_models())}")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise InputError(f"backbone {name}: there is no file {checkpoint}: give the path of its weights")
    state = torch.get_rng_state()
    try:
        given = None if checkpoint is None else _weights_of(checkpoint)
        backbone = _create(name, pretrained=pretrained or given is not None, pretrained_cfg_overlay=given)
    except Exception as error:  # timm raises many kinds, about tags, files, the network and models without features
        raise InputError(
            f"backbone {name} cannot be built ({reason(error)}): choose another, or other weights"
        ) from error
    if checkpoint is not None:  # timm ignores weights that a file lacks: they are as in a model without the file
        torch.set_rng_state(state)
        pairs = zip(backbone.named_parameters(), _create(name).parameters())
        lacking = [layer for (layer, ours), fresh in pairs if ours.ndim > 1 and torch.equal(ours, fresh)]
        if lacking:
            raise InputError(f"backbone {name}: {checkpoint} lacks {len(lacking)} of its weights, such as {lacking[0]}")
    check_finite(backbone.state_dict(), f"backbone {name}" if checkpoint is None else f"checkpoint {checkpoint}")
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, 1, 64, 96))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"backbone {name} does not take images of any size ({reason(error)}): {CONVOLUTIONAL}"
        ) from error
    shapes = [tuple(feature.shape[2:]) for feature in features]
    if shapes != [(64 // stride, 96 // stride) for stride in STRIDES]:
        raise InputError(f"backbone {name} has no features (B, C, H, W) at strides 4, 8, 16 and 32: {CONVOLUTIONAL}")
    return backbone.train(), [feature.shape[1] for feature in features]


def _weights_of(file: str) -> dict[str, Any]:
    """Read a file without running its code, as settings for timm; NumPy archives hold no code and timm reads them."""
    return {"file": file} if file.endswith(".npz") else {"state_dict": load_state_dict(file, weights_only=True)}


def _create(name: str, **options: Any) -> Any:
    """Create the part of a model that computes its last four features of a grey image."""
    return timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1), in_chans=1, **options)


class LevelFeatures(nn.Module):
    """Bring all levels to one width and tell each position where it lies::

        X_i = FPN( features )_i + PositionCode( rows, columns )

    The feature pyramid network (Lin 2017) passes the deeper levels down to the shallow ones; sentences speak of places.
    The text has no part in it, so the levels can be compared with sentences.

    Args:
        in_channels: of the backbone's features, shallow to deep.
        channels: C.
    """

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(in_channels, channels)
        self.position = PositionCode(channels)

    def forward(self, features: list[Tensor], place: Tensor | None = None) -> list[Tensor]:
        """Map (B, in_channels[i], h_i, w_i) to one (B, C, h_i, w_i) per level; `place` as in `PositionCode`."""
        levels = self.fpn({str(i): feature for i, feature in enumerate(features)}).values()
        return [level + self.position(level.shape[-2], level.shape[-1], place) for level in levels]


class PositionCode(nn.Module):
    """Code rows and columns by sines and cosines (Vaswani 2017), projected to C channels::

        W [ sin(2^f pi p) , cos(2^f pi p) ] for p in (row, column), f = 0 .. F - 1

    Rows and columns run from 0 to 1 over the image at every resolution, so "upper left" means the same at each.

    Args:
        channels: C.
        frequencies: F.
    """

    half_periods: Tensor

    def __init__(self, channels: int, frequencies: int = 3) -> None:
        super().__init__()
        self.register_buffer("half_periods", math.pi * 2.0 ** torch.arange(frequencies), persistent=False)
        self.project = nn.Conv2d(4 * frequencies, channels, 1)

    def forward(self, height: int, width: int, place: Tensor | None = None) -> Tensor:
        """Compute the code of a whole image, (1, C, height, width), or of B windows, (B, C, height, width).

        Args:
            height, width: of the level.
            place: (B, 4), top, bottom, left and right edge of each window as shares of the image, in [0, 1].
        """
        if place is None:
            place = self.half_periods.new_tensor([[0.0, 1.0, 0.0, 1.0]])
        rows = self._waves(height, place[:, 0:1], place[:, 1:2])[:, :, :, None].expand(-1, -1, -1, width)
        columns = self._waves(width, place[:, 2:3], place[:, 3:4])[:, :, None].expand(-1, -1, height, -1)
        return self.project(torch.cat([rows, columns], dim=1))

    def _waves(self, size: int, start: Tensor, stop: Tensor) -> Tensor:
        """Return the waves at `size` positions from start to stop, both (B, 1): (B, 2 F, size)."""
        shares = (torch.arange(size, device=self.half_periods.device) + 0.5) / size
        angles = self.half_periods[:, None] * (start + (stop - start) * shares)[:, None]
        return torch.cat([angles.sin(), angles.cos()], dim=1)
