"""Which cases a run has: a data set, the phantoms of a bundle, or one input; and what is checked before it begins."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.core.errors import InputError
from shared.datasets.cases import dataset_file, load_input, load_split, preflight


def maker(folder: Path) -> Path:
    """Stand for a bundle's phantoms: one case a split, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {split: [{"image": f"{split}.png"}] for split in ("training", "validation", "testing")}
    (folder / "dataset.json").write_text(json.dumps(lists))
    return folder / "dataset.json"


def never(folder: Path) -> Path:
    raise AssertionError(f"phantoms made in {folder}")


def data_set(folder: Path, **counts: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lists = {split: [{"image": f"{split}_{n}.png"} for n in range(count)] for split, count in counts.items()}
    (folder / "dataset.json").write_text(json.dumps(lists))
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


def volume(path: Path, value: float) -> str:
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), value, np.float32), np.eye(4)), path)
    return str(path)


def test_preflight_names_every_problem(tmp_path):
    good = {"image": [volume(tmp_path / "t1.nii", 1)], "label": volume(tmp_path / "l.nii", 1), "case_id": "a"}
    bad = {**good, "label": volume(tmp_path / "m.nii", 7), "case_id": "b"}
    bare = {"image": good["image"], "case_id": "c"}
    preflight([[good], [bare]], ["t1"], tmp_path / "out")
    preflight([[good]], ["t1"], tmp_path / "out", labels=[0, 1])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        preflight([[good, bad], [bare]], ["t1"], tmp_path / "file", labels=[0, 1])
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("case b: label") and "values 7 where 0, 1 are declared" in first
    assert second.startswith("case c: has no label") and f"{tmp_path / 'file'} is a file" in third


def test_preflight_of_pictures(tmp_path):
    Image.fromarray(np.full((4, 4), 100, np.uint8)).save(tmp_path / "a.png")
    item = {"image": str(tmp_path / "a.png"), "label": str(tmp_path / "a.png"), "case_id": "a"}
    preflight([[item], []], [], tmp_path / "out", labels=[0, 100], pictures=True)
    with pytest.raises(InputError, match="^case a: label: .*a.png: holds the value 100 where 0, 1 are declared"):
        preflight([[item]], ["red", "green", "blue"], tmp_path / "out", labels=[0, 1], pictures=True)
    with pytest.raises(InputError, match="^case a: red: .*a.png cannot be read"):
        preflight([[item | {"image": [item["image"]], "label": None}]], ["red"], tmp_path / "out")
