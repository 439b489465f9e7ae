"""Augmentation of the words: the same findings, said in another way."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any

from monai.transforms import RandomizableTransform

from shared.core.errors import InputError
from tmca.phantoms.report import parse
from tmca.phantoms.wording import reword


class RandRephrased(RandomizableTransform):
    """Say a sentence of the scheme in another way; any other text stays (our choice).

    A network that has read one scheme only takes "right ... and left ..." or "left base" for another finding.

    Args:
        prob: of another wording.
        text_key: key of the sentence, a string.
    """

    def __init__(self, prob: float = 0.3, text_key: str = "text") -> None:
        super().__init__(prob)
        self.text_key = text_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`, its sentence said in another way or not."""
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            with suppress(InputError):  # not in the scheme
                result[self.text_key] = reword(parse(result[self.text_key]), self.R)
        return result
