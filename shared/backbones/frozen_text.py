"""Text features of fixed classes, saved with the weights: inference needs no text encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.backbones.text_encoder import TextEncoder, TextFeatures, check_sentences
from shared.core.errors import InputError


class FrozenTextFeatures(nn.Module):
    """Keep the text features of classes, with their sentences, in the state_dict.

    The shapes of the state depend on the arguments but not on the sentences, so weights load into any set of classes
    and replace the features and sentences. The encoder is not a submodule: it is neither saved nor moved nor trained.

    Args:
        sentences: one per class, at most `capacity`.
        encoder: encodes sentences that are not cached; None if all features come from weights.
        dim, length: D, and the number of tokens kept per sentence; limited by the encoder if there is one.
        capacity: number of sentences that the state can hold.

    Raises:
        InputError: a sentence is invalid, there are more than `capacity`, or neither encoder nor `dim` is given.
    """

    SENTENCE_BYTES = 1024

    tokens: Tensor  # (capacity, length, dim)
    mask: Tensor  # (capacity, length), uint8 of 0 and 1: federated learning subtracts weights, which bools cannot
    pooled: Tensor  # (capacity, dim)
    text: Tensor  # (capacity, SENTENCE_BYTES), uint8: UTF-8 followed by zeros

    def __init__(
        self,
        sentences: Sequence[str],
        encoder: TextEncoder | None = None,
        dim: int | None = None,
        length: int = 77,
        capacity: int = 16,
    ) -> None:
        super().__init__()
        self.sentences = check_sentences(sentences)
        width = encoder.dim if encoder is not None else dim
        if width is None:
            raise InputError("FrozenTextFeatures needs an encoder, or dim= for features that come from weights")
        self._encoder = [encoder]  # in a list: not registered as a submodule
        length = min(length, encoder.context_length) if encoder is not None else length
        self.register_buffer("tokens", torch.zeros(capacity, length, width))
        self.register_buffer("mask", torch.zeros(capacity, length, dtype=torch.uint8))
        self.register_buffer("pooled", torch.zeros(capacity, width))
        self.register_buffer("text", torch.zeros(capacity, self.SENTENCE_BYTES, dtype=torch.uint8))
        if encoder is not None:
            self._row_of(self.sentences)

    @property
    def cached(self) -> list[str]:
        """The sentences whose features are stored."""
        return [text for text in map(_string, self.text) if text]

    def forward(self, sentences: Sequence[str] | None = None) -> TextFeatures:
        """Return the features of `sentences`, by default of the classes, cut to the longest one's tokens.

        Raises:
            InputError: a sentence is not cached and there is no encoder, or no room for it.
        """
        wanted = self.sentences if sentences is None else check_sentences(sentences)
        rows = torch.tensor(self._row_of(wanted), device=self.tokens.device)
        mask = self.mask[rows].to(torch.bool)
        longest = int(mask.sum(dim=1).max())
        return TextFeatures(self.tokens[rows, :longest], mask[:, :longest], self.pooled[rows])

    def _row_of(self, sentences: list[str]) -> list[int]:
        """Return the rows of the sentences; new ones are encoded first."""
        new = [text for text in dict.fromkeys(sentences) if text not in self.cached]
        if new:
            self._add(new)
        here = self.cached
        return [here.index(text) for text in sentences]

    @torch.no_grad()
    def _add(self, new: list[str]) -> None:
        encoder, here = self._encoder[0], self.cached
        if encoder is None:
            known = f"cached are {', '.join(map(repr, here))}" if here else "nothing is cached: load trained weights"
            raise InputError(f"class {new[0]!r} has no cached text features and there is no text encoder: {known}")
        codes = [_bytes(text, self.SENTENCE_BYTES) for text in new]
        if len(here) + len(new) > len(self.text):  # make room: forget sentences that are not classes
            here = [text for text in here if text in self.sentences]
            if len(here) + len(new) > len(self.text):
                raise InputError(
                    f"{len(here) + len(new)} class sentences, but room for {len(self.text)}: raise capacity"
                )
            self._keep([self.cached.index(text) for text in here])
        training = encoder.training
        encoder.eval()
        features = encoder.encode([*new, *here[:1]])
        encoder.train(training)
        if here and F.cosine_similarity(features.pooled[-1].to(self.pooled), self.pooled[0], dim=0) < 0.99:
            hint = "give the encoder and the weights that computed them"
            raise InputError(f"class {new[0]!r}: the cached text features are not those of {encoder.name}: {hint}")
        length = min(self.tokens.shape[1], features.tokens.shape[1])
        for i, code in enumerate(codes):
            row = len(here) + i
            self.tokens[row], self.mask[row] = 0, 0
            self.tokens[row, :length] = features.tokens[i, :length].to(self.tokens)
            self.mask[row, :length] = features.mask[i, :length]
            self.pooled[row] = features.pooled[i].to(self.pooled)
            self.text[row] = code

    def _keep(self, rows: list[int]) -> None:
        for buffer in (self.tokens, self.mask, self.pooled, self.text):
            kept = buffer[rows].clone()
            buffer.zero_()
            buffer[: len(rows)] = kept


def _bytes(text: str, size: int) -> Tensor:
    """Encode as UTF-8 followed by zeros, uint8 (size,)."""
    code = text.encode("utf-8")
    if len(code) > size:
        raise InputError(f"class sentence of {len(code)} bytes, at most {size} can be cached: shorten {text!r:.80}")
    return torch.tensor(list(code.ljust(size, b"\0")), dtype=torch.uint8)


def _string(code: Tensor) -> str:
    return bytes(code.tolist()).rstrip(b"\0").decode("utf-8", errors="replace")
