"""Self-attention whose input projection is a linear layer, for LoRA."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FusedAttention(nn.Module):
    """Self-attention with the parameters of an `nn.MultiheadAttention` and a linear layer as input projection.

    peft can also wrap `nn.MultiheadAttention`, but then changes the frozen weights back and forth at every step.

    Args:
        attention: batch first, with query, key and value of equal width; its parameters are shared.
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
        """Attend; query (B, N, C) also serves as key and value; `attn_mask` is additive, (N, N) or (B heads, N, N)."""
        b, n, c = query.shape
        q, k, v = self.qkv(query).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.view(b, self.num_heads, n, n)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.proj(out.transpose(1, 2).reshape(b, n, c)), None
