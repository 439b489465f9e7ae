"""Parts of error messages: suggestions for misspelt names, and the reason of another error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def nearest(name: str, known: Sequence[str], count: int = 3) -> str:
    """Return ``did you mean ...?`` with the most similar known names, or ``choose one of ...`` if none is similar."""
    lower = {key.lower(): key for key in known}
    found = [lower[key] for key in difflib.get_close_matches(name.lower(), lower, n=count)]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"choose one of {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"


def meant(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return ``did you mean '...'?`` with the most similar known name, or `otherwise` if none is similar."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def reason(error: BaseException) -> str:
    """Return the first line of an error's message without a final stop, or the name of its type without a message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".:")[:160]
