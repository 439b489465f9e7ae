"""Text conditioning: learned words before a class's name, and pixels that read a text."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Prompts(NamedTuple):
    """What `PromptLearner` returns: prompts that a text tower can read.

    embeddings: (A, L', D), token embeddings, learned context included; the type of the input.
    lengths: (A,), int64, how many of the L' tokens are real; the last real one is the end-of-text token.
    mask: (A, L'), bool, true where a token is real.
    """

    embeddings: Tensor
    lengths: Tensor
    mask: Tensor


class PromptLearner(nn.Module):
    """Learned context vectors before the class name (CoOp, Zhou 2022).

    The prompt of class a, its tokens e_1 .. e_n already embedded by a text tower, becomes::

        [ e_1 .. e_p ; v_1 .. v_M ; e_{p+1} .. e_n ; padding ]

    with p start tokens ([SOS] or [CLS], usually one), then M learned vectors v, then the class's name and the tower's
    end token. The layer knows nothing of the tower but its embeddings: hand the result to the part of the tower that
    follows its token table (it adds positions), and read the sentence at `lengths - 1` if it reads the end token.

    Args:
        text_channels: D, width of the tower's token embeddings.
        num_context: M > 0. Published values: 5 (tqdm, Pak 2024) to 16 (CoOp).
        num_classes: A for a context of its own for every class, None for one context for all (CoOp's "unified").
        num_start: p >= 0, tokens that stay before the context.
        max_length: tokens the tower can read (77 for CLIP); padding beyond it is cut off. None: L + M.
        initial: (M, D) or (A, M, D), a context to start from, such as the embeddings of "a photo of a"; default normal
            with standard deviation 0.02 (CoOp).

    Raises:
        ValueError: a number out of its range, or an initial context of another shape.
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
            embeddings: (A, L, D), the classes' tokens, padded on the right.
            lengths: (A,), integer, real tokens of each class, start and end token included; num_start < length <= L.

        Returns:
            `Prompts` of L' = min(L + M, max_length) tokens.

        Raises:
            ValueError: shapes that do not fit, or a prompt that with its context is longer than `max_length`.
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
            raise ValueError(f"{embeddings.shape[0]} classes where a context was declared for each of {classes}")
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return  # an exported graph holds no branch on data
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest <= self.num_start or longest > embeddings.shape[1]:
            raise ValueError(
                f"lengths must lie in {self.num_start + 1} .. {embeddings.shape[1]}, got {shortest} .. {longest}"
            )
        if self.max_length is not None and longest + words > self.max_length:
            raise ValueError(
                f"a prompt of {longest} tokens and {words} of context exceed the tower's {self.max_length}"
            )


class TextToPixelOutput(NamedTuple):
    """What `TextToPixelAttention` returns.

    pixels: (B, N, C), the pixels after they have read the text.
    maps: None unless asked for; (B, N, L) or (B, heads, N, L), the share of each word in what a pixel read, in [0, 1].
        A row sums to one; a padded word has zero, and so has every word of an empty text.
    """

    pixels: Tensor
    maps: Tensor | None


class TextToPixelAttention(nn.Module):
    """Pixels are queries, text tokens are keys and values; a gated residual, its gate zero at the start.

    With multi-head attention (Vaswani 2017) after layer normalisation of both sides::

        y_n = x_n + gamma * W_o Attention( W_q LN x_n , W_k LN t , W_v LN t )

    gamma in R^C starts at zero (as the residual scale in DenseCLIP, Rao 2022, nearly does), so a network begins without
    its text. A text of which no token is real (no sentence) leaves the pixels of its image exactly as they are.
    No code for positions is added: pixels and tokens bring theirs along.

    Args:
        channels: C of the pixels.
        text_channels: D of the text tokens; default C.
        num_heads: heads; C must be a multiple.

    Raises:
        ValueError: heads that do not fit.
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
        """Let the pixels read the text.

        Args:
            pixels: (B, N, C), float.
            text: (B, L, D), or (1, L, D) for one text that all windows share, float.
            mask: (B or 1, L), true or 1 where a token is real; None if all are. What stands in the others is never
                read, not even if it is NaN.
            need_maps: return the attention maps too; they cost O(N L heads) memory, which is not spent otherwise.
            average_maps: (B, N, L), the mean over the heads, instead of (B, heads, N, L).

        Raises:
            ValueError: shapes that do not fit.
        """
        if not torch.jit.is_scripting():
            self._check(pixels, text, mask)
        if mask is None:
            mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        mask = mask.to(torch.bool)
        empty = ~mask.any(dim=1)  # (B or 1,)
        text = text.masked_fill(~mask[..., None], 0.0)
        visible = (mask | empty[:, None])[:, None, None]  # (B or 1, 1, 1, L); of an empty text, zeros

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
            raise ValueError(f"{text.shape[0]} texts for {pixels.shape[0]} images: one for all, or one each")
        if mask is not None and (mask.ndim != 2 or mask.shape[1] != text.shape[1]):
            raise ValueError(f"mask must be (B or 1, {text.shape[1]}), got {tuple(mask.shape)}")
        if mask is not None and mask.shape[0] not in (1, pixels.shape[0]):
            raise ValueError(f"{mask.shape[0]} masks for {pixels.shape[0]} images: one for all, or one each")
