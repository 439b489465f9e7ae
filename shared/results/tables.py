"""Tables of text cells: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Lines = Sequence[Sequence[str]]


def fitting(lines: Lines) -> list[int]:
    """Width of each column's widest cell, in characters."""
    return [max(map(len, column)) for column in zip(*lines)]


def aligned(lines: Lines, widths: Sequence[int] | None = None) -> list[str]:
    """Return lines with the first column to the left and the others to the right, two blanks apart.

    Args:
        lines: cells, as many in every line.
        widths: of the columns, in characters; None for `fitting`.
    """
    widths = fitting(lines) if widths is None else widths
    return [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip()
        for line in lines
    ]


def markdown(lines: Lines) -> list[str]:
    """Return the lines of a Markdown table; the first line is its heading, numbers stand to the right."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return ["| " + " | ".join(line) + " |" for line in [cells[0], rule, *cells[1:]]]
