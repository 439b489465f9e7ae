"""Blocks of EM-CLIP: a layer of the text-guided pixel decoder, and class queries made from texts."""

import torch
from torch import Tensor, nn

from shared.layers.em_clustering import unit
from shared.layers.text_conditioning import TextToPixelAttention

STRUCTURE_PRIOR = 0.1  # typical share of an image that a structure covers


class PixelDecoderLayer(nn.Module):
    """One layer of the text-guided pixel decoder::

        x <- x + SelfAttention( LN x )
        x <- TextToPixelAttention( x , texts )
        x <- x + MLP( LN x )

    Args:
        channels: C.
        text_channels: D of the texts; 0 for a layer without text.
        num_heads: heads of both attentions.
        expansion: hidden width of the MLP, in units of C.
        dropout: of the MLP, in training.
    """

    def __init__(
        self, channels: int, text_channels: int, num_heads: int = 4, expansion: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.text = TextToPixelAttention(channels, text_channels, num_heads) if text_channels else None
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, expansion * channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expansion * channels, channels),
        )

    def forward(self, pixels: Tensor, texts: Tensor) -> Tensor:
        """Refine pixels (B, N, C) with texts (1, A, D)."""
        normed = self.norm(pixels)
        pixels = pixels + self.attention(normed, normed, normed, need_weights=False)[0]
        if self.text is not None:
            pixels = self.text(pixels, texts)[0]
        return pixels + self.feed_forward(pixels)


class TextQueries(nn.Module):
    """Turn the text of each class into a query and a bias::

        [q ; b] = MLP( sqrt(D) text / |text| )
        mask logit at a pixel = <q, pixel> / sqrt(E) + b

    Args:
        text_channels: D.
        channels: E of the pixel embeddings.
    """

    def __init__(self, text_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        first, last = nn.Linear(text_channels, text_channels), nn.Linear(text_channels, channels + 1)
        self.project = nn.Sequential(nn.LayerNorm(text_channels), first, nn.GELU(), last)
        nn.init.constant_(last.bias[-1:], torch.logit(torch.tensor(STRUCTURE_PRIOR)).item())

    def forward(self, texts: Tensor, pixels: list[Tensor]) -> list[Tensor]:
        """Map texts (S, D) and pixel embeddings (B, E, h, w), at several resolutions, to mask logits (B, S, h, w)."""
        out = self.project(unit(texts) * texts.shape[1] ** 0.5)
        queries, biases = out[:, :-1] * self.channels**-0.5, out[:, -1]
        return [torch.einsum("se,behw->bshw", queries.to(x.dtype), x) + biases[:, None, None] for x in pixels]
