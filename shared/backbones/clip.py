"""CLIP's image tower (Radford 2021, https://arxiv.org/abs/2103.00020) as dense features of four depths.

Any model that ``open_clip`` knows, by name, with weights by ``pretrained`` tag or from a local file, and ``clip_tiny``,
a small one made of open_clip's own classes. Parameters have the names that they have in open_clip's files.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, convert_to_custom_text_state_dict, resize_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers import Format, PatchEmbed
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from shared.backbones.sam import apply_tuning, load_strictly, merge_lora, read_checkpoint
from shared.errors import InputError

SCHEMAS = ("hf-hub:", "local-dir:")  # open_clip's own prefixes of names

# Our choice: 1.7 M parameters for the image, 0.95 M for the text, of which 0.5 M are its table of 4,096 word pieces.
CLIP_TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 128, "patch_size": 16, "width": 128, "head_width": 32, "layers": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 4096, "width": 128, "heads": 4, "layers": 2},
}


class ClipImageEncoder(nn.Module):
    """An image tower of open_clip as features of four depths, at any size of the image.

    Depths (our choice): a ViT's blocks in four equal parts, a convolutional tower's last four stages. A ViT's table of
    positions is resized bicubically. What only the pooled image feature needs is dropped, so every parameter learns.

    Args:
        visual: a `VisionTransformer`, `ModifiedResNet` or `TimmModel` of open_clip; taken over and changed.
        projection: keep the ViT's last norm and projection, which `project` needs.
        mean, std: of the three channels of its images, scaled to [0, 1]; open_clip's defaults are OpenAI's.

    Attributes:
        channels, strides: of the four features; embed_dim: of `project` and of the text; multiple: of which the sides
        of an image must be multiples; image_size: native (height, width); mean, std: as given.

    Raises:
        InputError: a tower without intermediate features, or `projection` of a tower that is no ViT of open_clip.
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
            raise InputError("projection=True: only open_clip's ViTs project tokens; set projection=False")
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
        """Drop the heads and let a timm ViT take any size."""
        visual = self.visual
        if isinstance(visual, VisionTransformer):
            visual.patch_dropout = nn.Identity()  # a dense feature needs every patch
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
                if not self.fixed_size:  # what timm's constructor does when it is asked for dynamic_img_size
                    trunk.dynamic_img_size, patches.strict_img_size = True, False
                    patches.flatten, patches.output_fmt = False, Format.NHWC

    def forward(self, image: Tensor, resize: bool = True) -> list[Tensor]:
        """Return the features: four (B, C, h, w), h = H / stride, of an image (B, 3, H, W) normalised by mean and std.

        Args:
            image: (B, 3, H, W), floating point.
            resize: leave it: the table of positions is fitted to the image.

        Raises:
            ValueError: a side is no multiple of `multiple`, or the tower cannot take another size than its native one.
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
                return functional_call(self, {"visual.positional_embedding": table}, (image, False))
        out = self.visual.forward_intermediates(image, indices=self.indices, stop_early=True, intermediates_only=True)
        return out["image_intermediates"]

    def project(self, feature: Tensor) -> Tensor:
        """Map a ViT's feature (B, C, h, w) into the space of the text: (B, embed_dim, h, w), not normalised.

        Each token takes the way of the class token: last norm and projection (Rao 2022, DenseCLIP,
        https://arxiv.org/abs/2112.01518).

        Raises:
            ValueError: built without ``projection=True``.
        """
        if not isinstance(self.visual, VisionTransformer) or self.visual.proj is None:
            raise ValueError("this ClipImageEncoder has no projection: build it with projection=True")
        tokens = self.visual.ln_post(feature.permute(0, 2, 3, 1)) @ self.visual.proj
        return tokens.permute(0, 3, 1, 2)

    def train(self, mode: bool = True) -> ClipImageEncoder:
        """Set the mode as `nn.Module.train`, except that frozen stays in evaluation mode, and under LoRA batch norm."""
        super().train(mode and self.tuning != "frozen")
        if self.tuning == "lora":
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def resize_positions(table: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Resize a table of absolute positions bicubically, with antialiasing, as open_clip does at loading.

    Args:
        table: (p + old[0] old[1], C); the p first rows (class token) are kept.
        old, new: (rows, columns) of the grid.

    Returns:
        (p + new[0] new[1], C), of the table's dtype.
    """
    first = table.shape[0] - old[0] * old[1]
    image = table[first:].reshape(1, old[0], old[1], -1).permute(0, 3, 1, 2).float()
    image = F.interpolate(image, size=[new[0], new[1]], mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:first], image.flatten(2).squeeze(0).t().to(table.dtype)])


