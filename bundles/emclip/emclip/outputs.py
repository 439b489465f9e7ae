"""The output of EM-CLIP in training; A classes with the background, S = A - 1 structures."""

from typing import NamedTuple

from torch import Tensor


class TrainingOutput(NamedTuple):
    """Masks, and the tensors that the other terms of the loss need.

    masks: logits (B, S, H / 2^i, W / 2^i), full resolution first.
    scores: logits (B, A, h, w) of the class of each token, see `emclip.aggregation`; None without text.
    compactness: (B,), mean distance of the tokens from their centres, in [0, 2]; None without EM.
    prompts, frozen: (A, D), the class texts with and without learned context; None without text.
    """

    masks: list[Tensor]
    scores: Tensor | None
    compactness: Tensor | None
    prompts: Tensor | None
    frozen: Tensor | None
