"""MONAI Label's list of labelled images becomes a list of cases."""

from __future__ import annotations

from shared.serving.labelled_cases import as_cases
from tests.bundles.running import assert_one_line, input_error


def test_a_case_is_named_after_its_image(tmp_path):
    cases = as_cases([{"image": str(tmp_path / "p1_flair.nii.gz"), "label": "l"}], "training")
    assert cases == [{"image": str(tmp_path / "p1_flair.nii.gz"), "label": "l", "case_id": "p1_flair"}]


def test_sentence_beside_the_image_and_domain_are_added(tmp_path):
    (tmp_path / "x.txt").write_text("left lung.\n", encoding="utf-8")
    (case,) = as_cases([{"image": str(tmp_path / "x.png"), "label": "l"}], "training", domain="here")
    assert case["text"] == "left lung." and case["domain"] == "here" and case["case_id"] == "x"


def test_empty_list_is_refused():
    assert_one_line(input_error(as_cases, [], "validation"), ["validation", "val_split"])
