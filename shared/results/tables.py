"""Tables of text: for a terminal, as Markdown, as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

Lines = Sequence[Sequence[str]]
FORMULA = ("=", "+", "-", "@", "\t", "\n")  # a spreadsheet runs a cell that begins so


def fitting(lines: Lines) -> list[int]:
    """Return the width of each column's widest cell, in characters."""
    return [max(map(len, column)) for column in zip(*lines)]


def aligned(lines: Lines, widths: Sequence[int] | None = None) -> list[str]:
    """Align the first column to the left and the others to the right, two blanks apart.

    Args:
        lines: cells, the same number in every line.
        widths: widths of the columns, in characters; None for `fitting`.

    """
    widths = fitting(lines) if widths is None else widths
    return [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip()
        for line in lines
    ]


def markdown(lines: Lines) -> list[str]:
    """Return the lines of a Markdown table; the first line is its heading, numbers are aligned to the right."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return ["| " + " | ".join(line) + " |" for line in [cells[0], rule, *cells[1:]]]


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV, with an apostrophe before every text that a spreadsheet would run as a formula."""
    return frame.map(_harmless).rename(columns=_harmless).to_csv(index=False)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # pandas quotes cells with a line feed only
    return f"'{cell}" if cell.startswith(FORMULA) else cell
