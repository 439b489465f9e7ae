"""Class sentences to text features: frozen ones, and ones with learned context in front of the words."""

import warnings
from collections.abc import Sequence
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from shared.backbones.text import FrozenTextFeatures, TextEncoder
from shared.core.errors import InputError
from shared.layers.text_conditioning import PromptLearner

CAPACITY = 16  # class sentences that the weights can hold


class ClassFeatures(NamedTuple):
    """Features of the A classes, (A, D), float, not normalised.

    prompts: of the sentences with learned context; equal to `frozen` if no context is learned.
    frozen: of the sentences as written.
    """

    prompts: Tensor
    frozen: Tensor


class ClassTexts(nn.Module):
    """Encode class sentences with a frozen text tower and learned context::

        frozen_a = Tower( words of a )
        prompt_a = Tower( [ context ; words of a ] )        CoOp (Zhou 2022)

    The state_dict holds both features of every sentence, so a trained network needs no text tower unless its sentences
    change. The tower is neither saved nor trained.

    Args:
        sentences: one per class, at most 16.
        encoder: the tower; None if the features come from weights. They are zero until weights are loaded.
        dim: D.
        num_context: number of learned vectors in front of the words; 0 for none.

    Raises:
        InputError: a sentence is empty, or too long for the tower together with its context. On loading weights: they
            hold no features of a sentence, and there is no tower to encode it.
    """

    learned: Tensor  # (CAPACITY, D), prompts; rows as in `frozen`

    def __init__(self, sentences: Sequence[str], encoder: TextEncoder | None, dim: int, num_context: int = 8) -> None:
        super().__init__()
        if encoder is not None:
            _check_room(encoder, sentences, num_context)
        self.frozen = FrozenTextFeatures(sentences, encoder, dim=dim, length=1, capacity=CAPACITY)
        self._encoder: list[TextEncoder | None] = [encoder]  # in a list: not registered as a submodule
        self.context: Any = None
        self.num_context = num_context
        if num_context:
            width, limit = (dim, 77) if encoder is None else (_width(encoder), encoder.context_length)
            self.context = PromptLearner(width, num_context, max_length=limit)
            self.register_buffer("learned", torch.zeros(CAPACITY, dim))
        self.rows = list(range(len(self.frozen.sentences)))  # of the classes, in `frozen` and `learned`
        self.refresh()
        self.register_state_dict_pre_hook(lambda module, *_: module.refresh())
        self.register_load_state_dict_post_hook(lambda module, _: module.refresh())

    def forward(self) -> ClassFeatures:
        """Return the features of the classes; in training, gradients reach the context."""
        frozen = self.frozen.pooled[self.rows]
        if self.context is None:
            return ClassFeatures(frozen, frozen)
        if self.training and self._encoder[0] is not None:
            return ClassFeatures(self._prompted(self.frozen.sentences).to(frozen), frozen)
        return ClassFeatures(self.learned[self.rows], frozen)

    def train(self, mode: bool = True) -> "ClassTexts":
        """Set the mode; entering evaluation recomputes the prompts from the trained context."""
        if self.training and not mode:
            self.refresh()
        return super().train(mode)

    @torch.no_grad()
    def refresh(self) -> None:
        """Find the rows of the classes, and recompute new features and prompts if there is a tower.

        Raises:
            InputError: the loaded weights lack the features of a class, and there is no tower.
        """
        encoder = self._encoder[0]
        if encoder is not None:
            self.frozen()
        cached = self.frozen.cached
        if not cached:
            return
        if new := [text for text in self.frozen.sentences if text not in cached]:
            raise InputError(
                f"class {new[0]!r}: the weights hold no text features of it and the text tower is left out: set "
                f"text_tower to true, or use {', '.join(repr(shorten(text, 60)) for text in cached)}"
            )
        self.rows = [cached.index(text) for text in self.frozen.sentences]
        if self.context is not None and encoder is not None:
            self.learned[: len(cached)] = self._prompted(cached).to(self.learned)

    def _prompted(self, sentences: list[str]) -> Tensor:
        """Encode the sentences with the context in front of them: (A, D)."""
        encoder = self._encoder[0]
        assert encoder is not None
        device = self.context.context.device
        if encoder.device != device:
            encoder.to(device)
        ids, mask = encoder.tokenize(sentences)
        prompts = self.context(encoder.embed(ids), mask.sum(dim=1))
        length = prompts.embeddings.shape[1]
        # The tower finds the end of a text by the mask; of the ids only the shape matters.
        padded = torch.zeros(len(sentences), length, dtype=ids.dtype, device=device)
        return encoder(padded, prompts.mask, prompts.embeddings).pooled


def _width(encoder: TextEncoder) -> int:
    with torch.no_grad():
        return int(encoder.embed(torch.zeros(1, 1, dtype=torch.int64, device=encoder.device)).shape[-1])


def _check_room(encoder: TextEncoder, sentences: Sequence[str], num_context: int) -> None:
    with warnings.catch_warnings(record=True) as cut:  # sentences too long by themselves
        warnings.simplefilter("always")
        _, mask = encoder.tokenize(sentences)
    lengths = mask.sum(dim=1) + num_context
    longest = int(lengths.argmax())
    if cut or lengths[longest] > encoder.context_length:
        raise InputError(
            f"class sentence {shorten(sentences[longest], 60)!r} plus {num_context} vectors of context is longer than "
            f"the {encoder.context_length} tokens that {encoder.name} reads: shorten it or lower num_context"
        )
