"""Words that error messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def nearest(name: str, known: Sequence[str], count: int = 3) -> str:
    """Say in a few words which known names are meant: ``did you mean ...?`` or ``choose one of ...``."""
    lower = {key.lower(): key for key in known}
    found = [lower[key] for key in difflib.get_close_matches(name.lower(), lower, n=count)]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"choose one of {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"


def meant(name: str, known: Iterable[str], otherwise: str) -> str:
    """Say which one of the known names is meant, ``did you mean '...'?``, or `otherwise` if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def reason(error: BaseException) -> str:
    """Return the first line of an error's message without its last stop, or the error's kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".:")[:160]
