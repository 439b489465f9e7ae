"""The cases of a run: a data set, the phantoms of a bundle, or one input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.errors import InputError
from shared.datasets.cases import dataset_file, load_input, load_split


def maker(folder: Path) -> Path:
    """Stand for a bundle's phantoms: one case a split, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {split: [{"image": f"{split}.png", "case_id": split}] for split in ("training", "validation", "testing")}
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder / "dataset.json"


def never(folder: Path) -> Path:
    raise AssertionError(f"phantoms made in {folder}")


def data_set(folder: Path, **counts: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lists = {
        split: [{"image": f"{split}_{n}.png", "case_id": f"{split}_{n}"} for n in range(count)]
        for split, count in counts.items()
    }
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


def names(items: list[dict]) -> list[str]:
    return [item["case_id"] for item in items]


def test_phantoms_are_made_in_the_built_in_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dataset_file("phantoms", tmp_path / "phantoms", maker=maker) == tmp_path / "phantoms" / "dataset.json"
    assert names(load_split(tmp_path / "phantoms", "testing", "phantoms", maker=maker)) == ["testing"]
    own = data_set(tmp_path / "own", training=1)
    assert dataset_file(own, tmp_path / "phantoms", maker=never) == own / "dataset.json"
    with pytest.raises(InputError, match=f"^no dataset.json in {tmp_path / 'nothing'}: write one"):
        dataset_file("nothing", tmp_path / "phantoms", maker=never)


def test_splits_that_a_list_has_are_taken_as_they_are(tmp_path):
    folder = data_set(tmp_path, training=3, validation=2, other=1)
    splits = {
        split: names(load_split(folder, split, "b", maker=never)) for split in ("training", "validation", "other")
    }
    assert splits == {
        "training": ["training_0", "training_1", "training_2"],
        "validation": ["validation_0", "validation_1"],
        "other": ["other_0"],
    }
    with pytest.raises(InputError, match="split 'testing' is missing"):
        load_split(folder, "testing", "b", maker=never)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 40), share=st.floats(0.05, 0.5))
def test_a_share_of_the_training_cases_stands_in_for_a_missing_validation(tmp_path_factory, count, share):
    folder = data_set(tmp_path_factory.mktemp("set"), training=count)
    training, held, again = (
        names(load_split(folder, split, "b", share, maker=never)) for split in ("training", "validation", "validation")
    )
    assert held == again and len(held) == max(1, round(share * count))
    assert not set(training) & set(held)
    assert sorted(training + held) == sorted(f"training_{n}" for n in range(count))


def test_one_input_goes_before_the_split(tmp_path):
    folder = data_set(tmp_path, testing=2)
    assert names(load_input(folder, "testing", "b", maker=never)) == ["testing_0", "testing_1"]
    assert load_input(folder, "testing", "b", "/d/eye.jpg", maker=never) == [{"image": "/d/eye.jpg", "case_id": "eye"}]


def test_without_a_validation_list_cases_are_held_back_by_patient(tmp_path):
    cases = [{"image": f"{number}.png", "patient": f"p{number // 2}"} for number in range(20)]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": cases}), encoding="utf-8")
    training, validation = (
        {item["patient"] for item in load_split(tmp_path, split, "b", maker=never)}
        for split in ("training", "validation")
    )
    assert len(training) == 8 and len(validation) == 2 and not training & validation


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize("lists", [{}, {"validation": []}, {"validation": None}])
def test_one_training_case_and_no_validation_list_is_one_line(tmp_path, split, lists):
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "a.png"}], **lists}), encoding="utf-8")
    with pytest.raises(InputError, match="dataset.json has 1 case, and there is no validation list"):
        load_split(tmp_path, split, "b", maker=never)


def test_a_validation_list_with_a_fault_is_not_taken_for_none(tmp_path):
    lists = {"training": [{"image": "a.png"}, {"image": "b.png"}], "validation": [{"label": "c.png"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    with pytest.raises(InputError, match=r"^validation\[0\] in .* names no image"):
        load_split(tmp_path, "validation", "b", maker=never)


def test_a_patient_who_trains_and_validates_is_found_when_training_starts(tmp_path):
    case = {"image": "a.png", "patient": "p1"}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"training": [case, case], "validation": [case]}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="^patient 'p1' has cases in training and in validation"):
        load_split(tmp_path, "training", "b", maker=never)
    assert names(load_split(tmp_path, "validation", "b", maker=never)) == ["a"]


def test_an_image_that_trains_and_validates_is_found_when_training_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lists = {"training": [{"image": "a.png"}, {"image": "b.png"}], "validation": ["./b.png"]}
    (tmp_path / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    with pytest.raises(InputError, match=f"^{tmp_path / 'b.png'} is an image of training and of validation in"):
        load_split(".", "training", "b", maker=never)
    assert names(load_split(".", "validation", "b", maker=never)) == ["b"]


def test_an_image_that_training_lists_twice_is_two_cases(tmp_path):
    lists = {"training": [{"image": "a.png"}, {"image": "a.png"}], "validation": [{"image": "b.png"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    assert names(load_split(tmp_path, "training", "b", maker=never)) == ["a", "a_repeat2"]
