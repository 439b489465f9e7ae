"""CLIP's image tower (Radford 2021, https://arxiv.org/abs/2103.00020) as dense features of four depths.

Any model of ``open_clip`` by name, with weights by ``pretrained`` tag or from a file, and ``clip_tiny``, a small model
built from open_clip's classes. Parameters are named as in open_clip's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers import Format, PatchEmbed
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from shared.backbones.clip_config import image_statistics
from shared.backbones.clip_models import create_clip
from shared.backbones.tuning import apply_tuning, freeze_batch_norm
from shared.core.errors import InputError


class ClipImageEncoder(nn.Module):
    """Extract features of four depths with an image tower of open_clip, at any image size.

    The depths are the ends of four equal parts of a ViT's blocks, or the last four stages of a convolutional tower. A
    ViT's table of positions is resized bicubically. Layers that only serve the pooled image feature are dropped, so
    every remaining parameter gets a gradient.

    Args:
        visual: a `VisionTransformer`, `ModifiedResNet` or `TimmModel` of open_clip; modified in place.
        projection: keep the ViT's last norm and projection, which `project` needs.
        mean, std: of the three channels of the training images, in [0, 1]; defaults are OpenAI's.

    Attributes:
        channels, strides: of the four features; embed_dim: of `project` and of the text; multiple: divisor of the
        sides of an image; image_size: native (height, width); mean, std: as given.

    Raises:
        InputError: the tower has no intermediate features, or `projection` is set for a tower other than a ViT.
    """

    def __init__(
        self,
        visual: nn.Module,
        projection: bool = False,
        mean: Sequence[float] = open_clip.OPENAI_DATASET_MEAN,
        std: Sequence[float] = open_clip.OPENAI_DATASET_STD,
    ) -> None:
        super().__init__()
        if not hasattr(visual, "forward_intermediates"):
            raise InputError(f"image tower {type(visual).__name__} has no forward_intermediates: choose another model")
        if projection and not (isinstance(visual, VisionTransformer) and visual.attn_pool is None):
            raise InputError(
                f"image tower {type(visual).__name__}: only open_clip's ViTs project tokens into the text's space: "
                "choose one, such as ViT-B-16, or set projection=False"
            )
        self.indices, self.channels, self.strides = _depths(visual)
        self.multiple = self.strides[-1]
        size: Any = visual.image_size
        self.image_size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.embed_dim: int | None = visual.output_dim if isinstance(visual, VisionTransformer) else None
        self.mean, self.std = tuple(mean), tuple(std)
        self.fixed_size = False
        self.tuning = "full"
        self.visual: Any = visual
        self._prepare(projection)

    def _prepare(self, projection: bool) -> None:
        """Drop the heads, and let a timm ViT take images of any size."""
        visual = self.visual
        if isinstance(visual, VisionTransformer):
            visual.patch_dropout = nn.Identity()  # dense features need every patch
            if not projection:
                visual.attn_pool, visual.ln_post, visual.proj = None, nn.Identity(), None
        elif isinstance(visual, ModifiedResNet):
            visual.attnpool = nn.Identity()
        elif isinstance(visual, TimmModel):
            trunk: Any = visual.trunk
            trunk.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
            visual.head = nn.Sequential()
            if getattr(trunk, "pos_embed", None) is not None or hasattr(trunk, "set_input_size"):
                patches = trunk.patch_embed
                plain = type(patches) is PatchEmbed and hasattr(trunk, "dynamic_img_size")
                self.fixed_size = not plain or getattr(trunk, "rope", None) is not None
                if not self.fixed_size:  # as timm's constructor does for dynamic_img_size=True
                    trunk.dynamic_img_size, patches.strict_img_size = True, False
                    patches.flatten, patches.output_fmt = False, Format.NHWC

    def forward(self, image: Tensor, resize: bool = True) -> list[Tensor]:
        """Encode images: four features (B, C, h, w), h = H / stride.

        Args:
            image: (B, 3, H, W), floating point, normalised by `mean` and `std`.
            resize: fit the table of positions to the image; False is for internal use.

        Raises:
            ValueError: a side is not a multiple of `multiple`, or the tower takes its native size only.
        """
        h, w = image.shape[-2], image.shape[-1]
        if h % self.multiple != 0 or w % self.multiple != 0:
            raise ValueError(f"image of {h} x {w} pixels: sides must be multiples of {self.multiple}")
        if self.fixed_size and (h, w) != self.image_size:
            wanted = " x ".join(map(str, self.image_size))
            raise ValueError(f"image of {h} x {w} pixels: this tower takes {wanted} only; build it with image_size=...")
        if resize and isinstance(self.visual, VisionTransformer):
            native: Any = self.visual.grid_size
            grid = (h // self.multiple, w // self.multiple)
            if grid != tuple(native):
                table = resize_positions(self.visual.positional_embedding, native, grid)
                return self._with_positions(image, table)
        out = self.visual.forward_intermediates(image, indices=self.indices, stop_early=True, intermediates_only=True)
        return out["image_intermediates"]

    def _with_positions(self, image: Tensor, table: Tensor) -> list[Tensor]:
        """Run `forward` with another table of positions."""
        if not torch.jit.is_tracing():
            return functional_call(self, {"visual.positional_embedding": table}, (image, False))
        own = self.visual.positional_embedding  # `functional_call` cannot be traced
        self.visual.positional_embedding = nn.Parameter(table.detach(), requires_grad=False)
        try:
            return self(image, False)
        finally:
            self.visual.positional_embedding = own

    def project(self, feature: Tensor) -> Tensor:
        """Map a ViT's feature (B, C, h, w) into the space of the text: (B, embed_dim, h, w), not normalised.

        Every token goes through the class token's last norm and projection (DenseCLIP, Rao 2022,
        https://arxiv.org/abs/2112.01518).

        Raises:
            ValueError: the encoder was built without ``projection=True``.
        """
        if not isinstance(self.visual, VisionTransformer) or self.visual.proj is None:
            raise ValueError("this ClipImageEncoder has no projection: build it with projection=True")
        tokens = self.visual.ln_post(feature.permute(0, 2, 3, 1)) @ self.visual.proj
        return tokens.permute(0, 3, 1, 2)

    def train(self, mode: bool = True) -> ClipImageEncoder:
        """Set the mode; a frozen encoder stays in evaluation mode, and so does batch norm under LoRA."""
        super().train(mode and self.tuning != "frozen")
        freeze_batch_norm(self)
        return self


def resize_positions(table: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Resize a table of absolute positions bicubically with antialiasing, as open_clip does on loading.

    Args:
        table: (p + old[0] old[1], C); the first p rows (class token) stay unchanged.
        old, new: (rows, columns) of the grid.

    Returns:
        (p + new[0] new[1], C), of the table's dtype.
    """
    first = table.shape[0] - old[0] * old[1]
    image = table[first:].reshape(1, old[0], old[1], -1).permute(0, 3, 1, 2).float()
    image = F.interpolate(image, size=[new[0], new[1]], mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:first], image.flatten(2).squeeze(0).t().to(table.dtype)])


