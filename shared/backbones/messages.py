"""Words that error messages of the backbones share."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str], count: int = 3) -> str:
    """Say in a few words which known names are meant: ``did you mean ...?`` or ``choose one of ...``."""
    lower = {key.lower(): key for key in known}
    found = [lower[key] for key in difflib.get_close_matches(name.lower(), lower, n=count)]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"choose one of {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
