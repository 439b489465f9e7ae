"""Inference with sentences: every window of an image gets the image's sentence and its own place in the image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import ensure_tuple_rep
from torch import Tensor

from .texts import as_sentences


class SentenceInferer(SlidingWindowInferer):
    """Segment an image in one pass if it fits into a window, and in sliding windows otherwise.

    A sentence speaks of places in the whole image ("lower left"). Windows therefore tell the network where they lie,
    and a warning says once that the network was trained on whole images.

    Args:
        args, kwargs: of `monai.inferers.SlidingWindowInferer`.
        text: sentence for calls without one, as from MONAI Label.
    """

    def __init__(self, *args: Any, text: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.with_coord = True
        self.text = text

    def __call__(  # type: ignore[override]  # MONAI passes arbitrary arguments on, here it is one sentence per image
        self, inputs: Tensor, network: Any, text: str | Sequence[str | None] | None = None
    ) -> Tensor:
        """Segment images.

        Args:
            inputs: (B, 1, H, W).
            network: called with images, sentences and, for windows, `place` (see `tmca.network.TMCA.forward`).
            text: one sentence per image or one for all; None for the inferer's own.

        Returns:
            the network's output, (B, K, H, W).
        """
        sentences = as_sentences(self.text if text is None else text, len(inputs))
        window = ensure_tuple_rep(self.roi_size, 2)
        if all(side <= limit for side, limit in zip(inputs.shape[2:], window)):
            return network(inputs, sentences)
        if any(sentences):
            warn_of_windows(*window)
        size = [max(side, limit) for side, limit in zip(inputs.shape[2:], window)]  # MONAI pads to the window

        def segment(windows: Tensor, slices: list[list[slice]], sentence: list[str]) -> Tensor:
            return network(windows, sentence, place=places(slices, size).to(windows.device))

        slide = super().__call__
        sentences = sentences * (len(inputs) // len(sentences))
        parts: list[Any] = [slide(image, segment, [sentence]) for image, sentence in zip(inputs.split(1), sentences)]
        return torch.cat(parts)


@cache
def warn_of_windows(height: int, width: int) -> None:
    """Warn once that a sentence is read for windows of an image."""
    warnings.warn(
        f"the image is larger than {height} x {width} pixels and is segmented in windows: the network was trained on "
        "whole images and follows the sentence best with --resize true",
        stacklevel=2,
    )


def places(slices: list[list[slice]], size: Sequence[int]) -> Tensor:
    """Return where windows lie in their image: (W, 4), top, bottom, left and right as shares of height and width.

    Args:
        slices: per window, slices of batch, channels, rows and columns, as MONAI passes them to a predictor.
        size: height and width of the image.
    """
    edges = [[place / side for cut, side in zip(s[2:], size) for place in (cut.start, cut.stop)] for s in slices]
    return torch.tensor(edges, dtype=torch.float32)


class VariantInferer(Inferer):
    """Segment each image once with each of several sentences.

    Args:
        inferer: takes images, a network and one sentence per image.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: Tensor, network: Any, *texts: Sequence[str]) -> Tensor:
        """Return (B, V, H, W) for V lists of B sentences."""
        return torch.cat([self.inferer(inputs, network, text) for text in texts], dim=1)
