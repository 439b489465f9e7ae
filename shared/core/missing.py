"""Missing sequences of a case: what stands for them in a list of paths."""

from __future__ import annotations

from typing import Any

MISSING = ("", "none", "null")


def is_missing(path: Any) -> bool:
    """Return True where a list of sequences holds no file: None, ``""`` or the words ``None`` and ``null``."""
    return path is None or str(path).strip().lower() in MISSING


def present(image: Any) -> list[str]:
    """Return the paths of a case's ``image``, one or a list, without missing sequences."""
    return [str(path) for path in (image if isinstance(image, (list, tuple)) else [image]) if not is_missing(path)]
