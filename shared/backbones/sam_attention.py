"""SAM's attention with relative positions: the same numbers without N x N matrices."""

from __future__ import annotations

import torch
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor
from torch.nn import functional as F


class SamAttention(Attention):
    """Attend with decomposed relative positions (MViTv2, Li 2022, https://arxiv.org/abs/2112.01526)::

        softmax( s q k^T + rel_h + rel_w ) v  =  softmax( q' k'^T ) v
        q' = [ s q , rel_h , rel_w ]      k' = [ k , onehot_h , onehot_w ]

    Parameters and results are those of ``segment_anything``; no N x N matrix is stored. Windows are cut after ``qkv``,
    so padding costs no matrix product. `scaled_dot_product_attention` gets the positions as a mask built piece by piece
    (inference on CPU) or as the extra channels above (training, GPU).

    Args:
        dim: channels C; a multiple of `num_heads`.
        num_heads: attention heads.
        table_size: side of the square grid for which the tables are made; of the window, if windowed.
        window_size: side of the windows in tokens; 0 attends over the whole grid.
    """

    def __init__(self, dim: int, num_heads: int, table_size: int, window_size: int) -> None:
        super().__init__(dim, num_heads, use_rel_pos=True, input_size=(table_size, table_size))
        self.head_dim = dim // num_heads
        self.window_size = window_size
        self.mask_elements = 1 << 22  # per piece of the mask: 16 MB in float32, below the last-level cache
        self.fast_bfloat16 = _cpu_multiplies_bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Attend over tokens (B, h, w, C), any h and w."""
        b, h, w, c = x.shape
        size = self.window_size
        if size == 0:
            qkv = self.qkv(x).view(b, h, w, 3, self.num_heads, self.head_dim)
            return self.proj(self._attend(qkv).view(b, h, w, c))
        into, back = _window_order(h, w, size, x.device)
        tokens = x.flatten(1, 2)
        if h % size > 0 or w % size > 0:
            tokens = F.pad(tokens, [0, 0, 0, 1])  # one zero token for all padding
        qkv = self.qkv(tokens).index_select(1, into).view(-1, size, size, 3, self.num_heads, self.head_dim)
        out = self._attend(qkv).view(b, -1, c).index_select(1, back)
        return self.proj(out.view(b, h, w, c))

    def _attend(self, qkv: Tensor) -> Tensor:
        """Map (B, h, w, 3, heads, d) to (B, h w, C); in float32 where the CPU emulates bfloat16."""
        if qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu" and not self.fast_bfloat16:
            return self._attend_in(qkv.float()).to(qkv.dtype)
        return self._attend_in(qkv)

    def _attend_in(self, qkv: Tensor) -> Tensor:
        """Add the relative positions and attend, by the method that suits device, dtype and task."""
        b, h, w, _, n, d = qkv.shape
        query = qkv[:, :, :, 0]  # (B, h, w, heads, d)
        to_rows = relative_table(self.rel_pos_h, h).to(qkv.dtype)
        to_columns = relative_table(self.rel_pos_w, w).to(qkv.dtype)
        rel_h = torch.einsum("bhwnd,hkd->bnhwk", query, to_rows).reshape(b, n, h * w, h)
        rel_w = torch.einsum("bhwnd,wkd->bnhwk", query, to_columns).reshape(b, n, h * w, w)
        q, k, v = qkv.view(b, h * w, 3, n, d).permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, d)
        if is_exporting():
            return _by_mask(q, k, v, rel_h, rel_w)
        needs_gradient = torch.is_grad_enabled() and (q.requires_grad or rel_h.requires_grad)
        if needs_gradient or q.device.type != "cpu" or (q.dtype == torch.bfloat16 and self.fast_bfloat16):
            return _by_channels(q, k, v, rel_h, rel_w)
        return _by_pieces(q, k, v, rel_h, rel_w, self.mask_elements)


def _by_mask(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Attend in one call with the positions as an additive mask, a simple graph for exports."""
    mask = (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(-2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _by_pieces(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, elements: int) -> Tensor:
    """Attend as `_by_mask`, in groups of images, heads and queries small enough to keep each mask in the cache."""
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
    """Attend in one call without a mask, q' = [q s, rel_h, rel_w], k' = [k, onehot_h, onehot_w]; linear memory."""
    b, heads, tokens, d = q.shape
    h, w = rel_h.shape[-1], rel_w.shape[-1]
    place = torch.arange(tokens, device=q.device)
    row = (place // w).unsqueeze(1) == torch.arange(h, device=q.device)
    column = (place % w).unsqueeze(1) == torch.arange(w, device=q.device)
    onehot = torch.cat([row, column], dim=1).to(k.dtype).expand(b, heads, tokens, h + w)
    spare = -(d + h + w) % 8  # fused kernels need a multiple of eight channels
    q = F.pad(torch.cat([q * d**-0.5, rel_h, rel_w], dim=-1), [0, spare])
    k = F.pad(torch.cat([k, onehot], dim=-1), [0, spare])
    v = F.pad(v, [0, h + w + spare])
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out[..., :d].transpose(1, 2).flatten(2)


def relative_table(table: Tensor, size: int) -> Tensor:
    """Look up the relative positions along a side of the grid.

    Args:
        table: (2 s - 1, d), learned for s tokens; interpolated linearly if s differs from `size` (Li 2022).
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
    """Return indices that cut h w row-major tokens into windows (index h w is padding), and indices that undo it."""
    down, across = (h + size - 1) // size, (w + size - 1) // size
    row = torch.arange(down * size, device=device).unsqueeze(1)
    column = torch.arange(across * size, device=device).unsqueeze(0)
    source = torch.where((row < h) & (column < w), row * w + column, h * w)
    into = source.view(down, size, across, size).transpose(1, 2).flatten()
    row, column = row[:h], column[:, :w]
    window = (row // size) * across + column // size
    back = (window * size + row % size) * size + column % size
    return into, back.flatten()


def is_exporting() -> bool:
    """Return whether a graph is being traced or exported."""
    if torch.jit.is_scripting():
        return False
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def _cpu_multiplies_bfloat16() -> bool:
    """Return whether this CPU has bfloat16 products (AMX or AVX512-BF16); otherwise float32 is faster."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
