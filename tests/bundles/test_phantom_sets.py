"""Behaviour common to the three built-in data sets: resuming, refusing foreign folders, writing files whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import brainsegdmlf.phantoms.dataset as brain
import emclip.phantoms.dataset as fundus
import numpy as np
import pytest
import tmca.phantoms.dataset as chest

from shared.core.errors import InputError

GREY, RGB = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)


def brain_case(seed: int, *, sequences: tuple[str, ...], hard: bool) -> brain.BrainCase:
    volume = np.full((3, 3, 3), seed % 1000, np.int16)
    return brain.BrainCase(dict.fromkeys(sequences, volume), volume.astype(np.uint8), np.eye(4))


def fundus_case(seed: int, camera: str) -> fundus.FundusCase:
    return fundus.FundusCase(RGB + np.uint8(seed % 200), GREY, np.eye(2, 3))


def chest_case(seed: int) -> chest.ChestCase:
    lungs = np.zeros((2, 8, 8), bool)
    return chest.ChestCase(GREY + np.uint8(seed % 200), GREY, GREY, lungs, "a sentence", chest.LungFrame())


@dataclass
class Phantoms:
    """A bundle's maker of phantoms, with cases that take no time."""

    module: ModuleType
    make: Callable[..., Path]
    case: str  # name of the function that makes one case
    small_case: Callable[..., Any]
    first: str  # a file of the first case
    seeds: list[int] = field(default_factory=list)

    def counted_case(self, seed: int, *args: Any, **options: Any) -> Any:
        self.seeds.append(seed)
        return self.small_case(seed, *args, **options)


MAKERS = {
    "brain": (brain, brain.make_brain_phantoms, "make_brain_case", brain_case, "phantom_000/flair.nii.gz"),
    "fundus": (fundus, fundus.make_fundus_phantoms, "make_fundus_case", fundus_case, "camera_a/eye_000.png"),
    "chest": (chest, chest.make_chest_phantoms, "make_chest_case", chest_case, "training/chest_000.png"),
}


@pytest.fixture(params=MAKERS)
def phantoms(request, monkeypatch) -> Phantoms:
    found = Phantoms(*MAKERS[request.param])
    monkeypatch.setattr(found.module, found.case, found.counted_case)
    return found


def make(phantoms: Phantoms, folder: Path, number: int = 2, **options: Any) -> Path:
    return phantoms.make(folder, number, 0, 0, **{"workers": 1, "progress": False, **options})


def test_a_finished_set_is_found(tmp_path, phantoms):
    path = make(phantoms, tmp_path)
    assert make(phantoms, tmp_path) == path
    assert len(phantoms.seeds) == 2


def test_an_interrupted_set_is_made_again(tmp_path, phantoms):
    path = make(phantoms, tmp_path)
    first = tmp_path / phantoms.first
    whole = first.read_bytes()
    path.unlink()  # the list is written last, so an interrupted call has written none
    first.write_bytes(whole[:5])
    (tmp_path / ".dataset.1.json").write_text("{", encoding="utf-8")

    make(phantoms, tmp_path)

    assert len(phantoms.seeds) == 4 and path.exists()
    assert first.read_bytes() == whole


def test_only_the_cases_and_the_list_are_written(tmp_path, phantoms):
    make(phantoms, tmp_path, number=1)
    assert {entry.name for entry in tmp_path.iterdir()} == {"dataset.json", phantoms.first.split("/")[0]}
    assert not list(tmp_path.rglob(".*"))


def test_a_failing_case_leaves_no_list(tmp_path, phantoms, monkeypatch):
    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(phantoms.module, phantoms.case, fail)
    with pytest.raises(OSError, match="disk full"):
        make(phantoms, tmp_path)
    assert not (tmp_path / "dataset.json").exists()


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path, phantoms, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("shared.core.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        make(phantoms, tmp_path)
    assert not (tmp_path / phantoms.first).exists()


def test_a_set_of_another_recipe_is_refused(tmp_path, phantoms):
    make(phantoms, tmp_path)
    with pytest.raises(InputError, match="another recipe"):
        make(phantoms, tmp_path, seed=1)


@pytest.mark.parametrize("content", ['{"training": []}', "[]", "not json"])
def test_a_list_of_another_program_is_refused_and_kept(tmp_path, phantoms, content):
    path = tmp_path / "dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="this program did not write"):
        make(phantoms, tmp_path)
    assert path.read_text(encoding="utf-8") == content and not phantoms.seeds


@pytest.mark.parametrize("phantoms", ["fundus", "chest"], indirect=True)
def test_a_folder_with_other_data_is_refused_and_kept(tmp_path, phantoms):
    (tmp_path / "scan.nii.gz").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="'scan.nii.gz', which this program did not write"):
        make(phantoms, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.nii.gz"] and not phantoms.seeds
