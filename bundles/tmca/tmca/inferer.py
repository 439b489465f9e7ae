"""Inference with a sentence: it speaks of the whole image, so all windows of an image share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import ensure_tuple_rep
from torch import Tensor

from .texts import as_sentences


class SentenceInferer(SlidingWindowInferer):
    """One pass where the image is no larger than a window, sliding windows where it is; arguments as MONAI's.

    Args:
        text: the sentence of a call that gives none, as MONAI Label's do.
    """

    def __init__(self, *args: Any, text: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text = text

    def __call__(  # type: ignore[override]  # the sentence in place of whatever a network may take
        self, inputs: Tensor, network: Any, text: str | Sequence[str | None] | None = None
    ) -> Tensor:
        """Segment.

        Args:
            inputs: (B, 1, H, W).
            network: takes images and sentences.
            text: as the network's forward takes it; None for the inferer's own.

        Returns:
            What the network gives, (B, K, H, W).
        """
        sentences = as_sentences(self.text if text is None else text, len(inputs))
        height, width = ensure_tuple_rep(self.roi_size, 2)
        if inputs.shape[-2] <= height and inputs.shape[-1] <= width:
            return network(inputs, sentences)
        sentences = sentences * (len(inputs) // len(sentences))
        parts: list[Any] = [
            super(SentenceInferer, self).__call__(image, network, [sentence])  # a comprehension knows no bare super()
            for image, sentence in zip(inputs.split(1), sentences)
        ]
        return torch.cat(parts)


class VariantInferer(Inferer):
    """Segment each image once with each of several sentences.

    Args:
        inferer: takes images, a network and one sentence an image.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: Tensor, network: Any, *texts: Sequence[str]) -> Tensor:
        """Return (B, V, H, W) for V lists of B sentences."""
        return torch.cat([self.inferer(inputs, network, text) for text in texts], dim=1)
