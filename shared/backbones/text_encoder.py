"""The interface of text encoders: ``encode(sentences)`` returns token features, a mask, and sentence features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from shared.core.errors import InputError


class TextFeatures(NamedTuple):
    """Features of B sentences.

    Attributes:
        tokens: (B, L, D), floating point; undefined where the mask is False.
        mask: (B, L), bool; True for real tokens, including the special ones at both ends of a sentence.
        pooled: (B, D), one feature per sentence, not normalised.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


def check_sentences(sentences: Sequence[str]) -> list[str]:
    """Return the sentences as a list.

    Raises:
        InputError: not a list, an empty list, or an entry that is empty or not a string; the error names the entry.
    """
    if isinstance(sentences, str) or not isinstance(sentences, Sequence):
        raise InputError(f"sentences must be a list of texts, not a {type(sentences).__name__}: {sentences!r:.80}")
    if not sentences:
        raise InputError("no sentence given: the list is empty")
    for i, sentence in enumerate(sentences):
        place = f"sentence {i + 1} of {len(sentences)}"
        if not isinstance(sentence, str):
            raise InputError(f"{place} is a {type(sentence).__name__} ({sentence!r:.80}), not a string: give a text")
        if not sentence.strip():
            raise InputError(f"{place} is empty: describe the class or finding in words")
    return list(sentences)


class TextEncoder(nn.Module):
    """Base class of text encoders.

    Args:
        name: for messages.
        dim: D of the features.
        context_length: longest sentence in tokens, special ones included.
    """

    tokenizer: Any

    def __init__(self, name: str, dim: int, context_length: int) -> None:
        super().__init__()
        self.name = name
        self.dim = dim
        self.context_length = context_length
        self.tuning = "full"
        self._warned: set[str] = set()

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def encode(self, sentences: Sequence[str]) -> TextFeatures:
        """Encode B sentences; L is the length of the longest one, at most `context_length`.

        A sentence that is too long is cut, with one warning that shows the cut part.

        Raises:
            InputError: see `check_sentences`.
        """
        return self(*self.tokenize(sentences))

    def tokenize(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), int64, and mask (B, L), bool, on the encoder's device; long sentences are cut.

        Raises:
            InputError: see `check_sentences`.
        """
        texts = check_sentences(sentences)
        for text in texts:
            lost = "" if text in self._warned else self._beyond(text)
            if lost:
                self._warned.add(text)
                message = (
                    f"text encoder {self.name} takes {self.context_length} tokens: cut {lost!r} from {text[:40]!r}..."
                )
                warnings.warn(message, stacklevel=2)
        ids, mask = self._tokenize(texts)
        return ids.to(self.device), mask.to(self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """Look up the embeddings of tokens, without positions: (B, L) -> (B, L, E)."""
        return self._table()(ids)

    def forward(self, ids: Tensor, mask: Tensor, embeddings: Tensor | None = None) -> TextFeatures:
        """Encode tokens.

        Args:
            ids, mask: of `tokenize`.
            embeddings: (B, L, E) to use instead of `embed(ids)`, for learned context; gradients reach them also through
                a frozen encoder.
        """
        raise NotImplementedError

    def train(self, mode: bool = True) -> TextEncoder:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and self.tuning != "frozen")

    def _beyond(self, text: str) -> str:
        """Return the part of a text that exceeds the context length; empty if all fits."""
        raise NotImplementedError

    def _tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _table(self) -> Any:
        raise NotImplementedError
