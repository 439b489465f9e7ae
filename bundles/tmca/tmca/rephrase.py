"""Random rewording of sentences: the same findings in other words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any

from monai.transforms import RandomizableTransform

from shared.core.errors import InputError
from tmca.phantoms.sentence import parse
from tmca.phantoms.wording import reword


class RandRephrased(RandomizableTransform):
    """Reword sentences of QaTa's scheme at random; any other text is kept.

    A network that was trained on a single scheme misreads "right ... and left ..." or "left base".

    Args:
        prob: probability of another wording.
        text_key: key of the sentence, a string.
    """

    def __init__(self, prob: float = 0.3, text_key: str = "text") -> None:
        super().__init__(prob)
        self.text_key = text_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`, its sentence reworded with probability `prob`."""
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            with suppress(InputError):  # the sentence is not in the scheme
                result[self.text_key] = reword(parse(result[self.text_key]), self.R)
        return result
