"""The cases of a run by domain: one source, unseen ones, further data sets, names that stay apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from emclip.data import SOURCE, UNSEEN, load_source, load_unseen, preflight, report_items, source_name

from tests.bundles.running import assert_one_line, input_error


def write(folder: Path, **splits) -> Path:
    """A data list; a case is a domain (or None), or a dict."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {}
    for split, cases in splits.items():
        lists[split] = []
        for number, case in enumerate(cases):
            item = {"image": f"{split}_{number}.png", "label": f"{split}_{number}_label.png"}
            if isinstance(case, dict):
                item |= case
            elif case is not None:
                item["domain"] = case
            lists[split].append(item)
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path):
    splits = {"training": ["a", "a", "b"], "validation": ["a", "b"], "testing": ["c", "c", "d", "a"]}
    return write(tmp_path / "data", **splits)


def domains(items):
    return [item["domain"] for item in items]


def test_a_split_as_it_is_or_a_domain_of_it(data):
    assert domains(load_source(data, "training", "x")) == ["a", "a", "b"]
    assert domains(load_source(data, "training", "x", "a")) == ["a", "a"]
    assert domains(load_source(data, "validation", "x", "b")) == ["b"]


def test_labels_of_every_unseen_domain(data):
    items = load_unseen(data, "x")
    assert domains(items) == ["c", "c", "d", "a"]
    assert all(Path(item["image"]).parent == data for item in items)
    assert domains(load_unseen(data, "x", domains=["d", "a"])) == ["d", "a"]


def test_cases_without_a_label_are_not_tested(tmp_path):
    folder = write(tmp_path, training=["a"], testing=["c", {"domain": "c", "label": None}, {"domain": "d"}])
    assert domains(load_unseen(folder, "x")) == ["c", "d"]


def test_items_without_a_domain(tmp_path):
    folder = write(tmp_path, training=[None, None], validation=[None], testing=[None, "c"])
    training = load_source(folder, "training", "x")
    assert source_name(training) == SOURCE
    assert domains(load_source(folder, "validation", "x")) == [SOURCE]
    assert domains(load_unseen(folder, "x")) == [UNSEEN, "c"]


def test_without_validation_a_share_of_training_is_held_back(tmp_path):
    folder = write(tmp_path, training=["a"] * 10)
    held = {
        split: {item["case_id"] for item in load_source(folder, split, "x")} for split in ("training", "validation")
    }
    assert len(held["training"]) == 8 and len(held["validation"]) == 2 and not held["training"] & held["validation"]


def test_no_testing_list_means_no_unseen_domain(tmp_path):
    assert load_unseen(write(tmp_path, training=["a"]), "x") == []


def test_a_bad_testing_list_is_not_taken_for_none(tmp_path):
    folder = write(tmp_path, training=["a"], testing=["c", {"image": None}])
    assert_one_line(input_error(load_unseen, folder, "x"), ["testing[1]", "names no image"])
    (folder / "dataset.json").write_text('{"training": [', encoding="utf-8")
    assert_one_line(input_error(load_unseen, folder, "x"), ["dataset.json", "is not JSON"])


def test_further_data_sets(data, tmp_path):
    other = write(tmp_path / "other", testing=["e", "e"])
    assert domains(load_unseen(data, "x", [other])) == ["c", "c", "d", "a", "e", "e"]
    assert domains(load_unseen(data, "x", [other], ["e", "d"])) == ["d", "e", "e"]
    empty = write(tmp_path / "empty", training=["f"])
    assert_one_line(input_error(load_unseen, data, "x", [empty]), ["split 'testing' is missing", str(empty)])


def test_cases_of_one_name_get_their_domain_before_it(data, tmp_path):
    """Two data sets number their cases alike, the validation cases beside them too."""
    names = [item["case_id"] for item in load_unseen(data, "x", [])]
    entries = [
        {"domain": "e", "image": "testing_0.png", "case_id": names[0]},
        {"domain": "e", "image": "z.png", "case_id": "z"},
    ]
    other = write(tmp_path / "other", testing=entries)
    beside = load_source(data, "validation", "x")
    beside[0]["case_id"] = "z"
    items = load_unseen(data, "x", [other], beside=beside)
    ids = [item["case_id"] for item in [*beside, *items]]
    assert len(set(ids)) == len(ids)
    assert ids[2:] == [f"c_{names[0]}", *names[1:], f"e_{names[0]}", "e_z"]


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_source_without_a_case(data, split):
    line = input_error(load_source, data, split, "x", "camera_x")
    assert_one_line(line, ["domain 'camera_x' has no case", f"{split} of", str(data), "it has a, b"])


def test_an_unseen_domain_without_a_case(data, tmp_path):
    other = write(tmp_path / "other", testing=["e"])
    line = input_error(load_unseen, data, "x", [other], ["c", "camera_x"])
    assert_one_line(line, ["domain 'camera_x' has no case", str(data), str(other), "it has a, c, d, e"])


def test_several_sources_are_reported_as_one(data):
    training, validation = load_source(data, "training", "x"), load_source(data, "validation", "x")
    name = source_name(training)
    assert name == "a+b"
    items = report_items(validation, load_unseen(data, "x", beside=validation), name)
    assert domains(items) == ["a+b", "a+b", "c", "c", "d", "a+b"]
    assert len({item["case_id"] for item in items}) == 6
    one = report_items(load_source(data, "validation", "x", "a"), load_unseen(data, "x"), source_name(training, "a"))
    assert domains(one) == ["a", "c", "c", "d", "a"]


def test_evaluation_needs_no_source(tmp_path):
    """A list of nothing but unseen cases: training asks for more, evaluation does not."""
    folder = write(tmp_path, testing=["c", "d"])
    for split in ("training", "validation"):
        assert load_source(folder, split, "x", optional=True) == []
        assert f"split '{'training' if split == 'validation' else split}'" in input_error(
            load_source, folder, split, "x"
        )
    assert source_name([]) == SOURCE and source_name([], "a") == "a"
    assert domains(report_items([], load_unseen(folder, "x"), SOURCE)) == ["c", "d"]


def test_optional_cases_are_taken_where_there_are_some(data, tmp_path):
    assert domains(load_source(data, "validation", "x", optional=True)) == ["a", "b"]
    shared = write(tmp_path / "shared", training=["a"] * 10)
    assert len(load_source(shared, "validation", "x", optional=True)) == 2
    alone = write(tmp_path / "alone", validation=["a"])
    assert load_source(alone, "training", "x", optional=True) == []
    assert domains(load_source(alone, "validation", "x", optional=True)) == ["a"]


def test_no_dataset_json(tmp_path):
    for load in (lambda: load_unseen(tmp_path, "x"), lambda: load_source(tmp_path, "training", "x", optional=True)):
        assert_one_line(input_error(load), ["no dataset.json in", str(tmp_path)])


@pytest.mark.parametrize("sentences", [["background"], ["background", "disc"], ["background", "disc", "cup", "vessel"]])
def test_a_sentence_a_structure(tmp_path, sentences):
    line = input_error(preflight, [[]], {"disc": [1], "cup": [2]}, sentences, ["c"], str(tmp_path))
    assert_one_line(line, [f"{len(sentences)} sentences for 2 structures (disc, cup)", "one for the background"])
