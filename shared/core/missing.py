"""Missing sequences of a case: the entries of a list of paths that mark them."""

from __future__ import annotations

from typing import Any

MISSING = ("", "none", "null")


def is_missing(path: Any) -> bool:
    """Tell whether an entry marks a missing sequence: None, ``""`` or the words ``None`` and ``null`` in any case."""
    return path is None or str(path).strip().lower() in MISSING


def present(image: Any) -> list[str]:
    """Return the paths in a case's ``image`` (a path, or a list of paths and None) without the missing ones."""
    return [str(path) for path in (image if isinstance(image, (list, tuple)) else [image]) if not is_missing(path)]
