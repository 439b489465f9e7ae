"""How much a network listens: the same images with the right, with no and with another image's sentence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from shared.datasets.cases import Items

from .data import TEXT

# Variant -> key of its sentence; "null" would be read as a missing name from a CSV.
KEYS = {"right": TEXT, "none": f"{TEXT}_none", "shuffled": f"{TEXT}_shuffled"}


def choose_variants(items: Items, reads_text: bool = True) -> list[str]:
    """Return the variants that differ: "none" alone without sentences, no "shuffled" where all are the same.

    Args:
        items: cases with ``text``.
        reads_text: false for an image-only network.
    """
    distinct = {item[TEXT] for item in items} - {""} if reads_text else set()
    return list(KEYS)[: 1 + len(distinct)] if distinct else ["none"]


def with_variants(items: Items, seed: int = 0) -> Items:
    """Return the cases with the sentences of all variants, under `KEYS`."""
    shuffled = shuffle([item[TEXT] for item in items], seed)
    return [{**item, KEYS["none"]: "", KEYS["shuffled"]: other} for item, other in zip(items, shuffled)]


def text_keys(variants: Sequence[str]) -> list[str]:
    """Return the keys of the variants' sentences."""
    return [KEYS[variant] for variant in variants]


def shuffle(sentences: Sequence[str], seed: int = 0) -> list[str]:
    """Exchange sentences so that nobody keeps the words it had; what is empty stays empty.

    The cases, those of one sentence side by side, in random order else, pass their sentences on by as many places as
    the commonest one fills. Where that one fills more than half of them, some would get it back: they get another one
    by chance. If all are the same there is nothing to exchange.
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