def _depths(visual: Any) -> tuple[list[int], list[int], list[int]]:
    """Indices for ``forward_intermediates``, channels and strides of a tower's four features."""
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


# Building


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
        name, pretrained, checkpoint, overrides: of `create_clip`.
        tuning, lora_rank: of `tune`.
        projection: of `ClipImageEncoder`.

    Raises:
        InputError: what `create_clip`, `ClipImageEncoder` and `tune` raise; one line.
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
    """Make the encoder of a whole model's image tower, which is taken over; arguments as `build_clip_image_encoder`."""
    mean, std = image_statistics(name, pretrained)
    encoder = ClipImageEncoder(model.visual, projection, mean, std)
    tune(encoder, tuning, lora_rank)
    return encoder


def create_clip(
    name: str = "clip_tiny", pretrained: str | None = None, checkpoint: str | Path | None = None, **overrides: Any
) -> open_clip.CustomTextCLIP:
    """Make a whole CLIP model, image tower ``visual`` and text tower ``text``, with weights if any are named.

    Args:
        name: ``clip_tiny``, a name of `open_clip.list_models`, or open_clip's ``hf-hub:org/repo`` and
            ``local-dir:folder``.
        pretrained: a tag of `open_clip.list_pretrained_tags_by_model`; fetched (or found in the cache) by open_clip.
        checkpoint: a local file instead: open_clip's, also saved by its trainer, safetensors, or OpenAI's archive.
        overrides: fields of open_clip's ``CLIPVisionCfg`` (``image_size``, ``patch_size``, ...), of its ``CLIPTextCfg``
            after ``text_`` (``text_layers``, ...), or ``embed_dim``.

    Raises:
        InputError: unknown name, tag or option, missing file, or a file of another model; one line that says which.
    """
    config = model_config(name, **overrides)
    path = checkpoint
    if pretrained is not None and checkpoint is not None:
        raise InputError(f"CLIP {name}: give pretrained={pretrained!r} or checkpoint={checkpoint}, not both")
    if pretrained is not None:
        path, quick = _fetch(name, pretrained)
        config["quick_gelu"] = quick or config.get("quick_gelu", False)
    weights = None if path is None else read_clip_checkpoint(path)
    if weights is not None:
        if weights.pop("input_resolution", None) is not None:  # OpenAI's archive: trained with quick GELU
            config["quick_gelu"] = True
            for key in ("context_length", "vocab_size"):
                weights.pop(key, None)
        _check_architecture(weights, path, name, config)
    model = _instantiate(name, config)
    if weights is not None:
        weights = convert_to_custom_text_state_dict(convert_state_dict(model, weights))
        if model.logit_bias is not None and "logit_scale" in weights:
            weights.setdefault("logit_bias", torch.zeros_like(weights["logit_scale"]))
        for key in ("logit_scale", "logit_bias"):
            own = getattr(model, key)
            if key in weights and own is not None and weights[key].numel() == own.numel():
                weights[key] = weights[key].reshape(own.shape)
        resize_pos_embed(weights, model)
        load_strictly(model, weights, f"CLIP {name}", path, ignore=("text.transformer.embeddings.position_ids",))
    if "image_size" in overrides and isinstance(model.visual, TimmModel):
        model.visual.set_input_size(overrides["image_size"])
    return model


