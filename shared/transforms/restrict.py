"""Use a chain of transforms for some of its keys."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

Step = TypeVar("Step", bound=MapTransform)


def restrict(transforms: Sequence[Step], keys: KeysCollection) -> list[Step]:
    """Return copies of dictionary transforms that leave all keys but these as they are.

    A config writes a chain for images and labels once, and validation, whose labels keep their own grid, takes it for
    the images alone: ``restrict(fitting, "image")``.

    Args:
        transforms: MONAI dictionary transforms; `transforms` itself stays as it is.
        keys: the first keys of every transform, in its order: its arguments per key (such as ``mode``) follow them.

    Returns:
        A copy of each transform, for `keys`.

    Raises:
        ValueError: a transform's keys begin with others.
    """
    wanted = ensure_tuple(keys)
    copies = copy.deepcopy(list(transforms))
    for transform in copies:
        if tuple(transform.keys[: len(wanted)]) != wanted:
            raise ValueError(
                f"{type(transform).__name__} has the keys {', '.join(map(str, transform.keys))}: "
                f"let them begin with {', '.join(map(str, wanted))}"
            )
        transform.keys = wanted
    return copies