def _depths(visual: Any) -> tuple[list[int], list[int], list[int]]:
    """Return the indices for ``forward_intermediates``, the channels and the strides of the four features."""
    if isinstance(visual, VisionTransformer):
        width, patch = visual.transformer.width, int(visual.patch_size[0])
        info = [(width, patch)] * len(visual.transformer.resblocks)
    elif isinstance(visual, ModifiedResNet):
        width = visual.layer1[-1].bn3.num_features
        info = [(visual.conv3.out_channels, 4)] + [(width << i, 4 << i) for i in range(4)]
    else:
        entries = getattr(getattr(visual, "trunk", None), "feature_info", None) or []
        info = [(int(entry["num_chs"]), int(entry["reduction"])) for entry in entries]
    depth = len(info)
    if depth < 4:
        raise InputError(f"image tower {type(visual).__name__} has {depth} depths of features, not 4: choose another")
    pyramid = info[-1][1] > info[-4][1]
    indices = [depth - 4 + i if pyramid else (i + 1) * depth // 4 - 1 for i in range(4)]
    return indices, [info[i][0] for i in indices], [info[i][1] for i in indices]


def build_clip_image_encoder(
    name: str = "clip_tiny",
    pretrained: str | None = None,
    checkpoint: str | Path | None = None,
    tuning: str = "full",
    lora_rank: int = 4,
    projection: bool = False,
    **overrides: Any,
) -> ClipImageEncoder:
    """Build the image tower of a CLIP model.

    Args:
        name, pretrained, checkpoint, overrides: of `shared.backbones.clip_models.create_clip`.
        tuning, lora_rank: of `shared.backbones.tuning.apply_tuning`.
        projection: of `ClipImageEncoder`.

    Raises:
        InputError: what `create_clip`, `ClipImageEncoder` and `apply_tuning` raise.
    """
    model = create_clip(name, pretrained, checkpoint, **overrides)
    return image_encoder_of(model, name, pretrained, tuning, lora_rank, projection)


def image_encoder_of(
    model: open_clip.CustomTextCLIP,
    name: str,
    pretrained: str | None = None,
    tuning: str = "full",
    lora_rank: int = 4,
    projection: bool = False,
) -> ClipImageEncoder:
    """Build the encoder from the image tower of a whole model; arguments as `build_clip_image_encoder`."""
    mean, std = image_statistics(name, pretrained)
    encoder = ClipImageEncoder(model.visual, projection, mean, std)
    apply_tuning(encoder, tuning, lora_rank)
    return encoder
