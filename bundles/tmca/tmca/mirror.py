"""Random left-right flips of image and sentence together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Flip, MapTransform, RandomizableTransform

from tmca.phantoms.sentence import mirror_sentence


class RandMirrord(RandomizableTransform, MapTransform):
    """Flip pictures left to right and exchange the words "left" and "right" in their sentence.

    Args:
        keys: keys of the pictures (C, H, W).
        prob: probability of a flip.
        text_key: key of the sentence, a string.
        allow_missing_keys: skip absent keys instead of raising.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.5, text_key: str = "text", allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.text_key = text_key
        self.flip = Flip(spatial_axis=1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`, flipped with probability `prob`."""
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(result):
                result[key] = self.flip(result[key])
            result[self.text_key] = mirror_sentence(result[self.text_key])
        return result
