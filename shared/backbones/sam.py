"""SAM's image encoder (Kirillov 2023, https://arxiv.org/abs/2304.02643): same weights and numbers, less time.

Parameters have the names that they have in ``segment_anything``'s ``image_encoder``: original files load strictly.
A network can act between the four stages: ``stem``, ``add_position``, ``run_stage(0..3)``, tokens always (B, h, w, C).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from segment_anything.modeling.image_encoder import Attention, PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F

from shared.errors import InputError

TUNINGS = ("full", "frozen", "lora")


@dataclasses.dataclass(frozen=True)
class SamSize:
    """Hyper-parameters of one SAM encoder, under `segment_anything`'s meanings."""

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]  # blocks that attend over the whole image; the others attend inside windows
    image_size: int = 1024  # native side length in pixels: sets the sizes of the position tables
    patch_size: int = 16
    window_size: int = 14
    out_channels: int = 256  # of the neck


SAM_SIZES = {
    "vit_tiny": SamSize(96, 4, 3, (1, 3), image_size=128, patch_size=16, window_size=8, out_channels=64),
    "vit_b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
}


class SamAttention(Attention):
    """SAM's attention with decomposed relative positions (Li 2022, MViTv2, https://arxiv.org/abs/2112.01526).

    Same parameters and result as ``segment_anything``'s; the N x N matrices never exist as a whole. Our choices:
    windows are cut after ``qkv``, so padding costs no matrix product, and `scaled_dot_product_attention` gets the
    positions as a mask made piece by piece (inference on CPU) or as extra query and key channels (training, GPU).

    Args:
        dim: channels C; `num_heads` must divide it.
        num_heads: attention heads.
        table_size: side of the square grid for which the tables are made (the window's side, if windowed).
        window_size: side of the windows in tokens; 0 attends over the whole grid.
    """

    def __init__(self, dim: int, num_heads: int, table_size: int, window_size: int) -> None:
        super().__init__(dim, num_heads, use_rel_pos=True, input_size=(table_size, table_size))
        self.head_dim = dim // num_heads
        self.window_size = window_size
        self.mask_elements = 1 << 22  # of a piece of the mask: 16 MB in float32, less than the last-level cache
        self.fast_bfloat16 = _cpu_multiplies_bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Attend; tokens (B, h, w, C) in and out, any h and w."""
        b, h, w, c = x.shape
        size = self.window_size
        if size == 0:
            qkv = self.qkv(x).view(b, h, w, 3, self.num_heads, self.head_dim)
            return self.proj(self._attend(qkv).view(b, h, w, c))
        into, back = _window_order(h, w, size, x.device)
        tokens = x.flatten(1, 2)
        if h % size > 0 or w % size > 0:
            tokens = F.pad(tokens, [0, 0, 0, 1])  # one zero token stands for all padding
        qkv = self.qkv(tokens).index_select(1, into).view(-1, size, size, 3, self.num_heads, self.head_dim)
        out = self._attend(qkv).view(b, -1, c).index_select(1, back)
        return self.proj(out.view(b, h, w, c))

    def _attend(self, qkv: Tensor) -> Tensor:
        """(B, h, w, 3, heads, d) -> (B, h w, C); in float32 where the CPU would only emulate bfloat16."""
        if qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu" and not self.fast_bfloat16:
            return self._attend_in(qkv.float()).to(qkv.dtype)
        return self._attend_in(qkv)

    def _attend_in(self, qkv: Tensor) -> Tensor:
        """Add the relative positions and attend, on the path that suits the device, the type and the task."""
        b, h, w, _, n, d = qkv.shape
        query = qkv[:, :, :, 0]  # (B, h, w, heads, d)
        to_rows = relative_table(self.rel_pos_h, h).to(qkv.dtype)
        to_columns = relative_table(self.rel_pos_w, w).to(qkv.dtype)
        rel_h = torch.einsum("bhwnd,hkd->bnhwk", query, to_rows).reshape(b, n, h * w, h)
        rel_w = torch.einsum("bhwnd,wkd->bnhwk", query, to_columns).reshape(b, n, h * w, w)
        q, k, v = qkv.view(b, h * w, 3, n, d).permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, d)
        if _is_exporting():
            return _by_mask(q, k, v, rel_h, rel_w)
        needs_gradient = torch.is_grad_enabled() and (q.requires_grad or rel_h.requires_grad)
        if needs_gradient or q.device.type != "cpu" or (q.dtype == torch.bfloat16 and self.fast_bfloat16):
            return _by_channels(q, k, v, rel_h, rel_w)
        return _by_pieces(q, k, v, rel_h, rel_w, self.mask_elements)


def _by_mask(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """One call with the positions as an additive mask: the plainest graph, for exports."""
    mask = (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(-2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _by_pieces(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, elements: int) -> Tensor:
    """As `_by_mask`, over groups of images or windows, heads and queries such that a mask stays in the cache."""
    b, heads, tokens, d = q.shape
    images = max(1, elements // (heads * tokens * tokens))
    group = max(1, min(heads, elements // (tokens * tokens)))
    rows = min(tokens, max(256, elements // tokens // 256 * 256))  # 256: the block of queries of the fused CPU kernel
    out = torch.empty(b, tokens, heads, d, dtype=q.dtype, device=q.device)
    for i in range(0, b, images):
        for j in range(0, heads, group):
            key, value = k[i : i + images, j : j + group], v[i : i + images, j : j + group]
            for r in range(0, tokens, rows):
                up = rel_h[i : i + images, j : j + group, r : r + rows]
                side = rel_w[i : i + images, j : j + group, r : r + rows]
                mask = (up.unsqueeze(-1) + side.unsqueeze(-2)).flatten(-2)
                query = q[i : i + images, j : j + group, r : r + rows]
                piece = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
                out[i : i + images, r : r + rows, j : j + group] = piece.transpose(1, 2)
    return out.flatten(2)


def _by_channels(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """One call without a mask: q' = [q s, rel_h, rel_w], k' = [k, onehot_h, onehot_w]; linear memory, also backward."""
    b, heads, tokens, d = q.shape
    h, w = rel_h.shape[-1], rel_w.shape[-1]
    place = torch.arange(tokens, device=q.device)
    row = (place // w).unsqueeze(1) == torch.arange(h, device=q.device)
    column = (place % w).unsqueeze(1) == torch.arange(w, device=q.device)
    onehot = torch.cat([row, column], dim=1).to(k.dtype).expand(b, heads, tokens, h + w)
    spare = -(d + h + w) % 8  # fused kernels want a multiple of eight channels
    q = F.pad(torch.cat([q * d**-0.5, rel_h, rel_w], dim=-1), [0, spare])
    k = F.pad(torch.cat([k, onehot], dim=-1), [0, spare])
    v = F.pad(v, [0, h + w + spare])
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out[..., :d].transpose(1, 2).flatten(2)


def relative_table(table: Tensor, size: int) -> Tensor:
    """Look up the relative positions of a side of `size` tokens.

    Args:
        table: (2 s - 1, d), learned for a side of s tokens; interpolated linearly if s is not `size` (Li 2022).
        size: tokens along the side.

    Returns:
        (size, size, d): entry [i, j] is the table's row for the distance i - j.
    """
    length = 2 * size - 1
    if table.shape[0] != length:
        table = F.interpolate(table.t().unsqueeze(0), size=length, mode="linear").squeeze(0).t()
    place = torch.arange(size, device=table.device)
    return table[place.unsqueeze(1) - place.unsqueeze(0) + (size - 1)]


def _window_order(h: int, w: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices that cut h w row-major tokens into windows (h w stands for padding), and those that put them back."""
    down, across = (h + size - 1) // size, (w + size - 1) // size
    row = torch.arange(down * size, device=device).unsqueeze(1)
    column = torch.arange(across * size, device=device).unsqueeze(0)
    source = torch.where((row < h) & (column < w), row * w + column, h * w)
    into = source.view(down, size, across, size).transpose(1, 2).flatten()
    row, column = row[:h], column[:, :w]
    window = (row // size) * across + column // size
    back = (window * size + row % size) * size + column % size
    return into, back.flatten()


def _is_exporting() -> bool:
    if torch.jit.is_scripting():
        return False
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def _cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products (AMX or AVX512-BF16); otherwise float32 is faster."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class SamBlock(nn.Module):
    """One transformer block of SAM: norm1, attn, norm2, mlp with two residuals; tokens (B, h, w, C) in and out."""

    def __init__(self, size: SamSize, index: int) -> None:
        super().__init__()
        window = 0 if index in size.global_blocks else size.window_size
        grid = size.image_size // size.patch_size
        self.norm1 = nn.LayerNorm(size.embed_dim, eps=1e-6)
        self.attn = SamAttention(size.embed_dim, size.num_heads, window or grid, window)
        self.norm2 = nn.LayerNorm(size.embed_dim, eps=1e-6)
        self.mlp = MLPBlock(size.embed_dim, 4 * size.embed_dim)
        self.mlp_tokens = 1024  # a piece in inference on CPU: its hidden layer is small enough for malloc to reuse

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's tokens, of the shape given.

        Under bfloat16 autocast, a CPU without such instructions computes in float32, which it does about 7 times faster
        (our choice; measured on AVX2: a 768 -> 2304 layer takes 1.64 s a core in bfloat16, 0.23 s cast to float32).
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
        if learns or x.device.type != "cpu" or _is_exporting():
            return x + self.mlp(self.norm2(x))
        pieces = x.flatten(0, 2).split(self.mlp_tokens)
        return torch.cat([piece + self.mlp(self.norm2(piece)) for piece in pieces]).view(x.shape)


class SamEncoder(nn.Module):
    """SAM's image encoder as four stages of equally many blocks; in vit_b/l/h each stage ends in global attention.

    Args:
        size: hyper-parameters, one of `SAM_SIZES` or your own; at least four blocks.
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
            ValueError: H or W is not a multiple of the patch.
        """
        h, w = image.shape[-2], image.shape[-1]
        if h % self.stem_stride != 0 or w % self.stem_stride != 0:
            raise ValueError(f"image of {h} x {w} pixels: sides must be multiples of {self.stem_stride}, the patch")
        return self.patch_embed(image).contiguous()

    def add_position(self, tokens: Tensor) -> Tensor:
        """Add the absolute position table, bicubically resized to the grid; tokens (B, h, w, C) in and out."""
        table: Tensor = self.pos_embed
        h, w = tokens.shape[1], tokens.shape[2]
        if h != table.shape[1] or w != table.shape[2]:
            table = F.interpolate(table.permute(0, 3, 1, 2), size=[h, w], mode="bicubic").permute(0, 2, 3, 1)
        return tokens + table

    def run_stage(self, index: int, tokens: Tensor) -> Tensor:
        """Run the blocks of stage `index` (0 to 3); tokens (B, h, w, C) in and out."""
        start = 0 if index == 0 else self.ends[index - 1]
        for i, block in enumerate(self.blocks):
            if start <= i and i < self.ends[index]:
                tokens = block(tokens)
        return tokens

    @property
    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The four stages as functions of tokens; they hold no parameters of their own."""
        return tuple(partial(self.run_stage, i) for i in range(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features after each stage: four (B, C, h, w), of an image (B, 3, H, W) normalised as SAM's."""
        tokens = self.add_position(self.stem(image))
        features: list[Tensor] = []
        for i in range(4):
            tokens = self.run_stage(i, tokens)
            features.append(tokens.permute(0, 3, 1, 2))
        return features

    @torch.jit.export
    def encode(self, image: Tensor) -> Tensor:
        """Return SAM's image embedding (B, out_channels, h, w), equal to ``segment_anything``'s ``ImageEncoderViT``.

        Raises:
            ValueError: the encoder was built without its neck, or the size does not fit (see `stem`).
        """
        neck = self.neck
        if neck is None:
            raise ValueError("this SamEncoder has no neck: build it with neck=True")
        tokens = self.add_position(self.stem(image))
        for i in range(4):
            tokens = self.run_stage(i, tokens)
        return neck(tokens.permute(0, 3, 1, 2))

    def train(self, mode: bool = True) -> SamEncoder:
        """Set the mode as `nn.Module.train`, except that a frozen encoder stays in evaluation mode."""
        return super().train(mode and self.tuning != "frozen")


def build_encoder(name: str, **kwargs: Any) -> Any:
    """Build any encoder of this package by name: a key of `SAM_SIZES`, or ``lite_medsam``.

    Args:
        name: what to build.
        kwargs: of `build_sam_encoder` or `shared.backbones.lite_medsam.build_lite_medsam_encoder`.

    Raises:
        InputError: unknown name, or what the builder raises.
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
    """Build a SAM encoder, with the weights of an original file if one is given.

    Args:
        name: a key of `SAM_SIZES`.
        checkpoint: a SAM or MedSAM model, also wrapped in {"model": ...} or saved by DDP, or an encoder alone.
        tuning: see `apply_tuning`.
        lora_rank: rank of the LoRA matrices.
        neck: build the neck; without it the file's ``neck.*`` is knowingly left out.
        size_overrides: fields of `SamSize` to replace, e.g. ``image_size=512``.

    Raises:
        InputError: an unknown name or option, or a file that does not hold this encoder; one line that says why.
    """
    if name not in SAM_SIZES:
        raise InputError(f"unknown encoder {name!r}: choose one of {', '.join([*SAM_SIZES, 'lite_medsam'])}")
    fields = [field.name for field in dataclasses.fields(SamSize)]
    for key in size_overrides:
        if key not in fields:
            raise InputError(f"unknown option {key!r} of encoder {name}: it has {', '.join(fields)}")
    size = dataclasses.replace(SAM_SIZES[name], **size_overrides)
    if size.depth < 4 or size.embed_dim % size.num_heads or size.image_size % size.patch_size:
        raise InputError(f"encoder {name} cannot be made with {size}: needs 4 blocks, whole heads and whole patches")
    # Read the file first: it is refused before a large model is made.
    weights = None if checkpoint is None else _encoder_weights(read_checkpoint(checkpoint), checkpoint, name, size)
    encoder = SamEncoder(size, neck=neck)
    if weights is not None:
        load_strictly(encoder, weights, f"encoder {name}", checkpoint, ignore=() if neck else ("neck.",))
    apply_tuning(encoder, tuning, lora_rank)
    return encoder


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors on the CPU with ``weights_only``, unwrapped ("model", "state_dict", "module.").

    Raises:
        InputError: no such file, or none that torch reads, or no dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file")
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if not head:
        raise InputError(f"checkpoint {path}: the file is empty, download it again")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"checkpoint {path}: an HTML page, not weights; download the file itself")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a file that is not its own
        kind = type(error).__name__
        raise InputError(f"checkpoint {path}: not a torch file of plain tensors, or cut short ({kind})") from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {path}: holds a {type(state).__name__}, not a dictionary of tensors")
    tensors = {str(key).removeprefix("module."): value for key, value in state.items() if torch.is_tensor(value)}
    if not tensors:
        raise InputError(f"checkpoint {path}: holds no tensors")
    return tensors


def _encoder_weights(state: dict[str, Tensor], path: str | Path, name: str, size: SamSize) -> dict[str, Tensor]:
    """Cut SAM's encoder out of a checkpoint, or say in one line what the checkpoint is instead."""
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


def load_strictly(
    module: nn.Module, weights: dict[str, Tensor], label: str, path: str | Path | None, ignore: tuple[str, ...] = ()
) -> None:
    """Load `weights` into `module`: every name and shape must agree, except unwanted names that start as in `ignore`.

    Raises:
        InputError: one line with the first disagreement and their number.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in weights]
    extra = [key for key in weights if key not in own and not (ignore and key.startswith(ignore))]
    shapes = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    if missing:
        raise InputError(f"checkpoint {path}: lacks {len(missing)} tensors of {label}, such as {missing[0]!r}")
    if extra:
        raise InputError(f"checkpoint {path}: holds {len(extra)} tensors that {label} has not, such as {extra[0]!r}")
    if shapes:
        key = shapes[0]
        pair = f"{tuple(weights[key].shape)}, not {tuple(own[key].shape)}"
        raise InputError(f"checkpoint {path}: {len(shapes)} tensors do not fit {label}, such as {key!r}: {pair}")
    module.load_state_dict({key: weights[key] for key in own})


def apply_tuning(encoder: nn.Module, tuning: str, lora_rank: int = 4) -> None:
    """Say which parameters of an encoder learn, in place.

    Args:
        encoder: one with attention layers called ``attn.qkv`` and an attribute ``tuning``.
        tuning: ``full`` (all), ``frozen`` (none; stays in evaluation mode), ``lora`` (only low-rank additions to
            ``attn.qkv``; Hu 2021, https://arxiv.org/abs/2106.09685; they start as zero).
        lora_rank: rank of the additions; their scale is 1 (alpha = rank, our choice).

    Raises:
        InputError: unknown tuning, or a rank below 1.
    """
    if tuning not in TUNINGS:
        raise InputError(f"unknown tuning {tuning!r}: choose one of {', '.join(TUNINGS)}")
    if tuning == "lora" and lora_rank < 1:
        raise InputError(f"lora_rank must be at least 1, not {lora_rank}")
    encoder.tuning = tuning  # type: ignore[assignment]
    encoder.requires_grad_(tuning == "full")
    if tuning == "lora":
        config = LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=r".*\.attn\.qkv", bias="none")
        inject_adapter_in_model(config, encoder)
    encoder.train(encoder.training)


def merge_lora(encoder: nn.Module) -> nn.Module:
    """Fold LoRA's matrices into the weights, in place: original names and shapes again, ready for export.

    Returns:
        The same encoder; without adapters it is left as it is.
    """
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge()
                setattr(module, name, child.get_base_layer())
    return encoder
