"""The classes' sentences as features: frozen ones, and ones with learned context before the words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from shared.backbones.text import FrozenTextFeatures, TextEncoder
from shared.errors import InputError
from shared.layers.text_conditioning import PromptLearner

CAPACITY = 16  # classes for which the weights have room


class ClassFeatures(NamedTuple):
    """Features of the A classes, not normalised; float (A, D).

    prompts: with learned context; the same as `frozen` where no context is learned.
    frozen: of the sentences as they are written.
    """

    prompts: Tensor
    frozen: Tensor


class ClassTexts(nn.Module):
    """Sentences of classes -> features, through a frozen text tower with learned context (CoOp, Zhou 2022).

    The state_dict holds the features of the sentences, with and without context, so a network whose classes stay as
    they were trained needs no text tower. The tower itself is never saved, moved or trained.

    Args:
        sentences: one a class; at most 16.
        encoder: the tower; None if everything comes from weights.
        dim: D.
        num_context: learned vectors before the words; 0 for none.

    Raises:
        InputError: a sentence that is empty, or that with its context is longer than the tower can read.
    """

    learned: Tensor  # (CAPACITY, D), rows as in `frozen`

    def __init__(self, sentences: Sequence[str], encoder: TextEncoder | None, dim: int, num_context: int = 8) -> None:
        super().__init__()
        self.frozen = FrozenTextFeatures(sentences, encoder, dim=dim, length=1, capacity=CAPACITY)
        self._encoder: list[TextEncoder | None] = [encoder]  # a list, so that it is not registered
        self.context: Any = None
        self.num_context = num_context
        if num_context:
            width, limit = (dim, 77) if encoder is None else (_width(encoder), encoder.context_length)
            self.context = PromptLearner(width, num_context, max_length=limit)
            self.register_buffer("learned", torch.zeros(CAPACITY, dim))
            if encoder is not None:
                _check_room(encoder, self.frozen.sentences, num_context)
                self.refresh()
        self.register_state_dict_pre_hook(lambda *_: self.refresh())

    def forward(self) -> ClassFeatures:
        """Return the classes' features; in training gradients flow into the context.

        Raises:
            InputError: a sentence whose features are not in the weights, and no tower to read it.
        """
        frozen = self.frozen().pooled
        if self.context is None:
            return ClassFeatures(frozen, frozen)
        if self.training and self._encoder[0] is not None:
            return ClassFeatures(self._prompted(self.frozen.sentences).to(frozen), frozen)
        return ClassFeatures(self.learned[self._rows()], frozen)

    def train(self, mode: bool = True) -> "ClassTexts":
        """Set the mode; on the way to evaluation the context's features are brought up to date."""
        if self.training and not mode:
            self.refresh()
        return super().train(mode)

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute the cached features with context, if there is a tower to do it."""
        if self.context is not None and self._encoder[0] is not None:
            cached = self.frozen.cached
            self.learned[: len(cached)] = self._prompted(cached).to(self.learned)

    def _rows(self) -> Tensor:
        cached = self.frozen.cached
        return torch.tensor([cached.index(text) for text in self.frozen.sentences], device=self.learned.device)

    def _prompted(self, sentences: list[str]) -> Tensor:
        """(A, D) of the sentences with the context before them."""
        encoder = self._encoder[0]
        assert encoder is not None
        device = self.context.context.device
        if encoder.device != device:
            encoder.to(device)
        ids, mask = encoder.tokenize(sentences)
        prompts = self.context(encoder.embed(ids), mask.sum(dim=1))
        length = prompts.embeddings.shape[1]
        # the tower finds the end of a text by its mask; the ids stand in for positions only
        padded = torch.zeros(len(sentences), length, dtype=ids.dtype, device=device)
        return encoder(padded, prompts.mask, prompts.embeddings).pooled


def _width(encoder: TextEncoder) -> int:
    with torch.no_grad():
        return int(encoder.embed(torch.zeros(1, 1, dtype=torch.int64, device=encoder.device)).shape[-1])


def _check_room(encoder: TextEncoder, sentences: list[str], num_context: int) -> None:
    _, mask = encoder.tokenize(sentences)
    for text, length in zip(sentences, mask.sum(dim=1).tolist()):
        if length + num_context > encoder.context_length:
            raise InputError(
                f"class sentence of {length} tokens and {num_context} of context exceed the {encoder.context_length} "
                f"that {encoder.name} reads: shorten {text[:60]!r} or lower num_context"
            )