def model_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Return a copy of open_clip's configuration of a model, with fields replaced as `create_clip` says.

    Raises:
        InputError: unknown name (with the nearest known one) or option.
    """
    if name == "clip_tiny":
        config: Any = copy.deepcopy(CLIP_TINY)
    elif name.startswith(SCHEMAS):
        try:
            config = open_clip.get_model_config(name)
        except Exception as error:  # from the file system, json or the hub
            raise InputError(f"CLIP {name}: cannot read its open_clip_config.json ({reason(error)})") from error
    else:
        config = open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        raise InputError(f"unknown CLIP model {name!r}: {nearest(name, known_models())}")
    parts: dict[str, tuple[dict[str, Any], type]] = {
        "text_": (config["text_cfg"], CLIPTextCfg),
        "": (config["vision_cfg"], CLIPVisionCfg),
    }
    for key, value in overrides.items():
        if key == "embed_dim":
            config[key] = value
            continue
        prefix = "text_" if key.startswith("text_") else ""
        part, kind = parts[prefix]
        fields = [field.name for field in dataclasses.fields(kind)]
        if key.removeprefix(prefix) not in fields:
            raise InputError(
                f"unknown option {key!r} of CLIP {name}: {nearest(key, [prefix + field for field in fields])}"
            )
        part[key.removeprefix(prefix)] = value
    config["text_cfg"]["hf_model_pretrained"] = False  # weights come from our own call, or not at all
    config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def known_models() -> list[str]:
    """Names that `create_clip` takes, without those of hubs and folders."""
    return ["clip_tiny", *open_clip.list_models()]


def nearest(name: str, known: Sequence[str], count: int = 3) -> str:
    """Say in a few words which known names are meant: ``did you mean ...?`` or ``choose one of ...``."""
    lower = {key.lower(): key for key in known}
    found = [lower[key] for key in difflib.get_close_matches(name.lower(), lower, n=count)]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"choose one of {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"


def reason(error: BaseException) -> str:
    """First line of an error's message, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]


