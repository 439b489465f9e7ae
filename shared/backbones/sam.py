"""SAM's image encoder (Kirillov 2023, https://arxiv.org/abs/2304.02643): same weights, same numbers, faster.

Parameters are named as in ``segment_anything``'s ``image_encoder``, so original files load strictly. A network can act
between the four stages: ``stem``, ``add_position``, ``run_stage(0..3)``, with tokens (B, h, w, C) throughout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from segment_anything.modeling.image_encoder import PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F

from shared.backbones.checkpoint import load_strictly, read_checkpoint
from shared.backbones.sam_attention import SamAttention, is_exporting
from shared.backbones.tuning import apply_tuning
from shared.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class SamSize:
    """Hyper-parameters of a SAM encoder, with the meanings of `segment_anything`."""

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]  # blocks that attend over the whole image; the others attend within windows
    image_size: int = 1024  # native side in pixels; sets the sizes of the position tables
    patch_size: int = 16
    window_size: int = 14
    out_channels: int = 256  # of the neck


SAM_SIZES = {
    "vit_tiny": SamSize(96, 4, 3, (1, 3), image_size=128, patch_size=16, window_size=8, out_channels=64),
    "vit_b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
}


class SamBlock(nn.Module):
    """One transformer block of SAM: x <- x + Attention(LN x), x <- x + MLP(LN x), with tokens (B, h, w, C)."""

    def __init__(self, size: SamSize, index: int) -> None:
        super().__init__()
        window = 0 if index in size.global_blocks else size.window_size
        grid = size.image_size // size.patch_size
        self.norm1 = nn.LayerNorm(size.embed_dim, eps=1e-6)
        self.attn = SamAttention(size.embed_dim, size.num_heads, window or grid, window)
        self.norm2 = nn.LayerNorm(size.embed_dim, eps=1e-6)
        self.mlp = MLPBlock(size.embed_dim, 4 * size.embed_dim)
        self.mlp_tokens = 1024  # per piece of the MLP in CPU inference: malloc reuses a small hidden layer

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, h, w, C).

        Under bfloat16 autocast a CPU without bfloat16 instructions computes in float32, about 7 times faster (AVX2, one
        core, a 768 -> 2304 layer: 1.64 s in bfloat16, 0.23 s in float32).
        """
        if not torch.jit.is_scripting():
            emulated = x.device.type == "cpu" and not self.attn.fast_bfloat16 and torch.is_autocast_enabled("cpu")
            if emulated and self.norm1.weight.dtype == torch.float32:
                with torch.autocast("cpu", enabled=False):
                    return self._run(x.float())
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        learns = torch.is_grad_enabled() and x.requires_grad
        if learns or x.device.type != "cpu" or is_exporting():
            return x + self.mlp(self.norm2(x))
        pieces = x.flatten(0, 2).split(self.mlp_tokens)
        return torch.cat([piece + self.mlp(self.norm2(piece)) for piece in pieces]).view(x.shape)


class SamEncoder(nn.Module):
    """SAM's image encoder in four stages of equally many blocks; in vit_b/l/h each stage ends with global attention.

    Args:
        size: hyper-parameters, one of `SAM_SIZES` or other ones; at least four blocks.
        neck: also build SAM's neck (`out_channels` at the encoder's stride), which `encode` needs.

    Attributes:
        channels, strides: of the four features; stem_channels, stem_stride: of the tokens from `stem`;
        out_channels: of the neck.
    """

    __jit_unused_properties__ = ["stages"]

    def __init__(self, size: SamSize, neck: bool = False) -> None:
        super().__init__()
        self.channels: list[int] = [size.embed_dim] * 4
        self.strides: list[int] = [size.patch_size] * 4
        self.stem_channels = size.embed_dim
        self.stem_stride = size.patch_size
        self.out_channels = size.out_channels
        self.ends: list[int] = [(i + 1) * size.depth // 4 for i in range(4)]
        self.tuning = "full"
        patch, grid = size.patch_size, size.image_size // size.patch_size
        self.patch_embed = PatchEmbed((patch, patch), (patch, patch), embed_dim=size.embed_dim)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, grid, grid, size.embed_dim), std=0.02))
        self.blocks = nn.ModuleList([SamBlock(size, i) for i in range(size.depth)])
        self.neck = None
        if neck:
            self.neck = nn.Sequential(
                nn.Conv2d(size.embed_dim, size.out_channels, 1, bias=False),
                LayerNorm2d(size.out_channels),
                nn.Conv2d(size.out_channels, size.out_channels, 3, padding=1, bias=False),
                LayerNorm2d(size.out_channels),
            )

    def stem(self, image: Tensor) -> Tensor:
        """Embed patches, without position: (B, 3, H, W) -> (B, H / patch, W / patch, C).

        Raises:
            ValueError: H or W is not a multiple of the patch size.
        """
        h, w = image.shape[-2], image.shape[-1]
        if h % self.stem_stride != 0 or w % self.stem_stride != 0:
            raise ValueError(f"image of {h} x {w} pixels: sides must be multiples of {self.stem_stride}, the patch")
        return self.patch_embed(image).contiguous()

    def add_position(self, tokens: Tensor) -> Tensor:
        """Add the table of absolute positions, resized bicubically to the grid, to tokens (B, h, w, C)."""
        table: Tensor = self.pos_embed
        h, w = tokens.shape[1], tokens.shape[2]
        if h != table.shape[1] or w != table.shape[2]:
            table = F.interpolate(table.permute(0, 3, 1, 2), size=[h, w], mode="bicubic").permute(0, 2, 3, 1)
        return tokens + table

    def run_stage(self, index: int, tokens: Tensor) -> Tensor:
        """Run the blocks of stage `index` (0 to 3) on tokens (B, h, w, C)."""
        start = 0 if index == 0 else self.ends[index - 1]
        for i, block in enumerate(self.blocks):
            if start <= i and i < self.ends[index]:
                tokens = block(tokens)
        return tokens

    @property
    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The four stages as functions of tokens."""
        return tuple(partial(self.run_stage, i) for i in range(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode images (B, 3, H, W), normalised as SAM's: four features (B, C, h, w), one after each stage."""
        tokens = self.add_position(self.stem(image))
        features: list[Tensor] = []
        for i in range(4):
            tokens = self.run_stage(i, tokens)
            features.append(tokens.permute(0, 3, 1, 2))
        return features

    @torch.jit.export
    def encode(self, image: Tensor) -> Tensor:
        """Compute SAM's image embedding (B, out_channels, h, w), as ``segment_anything``'s ``ImageEncoderViT`` does.

        Raises:
            ValueError: the encoder has no neck, or the size does not fit (see `stem`).
        """
        neck = self.neck
        if neck is None:
            raise ValueError("this SamEncoder has no neck: build it with neck=True")
        tokens = self.add_position(self.stem(image))
        for i in range(4):
            tokens = self.run_stage(i, tokens)
        return neck(tokens.permute(0, 3, 1, 2))

    def train(self, mode: bool = True) -> SamEncoder:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and self.tuning != "frozen")


