"""Prepared cases on disk: found again by content, prepared again when damaged or old."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shared.core.errors import OutputError
from shared.core.files import _host
from shared.preparation import cache
from shared.preparation.cache import RECORD, digest_of, files_of, read_case, write_case
from shared.preparation.scan import Scan

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


@pytest.fixture
def case(tmp_path):
    """Write a case of two sequences; return its folder, scans and brain."""
    rng = np.random.default_rng(0)
    brain = np.zeros((12, 10, 8), bool)
    brain[3:9, 2:8, 1:7] = True
    scans = {name: Scan(np.where(brain, rng.gamma(2, size), 0).astype(np.float32), AFFINE)
             for name, size in (("flair", 1e-3), ("t1", 500.0))}  # fmt: skip
    folder = tmp_path / "prepared" / "abc"
    write_case(folder, scans, brain, {"version": 3, "steps": ["remove the skull"]})
    return folder, scans, brain


def test_a_case_comes_back_with_zeros_and_place_exact(case):
    folder, scans, brain = case
    found = read_case(folder, 3)
    assert found.record["steps"] == ["remove the skull"]
    assert list(found.scans) == ["flair", "t1"]
    for name, scan in scans.items():
        again = found.scans[name]
        assert np.allclose(again.affine, AFFINE)
        assert ((again.voxels == 0) == (scan.voxels == 0)).all()
        assert np.abs(again.voxels - scan.voxels).max() <= scan.voxels.max() / cache.FULL_SCALE


def test_another_version_is_prepared_again(case):
    assert read_case(case[0], 4) is None


@pytest.mark.parametrize("name", ["flair.nii", RECORD])
def test_a_damaged_case_is_prepared_again(case, name):
    file = case[0] / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert read_case(case[0], 3) is None


def test_a_case_that_was_interrupted_is_not_taken(case):
    (case[0] / RECORD).unlink()
    assert read_case(case[0], 3) is None


def test_a_whole_case_that_another_run_wrote_stays_while_it_is_read(case):
    folder, scans, brain = case
    before = {file: (file.read_bytes(), file.stat().st_ino) for file in sorted(folder.iterdir())}
    found = write_case(folder, {"flair": scans["flair"]}, brain, {"version": 3})
    assert list(found.scans) == ["flair", "t1"]
    assert {file: (file.read_bytes(), file.stat().st_ino) for file in sorted(folder.iterdir())} == before


def test_what_a_killed_run_left_is_replaced_and_swept(case):
    folder, scans, brain = case
    (folder / RECORD).unlink()
    (folder / "t1.nii").write_bytes(b"half")
    draft = folder / f".draft-{_host()}-{2**22}-0.nii"  # above every process id
    draft.write_bytes(b"half")
    assert list(write_case(folder, scans, brain, {"version": 3}).scans) == ["flair", "t1"]
    assert sorted(file.name for file in folder.iterdir()) == ["brain.nii.gz", "flair.nii", RECORD, "t1.nii"]


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "check_output_dir", lambda *_: ["output folder x has 0 MB free where 9 MB are needed"])
    with pytest.raises(OutputError, match="0 MB free"):
        write_case(tmp_path / "new", {"flair": Scan(np.zeros((2, 2, 2)), AFFINE)}, np.zeros((2, 2, 2), bool), {})
    assert not (tmp_path / "new").exists()


def test_the_digest_follows_content_and_settings_not_names_of_files(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    assert digest_of({"flair": [a]}, "auto") == digest_of({"flair": [b]}, "auto")
    different = [
        digest_of({"flair": [a]}, "auto"),
        digest_of({"flair": [c]}, "auto"),
        digest_of({"t1": [a]}, "auto"),
        digest_of({"flair": [a]}, "always"),
        digest_of({"flair": [a], "t1": [a]}, "auto"),
    ]
    assert len(set(different)) == len(different)


def test_the_record_is_json_that_names_the_sequences(case):
    assert json.loads((case[0] / RECORD).read_text(encoding="utf-8"))["sequences"] == ["flair", "t1"]


def test_a_header_whose_voxels_lie_elsewhere_brings_their_file(tmp_path):
    for name in ("a.mhd", "a.raw", "ab.raw", "b.nii", "b.json"):
        (tmp_path / name).write_bytes(b"1")
    assert [file.name for file in files_of(tmp_path / "a.mhd")] == ["a.mhd", "a.raw"]
    assert [file.name for file in files_of(tmp_path / "b.nii")] == ["b.nii"]
