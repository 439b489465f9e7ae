"""Dynamic modality fusion: any number of streams, any of which may be missing."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FusionOutput(NamedTuple):
    """The output of `DynamicModalFusion`.

    fused: (B, N, C), the weighted sum of the streams.
    streams: (B, N, M, C), the streams after their interaction, input of a later fusion.
    image_weights: (B, M), g: the weight of each stream for the whole image.
    position_weights: (B, N, M), s: the weight of each stream at each position.

    Over the streams, weights sum to one; a missing stream has weight 0.
    """

    fused: Tensor
    streams: Tensor
    image_weights: Tensor
    position_weights: Tensor


class DynamicModalFusion(nn.Module):
    """Let streams interact, weigh them, and fuse them into one.

    With streams X_m plus a learned code per modality, availability a in {0, 1}, and a context vector::

        interact  U = X + Attention over the M streams at each position, missing streams masked     O(N M^2 C)
        weigh     g_m  = softmax_m( MLP[mean_n U_m ; context] + log a_m )         per image
                  s_mn = softmax_m( <w, U_mn> + log a_m )                         per position
        fuse      F_n  = W_o sum_m 1/2 (g_m + s_mn) U_mn

    At the start the attention's output and the scores are zero and W_o is the identity. The fusion then is the mean of
    the available streams, so equal streams pass unchanged and a pretrained encoder starts exactly as it was trained.

    Args:
        channels: C.
        num_modalities: M.
        context_channels: width of the context vector; 0 for none.
        attention_channels: inner width of the attention over streams; default C // 4, enough to distinguish a few
            streams, because the layer runs on M times as many tokens as the encoder.
        num_heads: heads of that attention.

    Raises:
        ValueError: `attention_channels` is not a multiple of `num_heads`.
    """

    def __init__(
        self,
        channels: int,
        num_modalities: int,
        context_channels: int = 0,
        attention_channels: int | None = None,
        num_heads: int = 2,
    ) -> None:
        super().__init__()
        inner = attention_channels or max(num_heads, channels // 4 // num_heads * num_heads)
        if inner % num_heads:
            raise ValueError(f"attention_channels ({inner}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.context_channels = context_channels
        self.modality_code = nn.Parameter(torch.zeros(num_modalities, channels))
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * inner, bias=False)
        self.proj = nn.Linear(inner, channels)
        hidden = max(8, channels // 4)
        image_score = nn.Linear(hidden, 1, bias=False)  # a softmax cancels a bias
        self.image_score = nn.Sequential(nn.Linear(channels + context_channels, hidden), nn.GELU(), image_score)
        self.position_score = nn.Linear(channels, 1, bias=False)
        self.output = nn.Linear(channels, channels)
        for layer in (self.proj, image_score, self.position_score):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.proj.bias)
        nn.init.eye_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, streams: Tensor, available: Tensor, context: Tensor | None = None) -> FusionOutput:
        """Fuse the streams.

        Args:
            streams: (B, N, M, C) tokens, float.
            available: (B, M), true or 1 where the stream is present.
            context: (B, context_channels), state of the network that receives the fusion; required if and only if
                `context_channels` is above 0.

        Raises:
            ValueError: wrong number of streams, a missing or unexpected context, or an image with every stream missing.
        """
        available = available.to(torch.bool)
        if not torch.jit.is_scripting():
            self._check(streams, available, context)
        missing = ~available
        # A weight of zero is not enough: zero times NaN is NaN.
        streams = streams.masked_fill(missing[:, None, :, None], 0.0) + self.modality_code
        streams = streams + self._attend(self.norm(streams), available)

        pooled = streams.mean(dim=1)  # (B, M, C)
        if context is not None:
            pooled = torch.cat([pooled, context[:, None].expand(-1, pooled.shape[1], -1)], dim=-1)
        image_weights = self.image_score(pooled)[..., 0].masked_fill(missing, -torch.inf).softmax(-1)  # (B, M)
        scores = self.position_score(streams)[..., 0].masked_fill(missing[:, None], -torch.inf)
        position_weights = scores.softmax(-1)  # (B, N, M)

        weights = 0.5 * (image_weights[:, None] + position_weights)
        fused = (weights[..., None] * streams).sum(2)  # (B, N, C)
        return FusionOutput(self.output(fused), streams, image_weights, position_weights)

    def _attend(self, streams: Tensor, available: Tensor) -> Tensor:
        """Attend over the M streams of each position: (B, N, M, C) -> (B, N, M, C)."""
        query, key, value = self.qkv(streams).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)  # (B, N, M, heads, d)
        # M is small: broadcasting is faster than thousands of M x M matrix products.
        scores = (query[:, :, :, None] * key[:, :, None]).sum(-1) * query.shape[-1] ** -0.5  # (B, N, M, M, heads)
        scores = scores.masked_fill(~available[:, None, None, :, None], -torch.inf)
        seen = (scores.softmax(3)[..., None] * value[:, :, None]).sum(3)  # (B, N, M, heads, d)
        return self.proj(seen.flatten(3))

    @torch.jit.unused
    def _check(self, streams: Tensor, available: Tensor, context: Tensor | None) -> None:
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return  # exported graphs cannot branch on data
        modalities = self.modality_code.shape[0]
        if streams.shape[2] != modalities:
            raise ValueError(f"{streams.shape[2]} modality streams given, {modalities} declared")
        if (context is None) != (self.context_channels == 0):
            raise ValueError(f"context_channels is {self.context_channels}: pass a context if and only if it is not 0")
        if not bool(available.any(dim=1).all()):
            raise ValueError("every modality of an image is missing: at least one must be available")


def drop_modalities(available: Tensor, probability: float) -> Tensor:
    """Drop streams at random in training, as mmFormer does, but never all streams of an image.

    Args:
        available: (B, M) bool.
        probability: of dropping one available stream of one image, in [0, 1].

    Returns:
        (B, M) bool, a subset of `available` with at least one stream for each image that had one.
    """
    keep = available & (torch.rand(available.shape, device=available.device) >= probability)
    # If all were dropped, keep the available stream with the highest random rank.
    rank = torch.rand(available.shape, device=available.device).masked_fill(~available, -1.0)
    spared = F.one_hot(rank.argmax(dim=1), available.shape[1]).to(torch.bool) & available
    return torch.where(keep.any(dim=1, keepdim=True), keep, spared)
