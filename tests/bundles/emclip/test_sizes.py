"""Predictions that are larger or smaller than labels in nearly every case."""

from __future__ import annotations

import numpy as np
import pytest
from emclip.domains import DomainReport, write_domains
from emclip.sizes import size_notes, size_ratios
from hypothesis import given
from hypothesis import strategies as st

NAN = float("nan")
CLASSES = ["disc", "cup"]


def rows(domain: str, disc: list[float], cup: list[float] | None = None, labelled: float = 2.0) -> list[dict]:
    """Cases with so large predictions, relative to their labels."""
    found = []
    for number, ratios in enumerate(zip(disc, cup or [1.0] * len(disc))):
        row = {"case_id": f"{domain}{number}", "domain": domain}
        for name, ratio in zip(CLASSES, ratios):
            row |= {f"dice_{name}": 0.9, f"hd95_mm_{name}": 1.0}
            row |= {f"volume_ml_{name}": labelled, f"volume_pred_ml_{name}": labelled * ratio}
        found.append(row)
    return found


def test_quartiles_a_domain_and_class():
    table = size_ratios([*rows("b", [1.0, 1.2, 1.4, 1.6, 1.8]), *rows("a", [0.5] * 3, [2.0, 2.0, NAN])], CLASSES)
    assert list(zip(table["domain"], table["class"])) == [("a", "disc"), ("a", "cup"), ("b", "disc"), ("b", "cup")]
    assert table[["low", "median", "high"]].to_numpy() == pytest.approx(
        np.array([[0.5] * 3, [2.0] * 3, [1.2, 1.4, 1.6], [1.0] * 3])
    )


@given(st.floats(1e-6, 1e6), st.floats(0.2, 5.0))
def test_a_ratio_does_not_depend_on_the_unit(labelled, ratio):
    assert size_ratios(rows("a", [ratio] * 4, labelled=labelled), CLASSES)["median"][0] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([1.3, 1.44, 1.44, 1.5, 1.44] * 2, "44% larger"),
        ([0.8, 0.7, 0.7, 0.6, 0.7] * 2, "30% smaller"),
        ([1.05, 1.08, 1.05, 1.07, 1.06] * 2, None),  # small
        ([0.6, 0.7, 1.4, 1.5] * 3, None),  # either way
        ([1.4] * 9, None),  # too few
    ],
)
def test_only_what_nearly_all_cases_share_is_said(ratios, said):
    notes = size_notes(rows("rim", ratios), CLASSES)
    assert len(notes) == (said is not None)
    assert said is None or f"rim, disc: {said} than labelled" in notes[0]
    assert not (said and said.startswith("44")) or notes[0].endswith("try --drawn_size \"{'disc': 0.83}\"")


@pytest.mark.parametrize("ratio", [0.0, 0.2, 9.0])
def test_what_is_no_matter_of_drawing_gets_no_factor(ratio):
    (note,) = size_notes(rows("a", [ratio] * 12), CLASSES)
    assert "than labelled" in note and "drawn_size" not in note


def test_empty_and_unknown_labels_do_not_count():
    cases = rows("a", [1.4] * 12)
    for row in cases:
        row["volume_ml_disc"], row["volume_ml_cup"] = 0.0, NAN
    assert size_ratios(cases, CLASSES).empty and size_notes(cases, CLASSES) == []


def test_rows_without_volumes_say_nothing():
    cases = rows("a", [1.4] * 12)
    del cases[1]["volume_ml_disc"], cases[1]["volume_ml_cup"]
    assert size_notes(cases, CLASSES) == []


def test_terminal_and_markdown_say_it(tmp_path):
    report = DomainReport(CLASSES, "drishti")
    report.rows = {row["case_id"]: row for row in [*rows("drishti", [1.0] * 12), *rows("rim", [1.4] * 12)]}
    assert report.text().splitlines()[-1].startswith("  rim, disc: 40% larger than labelled")
    write_domains(tmp_path, list(report.rows.values()), CLASSES, "drishti")
    assert "\n- rim, disc: 40% larger" in (tmp_path / "domains.md").read_text(encoding="utf-8")
