"""Tables of text cells."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from shared.results.tables import aligned, csv_text, fitting, markdown

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


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\n=1"])
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(text):
    table = pd.read_csv(io.StringIO(csv_text(pd.DataFrame([{"case_id": text, "dice": -0.5}]))))
    assert table["case_id"][0] == f"'{text}"
    assert table["dice"][0] == -0.5


def test_a_carriage_return_does_not_end_the_row():
    table = pd.read_csv(io.StringIO(csv_text(pd.DataFrame([{"text": "left\rlung\r\nlow", "n": 1}]))))
    assert table["text"][0] == "left\nlung\nlow" and list(table["n"]) == [1]


def test_other_cells_stay_as_they_are():
    frame = pd.DataFrame([{"case_id": "p-1 = x", "n": 3, "dice": 0.1}, {"case_id": "ö,;", "n": -4, "dice": np.nan}])
    assert csv_text(frame) == frame.to_csv(index=False)
