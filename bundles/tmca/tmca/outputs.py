"""The output of TMCA in training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AlignmentInput(NamedTuple):
    """Features of B images and their sentences, for the alignment.

    levels: (B, C, H / s, W / s) for the strides s = 4, 8, 16, 32, image features without influence of the text.
    maps: logits (B, 1, H / s, W / s) of the same levels: where the sentence points.
    sentences: (B, C), in the space of the levels, not normalised; zero for an image without sentence.
    semantics: (B, Y), see `Sentences`.
    present: (B,) bool, false for an image without sentence.
    """

    levels: list[Tensor]
    maps: list[Tensor]
    sentences: Tensor
    semantics: Tensor
    present: Tensor


class TrainingOutput(NamedTuple):
    """The network's output in training.

    masks: logits (B + R, 1, H / 2^i, W / 2^i), full resolution first: B images, then R of them without their sentence.
    alignment: of the B images; None without a text encoder or with `align` off.
    again: (R,), int64, indices of the R images.
    """

    masks: list[Tensor]
    alignment: AlignmentInput | None
    again: Tensor = torch.zeros(0, dtype=torch.int64)
