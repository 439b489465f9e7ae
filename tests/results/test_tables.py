"""Tables of text cells."""

from __future__ import annotations

from shared.results.tables import aligned, fitting, markdown

LINES = [["domain", "n", "Dice"], ["a", "12", "0.9"], ["a longer one", "3", "-"]]


def test_aligned():
    assert aligned(LINES) == ["domain         n  Dice", "a             12   0.9", "a longer one   3     -"]


def test_aligned_to_wider_columns():
    widths = [width + 1 for width in fitting(LINES)]
    assert aligned([["a", "12", "0.9"]], widths) == ["a" + " " * 15 + "12    0.9"]


def test_no_blanks_at_the_end():
    assert aligned([["longer", "x"], ["a", ""]]) == ["longer  x", "a"]


def test_markdown():
    assert markdown(LINES)[:3] == ["| domain | n | Dice |", "| --- | ---: | ---: |", "| a | 12 | 0.9 |"]


def test_markdown_stays_a_table_whatever_a_cell_holds():
    assert markdown([["a|b"]])[0] == r"| a\|b |"
