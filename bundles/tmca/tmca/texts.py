"""Sentences to features: of tokens, of the sentence, and fixed ones that measure how alike two sentences are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from shared.backbones.text import TextEncoder, TextFeatures
from shared.core.errors import InputError

CACHED = 1024  # sentences whose features a frozen encoder keeps
PLACEHOLDER = "-"  # encoded for a batch without sentences, to get tensors of the right shape; masked out


class Sentences(NamedTuple):
    """Features of T sentences: T = B, one per image, or T = 1, one for all.

    tokens: (T, L, D).
    mask: (T, L) bool, true for real tokens; all false for an empty sentence.
    pooled: (T, D), of the whole sentence, not normalised.
    semantics: (T, Y), without gradient; cosines between them measure how alike two sentences are.
    present: (T,) bool, false for an empty sentence.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    semantics: Tensor
    present: Tensor


class SentenceReader(nn.Module):
    """Encode sentences; each distinct one once per batch, with a frozen encoder once per run.

    `Sentences.semantics` must not move under the loss. They are the pooled features of a frozen encoder, or the
    `word_features` if the encoder learns.

    Args:
        encoder: of `shared.backbones.text.build_text_encoder`.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}  # tokens (L, D) and pooled (D)
        self.register_load_state_dict_post_hook(lambda module, _: module._cache.clear())

    def forward(self, sentences: list[str]) -> Sentences:
        """Encode sentences; an empty string stands for no sentence.

        A sentence longer than the encoder's limit is cut, with one warning that shows the cut part.
        """
        distinct = list(dict.fromkeys(filter(None, sentences))) or [PLACEHOLDER]
        frozen = self.encoder.tuning == "frozen"
        features = self._remembered(distinct) if frozen else self.encoder.encode(distinct)
        device = features.pooled.device
        present = torch.tensor([bool(sentence) for sentence in sentences], device=device)
        rows = torch.tensor([distinct.index(sentence) if sentence else 0 for sentence in sentences], device=device)
        pooled = features.pooled[rows]
        semantics = pooled if frozen else word_features(sentences).to(device)
        return Sentences(features.tokens[rows], features.mask[rows] & present[:, None], pooled, semantics, present)

    @torch.no_grad()
    def _remembered(self, distinct: list[str]) -> TextFeatures:
        """Encode with a frozen encoder, float32; features are kept between calls."""
        device = self.encoder.device
        if len(self._cache) > CACHED or any(pooled.device != device for _, pooled in self._cache.values()):
            self._cache.clear()
        new = [sentence for sentence in distinct if sentence not in self._cache]
        if new:
            features = self.encoder.encode(new)
            for i, sentence in enumerate(new):
                self._cache[sentence] = features.tokens[i, features.mask[i]].float(), features.pooled[i].float()
        tokens, pooled = zip(*(self._cache[sentence] for sentence in distinct))
        lengths = torch.tensor([len(t) for t in tokens], device=device)
        padded = pad_sequence(list(tokens), batch_first=True)  # (S, L, D)
        mask = torch.arange(padded.shape[1], device=device) < lengths[:, None]
        return TextFeatures(padded, mask, torch.stack(pooled))


def as_sentences(text: str | Sequence[str | None] | None, batch: int) -> list[str]:
    """Return one stripped sentence per image, or a single one for all; an empty string stands for no sentence.

    Args:
        text: a sentence or None for all images, or a list with one or `batch` entries; None or blank for no sentence.
        batch: B.

    Raises:
        InputError: the numbers of sentences and images differ, or an entry is not a string.
    """
    if text is None or isinstance(text, str):
        text = [text]
    if not isinstance(text, Sequence):
        raise InputError(f"text is a {type(text).__name__}: give a list of sentences, one for each image")
    for i, sentence in enumerate(text):
        if not (sentence is None or isinstance(sentence, str)):
            raise InputError(
                f"text {i + 1} of {len(text)} is a {type(sentence).__name__} ({sentence!r:.80}), not a string: "
                "give a sentence, or an empty string for none"
            )
    if len(text) not in (1, batch):
        raise InputError(f"{len(text)} sentences for {batch} images: give one per image, or one for all")
    return [(sentence or "").strip() for sentence in text]


def words_of(sentence: str) -> list[str]:
    """Return the words of a sentence in order, in lower case, without punctuation."""
    return re.findall(r"\w+", sentence.lower())


def word_features(sentences: Sequence[str]) -> Tensor:
    """Mark which words and pairs of neighbouring words each sentence has: (T, terms), 0 or 1.

    Pairs distinguish "left upper, right lower" from "left lower, right upper". The terms are those of the given
    sentences, which is enough for cosines between them. Case and punctuation are ignored.
    """
    found = [{*one, *pairwise(one)} for one in map(words_of, sentences)]
    terms = sorted(set().union(*found), key=str)
    return torch.tensor([[float(term in one) for term in terms] for one in found])
