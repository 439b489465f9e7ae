"""How a sentence guides the decoder: similarity map, text fusion, language-guided target enhancement."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.layers.modality_fusion import DynamicModalFusion
from shared.layers.text_conditioning import TextToPixelAttention

from .texts import Sentences

TEMPERATURE = 0.07  # of cosines between image and text, CLIP's initial value (Radford 2021)
TARGET_PRIOR = 0.1  # typical share of an image that a target covers


def similarity_map(level: Tensor, sentence: Tensor) -> Tensor:
    """Compute where a sentence points: S_n = cos(x_n, sentence) / tau + logit(prior).

    Args:
        level: features x, (B, C, h, w).
        sentence: (B or 1, C).

    Returns:
        logits (B, 1, h, w), float32.
    """
    pixels, sentence = F.normalize(level.float(), dim=1), F.normalize(sentence.float(), dim=1)
    cosines = (pixels * sentence[:, :, None, None]).sum(1, keepdim=True)
    return cosines / TEMPERATURE + torch.logit(torch.tensor(TARGET_PRIOR)).item()


class TextFusion(nn.Module):
    """Fuse the deepest features before and after they have read the sentence::

        X' = X + Attention(X, tokens)
        Y  = X + alpha * DynamicModalFusion(X, X')          alpha in R^C zero at the start

    Without a sentence X' is a missing stream of the fusion.

    Args:
        channels: C.
        text_channels: D of the tokens.
        num_heads: of the attention.
    """

    def __init__(self, channels: int, text_channels: int, num_heads: int = 4) -> None:
        super().__init__()
        self.attention = _open_attention(channels, text_channels, num_heads)
        self.fusion = DynamicModalFusion(channels, 2)
        self.gate = nn.Parameter(torch.zeros(channels))

    def forward(self, feature: Tensor, sentences: Sentences | None) -> Tensor:
        """Map (B, C, h, w) and sentences, or None if no image has one, to (B, C, h, w)."""
        pixels = read = feature.flatten(2).transpose(1, 2)  # (B, N, C)
        present = torch.zeros(pixels.shape[0], dtype=torch.bool, device=pixels.device)
        if sentences is not None:
            read = self.attention(pixels, sentences.tokens, sentences.mask).pixels
            present = sentences.present.expand(pixels.shape[0])
        available = torch.stack([torch.ones_like(present), present], dim=1)
        fused = self.fusion(torch.stack([pixels, read], dim=2), available).fused
        return feature + (self.gate * fused).transpose(1, 2).unflatten(2, feature.shape[-2:])


class TargetEnhancement(nn.Module):
    """Language-guided target enhancement of one level: text and similarity map gate the features::

        X' = X + Attention(X, tokens)
        A  = sigmoid( W [ LN X' ; sigmoid(S) ] )     S the similarity map
        Y  = X + beta * A * X'                       beta in R^C zero at the start; Y = X without a sentence

    Args:
        channels: C.
        text_channels: D of the tokens.
        num_heads: of the attention.
    """

    def __init__(self, channels: int, text_channels: int, num_heads: int = 4) -> None:
        super().__init__()
        self.attention = _open_attention(channels, text_channels, num_heads)
        self.norm = nn.LayerNorm(channels)
        self.attend = nn.Linear(channels + 1, channels)
        self.gate = nn.Parameter(torch.zeros(channels))

    def forward(self, feature: Tensor, sentences: Sentences, similarity: Tensor) -> Tensor:
        """Map (B, C, h, w), sentences and their similarity map (B, 1, h, w) to (B, C, h, w)."""
        pixels = feature.flatten(2).transpose(1, 2)  # (B, N, C)
        read = self.attention(pixels, sentences.tokens, sentences.mask).pixels
        pointed = similarity.sigmoid().flatten(2).transpose(1, 2)  # (B, N, 1)
        target = self.attend(torch.cat([self.norm(read), pointed.to(read.dtype)], dim=-1)).sigmoid()
        change = (self.gate * target * read).masked_fill(~sentences.present[:, None, None], 0.0)
        return feature + change.transpose(1, 2).unflatten(2, feature.shape[-2:])


def _open_attention(channels: int, text_channels: int, num_heads: int) -> TextToPixelAttention:
    """Build an attention whose gate is one: the block adds its own gate at zero, and two zero gates hardly learn."""
    attention = TextToPixelAttention(channels, text_channels, num_heads)
    nn.init.ones_(attention.gate)
    return attention
