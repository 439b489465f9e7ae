"""Text conditioning: learned context in front of a class name, and attention from pixels to text."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Prompts(NamedTuple):
    """The output of `PromptLearner`: prompts for a text tower.

    embeddings: (A, L', D), token embeddings including the learned context; the dtype of the input.
    lengths: (A,), int64, number of real tokens among the L'; the last real one is the end-of-text token.
    mask: (A, L'), bool, true where a token is real.
    """

    embeddings: Tensor
    lengths: Tensor
    mask: Tensor


class PromptLearner(nn.Module):
    """Insert learned context vectors in front of each class name (CoOp, Zhou 2022).

    The prompt of a class with token embeddings e_1 .. e_n becomes::

        [ e_1 .. e_p ; v_1 .. v_M ; e_{p+1} .. e_n ; padding ]

    p start tokens (usually one, [SOS] or [CLS]), M learned vectors v, then the class name and the tower's end token.
    Pass the result to the part of the tower that follows its token table, which adds positions. Towers that pool at the
    end token find it at `lengths - 1`.

    Args:
        text_channels: D, width of the tower's token embeddings.
        num_context: M > 0. Published values range from 5 (tqdm, Pak 2024) to 16 (CoOp).
        num_classes: A for one context per class, None for a context that all classes share (CoOp's "unified").
        num_start: p >= 0, tokens that stay in front of the context.
        max_length: longest input of the tower (77 for CLIP); padding beyond it is cut off. None: L + M.
        initial: (M, D) or (A, M, D), the initial context, such as the embeddings of "a photo of a"; by default normal
            with standard deviation 0.02 (CoOp).

    Raises:
        ValueError: a number is out of its range, or the initial context has another shape.
    """

    def __init__(
        self,
        text_channels: int,
        num_context: int = 8,
        num_classes: int | None = None,
        num_start: int = 1,
        max_length: int | None = None,
        initial: Tensor | None = None,
    ) -> None:
        super().__init__()
        if num_context < 1 or num_start < 0 or (num_classes is not None and num_classes < 1):
            raise ValueError(
                f"num_context ({num_context}) and num_classes ({num_classes}) must be positive, "
                f"num_start ({num_start}) not negative"
            )
        shape = (1 if num_classes is None else num_classes, num_context, text_channels)
        context = torch.empty(shape)
        if initial is None:
            nn.init.normal_(context, std=0.02)
        elif initial.shape in (shape, shape[1:]):
            context.copy_(initial.detach())
        else:
            raise ValueError(f"initial context must be {shape[1:]} or {shape}, got {tuple(initial.shape)}")
        self.num_start = num_start
        self.max_length = max_length
        self.context = nn.Parameter(context)  # (1 or A, M, D)

    def forward(self, embeddings: Tensor, lengths: Tensor) -> Prompts:
        """Insert the context.

        Args:
            embeddings: (A, L, D), the tokens of the classes, padded on the right.
            lengths: (A,), integer, real tokens of each class, start and end token included; num_start < length <= L.

        Returns:
            `Prompts` of L' = min(L + M, max_length) tokens.

        Raises:
            ValueError: shapes do not fit, or a prompt with its context is longer than `max_length`.
        """
        if not torch.jit.is_scripting():
            self._check(embeddings, lengths)
        context = self.context.to(embeddings.dtype).expand(embeddings.shape[0], -1, -1)
        start, rest = embeddings[:, : self.num_start], embeddings[:, self.num_start :]
        prompts = torch.cat([start, context, rest], dim=1)
        limit = self.max_length
        if limit is not None:
            prompts = prompts[:, :limit]
        lengths = lengths.to(torch.int64) + context.shape[1]
        mask = torch.arange(prompts.shape[1], device=lengths.device) < lengths[:, None]
        return Prompts(prompts, lengths, mask)

    @torch.jit.unused
    def _check(self, embeddings: Tensor, lengths: Tensor) -> None:
        classes, words, width = self.context.shape
        if embeddings.ndim != 3 or embeddings.shape[2] != width:
            raise ValueError(f"embeddings must be (A, L, {width}), got {tuple(embeddings.shape)}")
        if lengths.shape != embeddings.shape[:1]:
            raise ValueError(f"{tuple(lengths.shape)} lengths for {embeddings.shape[0]} classes")
        if classes not in (1, embeddings.shape[0]):
            raise ValueError(f"{embeddings.shape[0]} classes given, contexts declared for {classes}")
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return  # exported graphs cannot branch on data
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest <= self.num_start or longest > embeddings.shape[1]:
            raise ValueError(
                f"lengths must lie in {self.num_start + 1} .. {embeddings.shape[1]}, got {shortest} .. {longest}"
            )
        if self.max_length is not None and longest + words > self.max_length:
            raise ValueError(
                f"a prompt of {longest} tokens plus {words} of context exceeds the tower's {self.max_length}"
            )


class TextToPixelOutput(NamedTuple):
    """The output of `TextToPixelAttention`.

    pixels: (B, N, C), the pixels after attention to the text.
    maps: (B, N, L) or (B, heads, N, L), the attention of each pixel to each word, in [0, 1]; None unless requested.
        Each row sums to one; padded words and all words of an empty text get 0.
    """

    pixels: Tensor
    maps: Tensor | None


class TextToPixelAttention(nn.Module):
    """Let pixels read a text: pixels are queries, text tokens are keys and values, the residual is gated.

    With multi-head attention (Vaswani 2017) and layer normalisation of both sides::

        y_n = x_n + gamma * W_o Attention( W_q LN x_n , W_k LN t , W_v LN t )

    The gate gamma in R^C starts at zero (close to zero in DenseCLIP, Rao 2022), so a network starts as if it had no
    text. A text without real tokens (no sentence) leaves the pixels of its image unchanged. The layer adds no position
    code; pixels and tokens carry their own.

    Args:
        channels: C of the pixels.
        text_channels: D of the text tokens; default C.
        num_heads: number of heads; divides C.

    Raises:
        ValueError: `num_heads` does not divide C.
    """

    def __init__(self, channels: int, text_channels: int | None = None, num_heads: int = 8) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"channels ({channels}) must be a multiple of num_heads ({num_heads})")
        text_channels = text_channels or channels
        self.channels = channels
        self.text_channels = text_channels
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.text_norm = nn.LayerNorm(text_channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(text_channels, 2 * channels)
        self.output = nn.Linear(channels, channels)
        self.gate = nn.Parameter(torch.zeros(channels))

    def forward(
        self,
        pixels: Tensor,
        text: Tensor,
        mask: Tensor | None = None,
        need_maps: bool = False,
        average_maps: bool = True,
    ) -> TextToPixelOutput:
        """Attend from pixels to text.

        Args:
            pixels: (B, N, C), float.
            text: (B, L, D), or (1, L, D) for a text that all images or windows share, float.
            mask: (B or 1, L), true or 1 where a token is real; None if all are. Other tokens are ignored, even NaN.
            need_maps: also return the attention maps, at O(N L heads) memory.
            average_maps: return the mean over heads, (B, N, L), instead of (B, heads, N, L).

        Raises:
            ValueError: shapes do not fit.
        """
        if not torch.jit.is_scripting():
            self._check(pixels, text, mask)
        if mask is None:
            mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        mask = mask.to(torch.bool)
        empty = ~mask.any(dim=1)  # (B or 1,)
        text = text.masked_fill(~mask[..., None], 0.0)
        # An empty text attends to zeros, which keeps the softmax defined; its result is dropped below.
        visible = (mask | empty[:, None])[:, None, None]  # (B or 1, 1, 1, L)

        query = self.query(self.norm(pixels)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, d)
        key, value = self.key_value(self.text_norm(text)).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        key, value = key.transpose(1, 2), value.transpose(1, 2)  # (B or 1, heads, L, d)

        batch = query.shape[0]
        shared = [t.expand(batch, -1, -1, -1) for t in (key, value, visible)]
        seen = F.scaled_dot_product_attention(query, shared[0], shared[1], attn_mask=shared[2])
        change = self.gate * self.output(seen.transpose(1, 2).flatten(2))  # (B, N, C)
        pixels = pixels + change.masked_fill(empty[:, None, None], 0.0)

        maps: Tensor | None = None
        if need_maps:
            scores = (query @ key.transpose(2, 3)).float() * query.shape[-1] ** -0.5  # (B, heads, N, L)
            maps = scores.masked_fill(~visible, -torch.inf).softmax(-1).masked_fill(empty[:, None, None, None], 0.0)
            if average_maps:
                maps = maps.mean(1)
        return TextToPixelOutput(pixels, maps)

    @torch.jit.unused
    def _check(self, pixels: Tensor, text: Tensor, mask: Tensor | None) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != self.channels:
            raise ValueError(f"pixels must be (B, N, {self.channels}), got {tuple(pixels.shape)}")
        if text.ndim != 3 or text.shape[2] != self.text_channels or text.shape[1] == 0:
            raise ValueError(f"text must be (B or 1, L > 0, {self.text_channels}), got {tuple(text.shape)}")
        if text.shape[0] not in (1, pixels.shape[0]):
            raise ValueError(f"{text.shape[0]} texts for {pixels.shape[0]} images: give one per image, or one for all")
        if mask is not None and (mask.ndim != 2 or mask.shape[1] != text.shape[1]):
            raise ValueError(f"mask must be (B or 1, {text.shape[1]}), got {tuple(mask.shape)}")
        if mask is not None and mask.shape[0] not in (1, pixels.shape[0]):
            raise ValueError(f"{mask.shape[0]} masks for {pixels.shape[0]} images: give one per image, or one for all")