def image_statistics(name: str, pretrained: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels, in [0, 1], with which a model of open_clip was trained.

    Without a tag, those of the model's first tag; OpenAI's for models without tags, also of hubs and folders.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained if pretrained is not None else next(iter(tags), "")
    config: Mapping[str, Any] = open_clip.get_pretrained_cfg(name, tag) or {}
    mean = config.get("mean") or open_clip.OPENAI_DATASET_MEAN
    std = config.get("std") or open_clip.OPENAI_DATASET_STD
    return tuple(mean), tuple(std)


def _instantiate(name: str, config: dict[str, Any]) -> Any:
    kind: Any = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    try:
        return kind(**{key: value for key, value in config.items() if key != "custom_text"})
    except Exception as error:  # from timm, transformers or open_clip, about any field
        raise InputError(f"CLIP {name} cannot be made ({reason(error)}): check the options") from error


def _fetch(name: str, tag: str) -> tuple[str, bool]:
    """Path of a tag's weights, from open_clip's cache or the network, and whether they want quick GELU."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise InputError(f"CLIP {name} has no pretrained weights by tag: give checkpoint=<file>")
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        raise InputError(f"unknown weights {tag!r} of CLIP {name}: {nearest(tag, tags)}")
    try:
        path = open_clip.download_pretrained(config)
    except Exception as error:  # from urllib or the hub
        hint = "download them where there is a network and give checkpoint=<file>"
        raise InputError(f"weights {tag!r} of CLIP {name} cannot be fetched ({reason(error)}): {hint}") from error
    return path, bool(config.get("quick_gelu", False))


def read_clip_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors on the CPU: torch's (``weights_only``), safetensors or OpenAI's TorchScript archive.

    Raises:
        InputError: no such file, or none of these.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            f"checkpoint {path}: a folder, not a file; for a folder of open_clip's use name=local-dir:{path}"
        )
    if path.is_file() and path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise InputError(f"checkpoint {path}: not a safetensors file, or cut short ({reason(error)})") from error
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            scripted = any(entry.endswith("/constants.pkl") for entry in archive.namelist())
        if scripted:
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
    return read_checkpoint(path)


def _check_architecture(weights: dict[str, Tensor], path: Any, name: str, config: dict[str, Any]) -> None:
    """Refuse the weights of another model in one line that says whose they are."""
    if not any(key.startswith("visual.") for key in weights):
        example = next(iter(weights))
        raise InputError(
            f"checkpoint {path}: not an open_clip model: it holds {len(weights)} tensors such as {example!r}"
        )
    given, wanted = _shape_of_weights(weights), _shape_of_config(config)
    if given == wanted:
        return
    known = [key for key in known_models() if given is not None and _shape_of_config(model_config(key)) == given]
    hint = f": use {' or '.join(known[:3])}" if known else ""
    if given is None or wanted is None:
        tower = "a ViT" if given is not None else "another kind of image tower"
        raise InputError(f"checkpoint {path}: holds {tower}, which CLIP {name} has not{hint}")
    raise InputError(f"checkpoint {path}: a CLIP with {_say(given)} given for {name} with {_say(wanted)}{hint}")


_Shape = tuple[int, int, int, int, int, int]  # vision width, layers, patch; text width, layers; words in the table


def _say(shape: _Shape) -> str:
    return f"vision {shape[0]} wide, {shape[1]} deep, patch {shape[2]}, text {shape[3]} wide, {shape[4]} deep"


def _shape_of_weights(weights: dict[str, Tensor]) -> _Shape | None:
    """What tells one ViT of open_clip from another; None for other towers."""
    patches = weights.get("visual.conv1.weight")
    blocks = _count(weights, "visual.transformer.resblocks.")
    text = "" if "token_embedding.weight" in weights else "text."
    words = weights.get(f"{text}token_embedding.weight")
    if patches is None or blocks == 0 or words is None:
        return None
    depth = _count(weights, f"{text}transformer.resblocks.")
    return patches.shape[0], blocks, patches.shape[-1], words.shape[1], depth, words.shape[0]


def _count(weights: dict[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})


def _shape_of_config(config: dict[str, Any]) -> _Shape | None:
    vision = CLIPVisionCfg(**config["vision_cfg"])
    text = CLIPTextCfg(**config["text_cfg"])
    if vision.timm_model_name or text.hf_model_name or not isinstance(vision.layers, int):
        return None
    patch = vision.patch_size
    return vision.width, vision.layers, patch, text.width, text.layers, text.vocab_size


# Tuning


class FusedAttention(nn.Module):
    """`nn.MultiheadAttention` with itself, of the same parameters, its input projection as a layer that LoRA knows.

    peft can also wrap `nn.MultiheadAttention`, but adds to and subtracts from the frozen weights at every step.

    Args:
        attention: batch first, query, key and value of equal width; its parameters are shared.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        width = attention.embed_dim
        self.num_heads = attention.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=attention.in_proj_bias is not None, device="meta")
        self.qkv.weight = attention.in_proj_weight
        if attention.in_proj_bias is not None:
            self.qkv.bias = attention.in_proj_bias
        self.proj: nn.Module = attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attend; query (B, N, C) stands for key and value too; `attn_mask` is additive, (N, N) or (B heads, N, N)."""
        b, n, c = query.shape
        q, k, v = self.qkv(query).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.view(b, self.num_heads, n, n)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.proj(out.transpose(1, 2).reshape(b, n, c)), None

    def original(self) -> nn.MultiheadAttention:
        """Return the attention with its original names again, of the same parameters."""
        linear: Any = self.qkv
        attention = nn.MultiheadAttention(
            linear.in_features, self.num_heads, bias=linear.bias is not None, batch_first=True, device="meta"
        )
        attention.in_proj_weight, attention.in_proj_bias = linear.weight, linear.bias
        attention.out_proj = self.proj  # type: ignore[assignment]
        return attention.train(self.training)


def tune(encoder: nn.Module, tuning: str, lora_rank: int = 4) -> None:
    """Say which parameters of a tower learn, in place: `shared.backbones.sam.apply_tuning` for CLIP's attention.

    Args:
        encoder: has an attribute ``tuning``; attention layers are called ``attn``.
        tuning: ``full``, ``frozen`` or ``lora`` (low-rank additions to the attention's input projection).
        lora_rank: rank of the additions.

    Raises:
        InputError: unknown tuning, a rank below 1, or ``lora`` for a tower without such attention (convolutions).
    """
    if tuning == "lora" and lora_rank >= 1:
        names = [name for name, module in encoder.named_modules() if name.endswith("attn.qkv")]
        for name, module in list(encoder.named_modules()):
            plain = isinstance(module, nn.MultiheadAttention) and module._qkv_same_embed_dim and module.batch_first
            if plain and name.endswith(".attn"):
                encoder.set_submodule(name, FusedAttention(module))  # type: ignore[arg-type]
                names.append(name)
        if not names:
            raise InputError("tuning lora: this tower has no attention that LoRA knows; choose frozen or full")
    apply_tuning(encoder, tuning, lora_rank)


def merge_clip_lora(encoder: nn.Module) -> nn.Module:
    """Fold LoRA's matrices into the weights, in place: open_clip's names and shapes again, ready for export.

    Returns:
        The same encoder; without adapters it is left as it is.
    """
    merge_lora(encoder)
    for name, module in list(encoder.named_modules()):
        if isinstance(module, FusedAttention):
            encoder.set_submodule(name, module.original())
    return encoder
