"""Saving figures, completely or not at all, and showing users' text literally."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shared.core.files import whole


def save_figure(path: str | os.PathLike, figure: Figure, **options: Any) -> Path:
    """Write a figure as PNG through `whole` and return the path; `options` are those of ``Figure.savefig``."""
    with whole(path) as draft:
        figure.savefig(draft, format="png", **options)
    return Path(path)


def literal(text: str) -> str:
    """Escape dollar signs, between which matplotlib would read mathematics."""
    return text.replace("$", r"\$")
