"""Inference with a sentence: it speaks of the whole image, so all windows of an image share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from .texts import as_sentences


class SentenceInferer(SlidingWindowInferer):
    """One pass where the image is no larger than a window, sliding windows where it is; arguments as MONAI's."""

    def __call__(  # type: ignore[override]  # the sentence in place of whatever a network may take
        self, inputs: Tensor, network: Any, text: str | Sequence[str | None] | None = None
    ) -> Tensor:
        """Segment.

        Args:
            inputs: (B, 1, H, W).
            network: takes images and sentences.
            text: as the network's forward takes it.

        Returns:
            What the network gives, (B, K, H, W).
        """
        sentences = as_sentences(text, len(inputs))
        height, width = self.roi_size
        if inputs.shape[-2] <= height and inputs.shape[-1] <= width:
            return network(inputs, sentences)
        sentences = sentences * (len(inputs) // len(sentences))
        parts = [
            super(SentenceInferer, self).__call__(image, network, [sentence])
            for image, sentence in zip(inputs.split(1), sentences)
        ]
        return torch.cat(parts)