def build_encoder(name: str, **kwargs: Any) -> Any:
    """Build an image encoder by name.

    Args:
        name: a key of `SAM_SIZES`, or ``lite_medsam``.
        kwargs: of `build_sam_encoder` or `shared.backbones.lite_medsam.build_lite_medsam_encoder`.

    Raises:
        InputError: the name is unknown, or what the builder raises.
    """
    if name == "lite_medsam":
        from shared.backbones.lite_medsam import build_lite_medsam_encoder

        return build_lite_medsam_encoder(**kwargs)
    return build_sam_encoder(name, **kwargs)


def build_sam_encoder(
    name: str,
    checkpoint: str | Path | None = None,
    tuning: str = "full",
    lora_rank: int = 4,
    neck: bool = False,
    **size_overrides: Any,
) -> SamEncoder:
    """Build a SAM encoder, with the weights of a file if one is given.

    Args:
        name: a key of `SAM_SIZES`.
        checkpoint: file of a SAM or MedSAM model, or of its encoder; read by `read_checkpoint`.
        tuning, lora_rank: of `shared.backbones.tuning.apply_tuning`.
        neck: build the neck; without it the file's ``neck.*`` is ignored.
        size_overrides: fields of `SamSize` to replace, e.g. ``image_size=512``.

    Raises:
        InputError: a name or option is unknown, or the file holds another model.
    """
    if name not in SAM_SIZES:
        raise InputError(f"unknown encoder {name!r}: choose one of {', '.join([*SAM_SIZES, 'lite_medsam'])}")
    fields = [field.name for field in dataclasses.fields(SamSize)]
    for key in size_overrides:
        if key not in fields:
            raise InputError(f"unknown option {key!r} of encoder {name}: it has {', '.join(fields)}")
    size = dataclasses.replace(SAM_SIZES[name], **size_overrides)
    if size.depth < 4 or size.embed_dim % size.num_heads or size.image_size % size.patch_size:
        raise InputError(f"encoder {name} cannot be built with {size}: needs 4 blocks, whole heads and whole patches")
    # Read the file first, so that a wrong one is refused before a large model is built.
    weights = None if checkpoint is None else _encoder_weights(read_checkpoint(checkpoint), checkpoint, name, size)
    encoder = SamEncoder(size, neck=neck)
    if weights is not None:
        load_strictly(encoder, weights, f"encoder {name}", checkpoint, ignore=() if neck else ("neck.",))
    apply_tuning(encoder, tuning, lora_rank)
    return encoder


def _encoder_weights(state: dict[str, Tensor], path: str | Path, name: str, size: SamSize) -> dict[str, Tensor]:
    """Take SAM's encoder out of a checkpoint; the error says what the checkpoint holds instead."""
    prefix = "image_encoder."
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or state
    if "patch_embed.seq.0.c.weight" in weights:
        raise InputError(f"checkpoint {path}: LiteMedSAM (TinyViT) given for encoder {name}: use --encoder lite_medsam")
    if "patch_embed.proj.weight" not in weights or "blocks.0.attn.rel_pos_h" not in weights:
        example = next(iter(state))
        raise InputError(f"checkpoint {path}: not a SAM checkpoint: it holds {len(state)} tensors such as {example!r}")
    width = weights["patch_embed.proj.weight"].shape[0]
    depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
    if (width, depth) != (size.embed_dim, size.depth):
        known = [key for key, value in SAM_SIZES.items() if (value.embed_dim, value.depth) == (width, depth)]
        kind = f"sam_{known[0]} checkpoint" if known else "SAM checkpoint of no known size"
        hint = f": use --encoder {known[0]}" if known else ""
        wanted = f"encoder {name} (embed {size.embed_dim}, {size.depth} blocks)"
        raise InputError(f"checkpoint {path}: {kind} (embed {width}, {depth} blocks) given for {wanted}{hint}")
    return weights
