"""Measure the influence of the sentence: the same images with their own, without, and with another image's sentence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from shared.datasets.cases import Items

from .data import TEXT

# Variant -> key of its sentence. The name "null" would be read as a missing value from a CSV.
KEYS = {"right": TEXT, "none": f"{TEXT}_none", "shuffled": f"{TEXT}_shuffled"}


def choose_variants(items: Items, reads_text: bool = True) -> list[str]:
    """Return the variants that differ: only "none" without sentences, no "shuffled" if all sentences are equal.

    Args:
        items: cases with ``text``.
        reads_text: false for a network that ignores sentences.
    """
    distinct = {item[TEXT] for item in items} - {""} if reads_text else set()
    return list(KEYS)[: 1 + len(distinct)] if distinct else ["none"]


def with_variants(items: Items, seed: int = 0) -> Items:
    """Return the cases with the sentence of each variant under its key in `KEYS`."""
    shuffled = shuffle([item[TEXT] for item in items], seed)
    return [{**item, KEYS["none"]: "", KEYS["shuffled"]: other} for item, other in zip(items, shuffled)]


def text_keys(variants: Sequence[str]) -> list[str]:
    """Return the keys under which the sentences of the variants are."""
    return [KEYS[variant] for variant in variants]


def shuffle(sentences: Sequence[str], seed: int = 0) -> list[str]:
    """Exchange sentences between cases so that no case keeps its words; empty ones stay empty.

    Cases are put in random order with equal sentences side by side, and shifted by the count of the most common one.
    If that one fills more than half of the cases, some would get it back; they get a random other sentence. If all
    sentences are equal, nothing changes.
    """
    chance = random.Random(seed)
    counts = Counter(filter(None, sentences))
    order = [i for i, sentence in enumerate(sentences) if sentence]
    if len(counts) < 2:
        return list(sentences)
    chance.shuffle(order)
    first = {sentences[i]: rank for rank, i in reversed(list(enumerate(order)))}
    order.sort(key=lambda i: first[sentences[i]])
    step = max(counts.values())
    result = list(sentences)
    for place, i in enumerate(order):
        other = sentences[order[(place + step) % len(order)]]
        result[i] = other if other != sentences[i] else chance.choice(sorted(counts.keys() - {other}))
    return result
