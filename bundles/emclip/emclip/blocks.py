"""The text-guided pixel decoder's layer, and queries made of texts."""

from torch import Tensor, nn

from shared.layers.text_conditioning import TextToPixelAttention


class PixelDecoderLayer(nn.Module):
    """Self-attention among the pixels, attention from pixels to text, feed-forward; each a residual after a norm.

    Args:
        channels: C.
        text_channels: D of the texts; 0 for a layer without text.
        num_heads: heads of both attentions.
        expansion: width of the feed-forward part, in C.
        dropout: in training, of the feed-forward part.
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
        """Refine pixels (B, N, C) that read texts (1, A, D)."""
        normed = self.norm(pixels)
        pixels = pixels + self.attention(normed, normed, normed, need_weights=False)[0]
        if self.text is not None:
            pixels = self.text(pixels, texts)[0]
        return pixels + self.feed_forward(pixels)


class TextQueries(nn.Module):
    """One query and one bias a class, made from its text: mask logit = query . pixel / sqrt(E) + bias.

    Args:
        text_channels: D.
        channels: E of the pixel embeddings.
        bias: of every class at the start, the logit of how much of an image a structure covers.
    """

    def __init__(self, text_channels: int, channels: int, bias: float) -> None:
        super().__init__()
        self.channels = channels
        self.project = nn.Sequential(
            nn.LayerNorm(text_channels),
            nn.Linear(text_channels, text_channels),
            nn.GELU(),
            nn.Linear(text_channels, channels + 1),
        )
        last = self.project[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias[-1:], bias)

    def forward(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(A, D) -> queries (A, E) and biases (A,)."""
        out = self.project(texts)
        return out[:, :-1] * self.channels**-0.5, out[:, -1]
