"""Sentences as features: of tokens, of the whole, and frozen ones that say how far two sentences are apart."""

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

CACHED = 1024  # sentences of a frozen encoder that are kept
PLACEHOLDER = "-"  # encoded, and never read, where a batch has no sentence at all


class Sentences(NamedTuple):
    """Features of sentences, one for each of B images or one (T = 1) that all share; T is B or 1.

    tokens: (T, L, D). mask: (T, L) bool, true for real tokens; all false where there is no sentence.
    pooled: (T, D), of the whole sentence, not normalised.
    semantics: (T, Y), no gradient; its cosines say how alike two sentences are.
    present: (T,) bool, false where there is no sentence.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    semantics: Tensor
    present: Tensor


class SentenceReader(nn.Module):
    """Sentences -> features; each distinct sentence is encoded once, and once for all by a frozen encoder.

    `Sentences.semantics` does not learn: a frozen encoder's own features, or, since those of an encoder that learns
    would move under the loss (and mean nothing at the start of one from scratch), `word_features` (our choice).

    Args:
        encoder: of `shared.backbones.text.build_text_encoder`.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}  # tokens (L, D) and pooled (D)
        self.register_load_state_dict_post_hook(lambda module, _: module._cache.clear())

    def forward(self, sentences: list[str]) -> Sentences:
        """Encode sentences; an empty string is no sentence.

        A sentence longer than the encoder takes is cut, with one warning that shows what was cut.
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
        """Features of a frozen encoder, float32."""
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
    """Return one sentence for each of `batch` images, or one that all share; an empty string where there is none.

    Args:
        text: a sentence or None for all images, or a list of `batch` (or of one); None or blank for no sentence.
        batch: B.

    Raises:
        InputError: another number of sentences, or something that is no string; one line.
    """
    if text is None or isinstance(text, str):
        text = [text]
    if not isinstance(text, Sequence):
        raise InputError(f"text is a {type(text).__name__}: give a list of sentences, one for each image")
    for i, sentence in enumerate(text):
        if not (sentence is None or isinstance(sentence, str)):
            raise InputError(
                f"text {i + 1} of {len(text)} is no string but a {type(sentence).__name__} ({sentence!r:.80}): "
                "give a sentence, or an empty string for none"
            )
    if len(text) not in (1, batch):
        raise InputError(f"{len(text)} sentences for {batch} images: give one for each, or one that all share")
    return [(sentence or "").strip() for sentence in text]


def words_of(sentence: str) -> list[str]:
    """The words in their order, in small letters, without punctuation."""
    return re.findall(r"\w+", sentence.lower())


def word_features(sentences: Sequence[str]) -> Tensor:
    """Which words and which pairs of neighbouring words a sentence has: (T, terms), 0 or 1.

    Pairs tell "left upper, right lower" from "left lower, right upper". Terms are those of these sentences alone, which
    is enough for the cosines between them. Case and punctuation do not count.
    """
    found = [{*one, *pairwise(one)} for one in map(words_of, sentences)]
    terms = sorted(set().union(*found), key=str)
    return torch.tensor([[float(term in one) for term in terms] for one in found])
