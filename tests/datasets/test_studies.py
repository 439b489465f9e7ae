"""Cases of a folder of studies: their paths, what is said of them, and bad studies among good ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from shared.core.errors import InputError, OutputError
from shared.datasets.faults import fault_of
from shared.datasets.studies import TABLE, is_folder, load_studies, notes_of, print_tables, source_of
from tests.preparation.studies import FLAIR, MPRAGE, SEQUENCES, T1, add_series


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((6, 6, 6), np.int16), np.diag([20.0, 20, 20, 1])), path)
    return path


@pytest.fixture
def mixed(tmp_path) -> Path:
    """A study of two series in one folder."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    add_series(folder, 2, "t2_tirm_dark-fluid", **FLAIR)
    return add_series(folder, 3, "t1_se_tra", **T1)


def test_a_case_leads_through_links_and_names_the_users_folder(mixed, tmp_path):
    (case,) = load_studies(mixed, SEQUENCES, tmp_path / "links")
    assert [path is None for path in case["image"]] == [False, False, True, True]
    assert all(Path(path).parent == tmp_path / "links" for path in case["image"][:2])
    assert source_of(case) == [str(mixed), str(mixed), None, None]
    assert case["case_id"] == "mixed" and "t1_se_tra" in case[TABLE]


def test_files_are_named_as_they_are(tmp_path):
    files = [write(tmp_path / "p1" / f"{name}.nii.gz") for name in ("flair", "t1")]
    (case,) = load_studies(tmp_path / "p1", SEQUENCES, tmp_path / "links")
    assert case["image"] == source_of(case) == [*map(str, files), None, None]
    assert not (tmp_path / "links").exists()


def test_an_open_choice_is_noted_with_the_case(mixed, tmp_path):
    add_series(mixed, 4, "t1_se_tra", **T1)
    (case,) = load_studies(mixed, SEQUENCES, tmp_path / "links")
    assert case["image"][1] is None
    assert [note.startswith("t1: ") for note in notes_of(case)] == [True]


def cut_nifti(folder: Path) -> str:
    file = write(folder / "flair.nii.gz")
    file.write_bytes(file.read_bytes()[:40])
    return "flair.nii.gz cannot be read"


def cut_dicom(folder: Path) -> str:
    folder.mkdir()
    add_series(folder, 2, "t2_tirm_dark-fluid", **FLAIR)
    file = sorted(folder.iterdir())[3]
    file.write_bytes(file.read_bytes()[:400])
    return f"{file.name} "


def only_t1(folder: Path) -> str:
    folder.mkdir()
    add_series(folder, 2, "t1_mprage", **MPRAGE)
    return "no flair found, but t1 (series 2 't1_mprage'): give --reference t1"


@pytest.mark.parametrize("spoil", [cut_nifti, cut_dicom, only_t1])
def test_a_bad_study_is_marked_and_the_others_stay(tmp_path, spoil):
    write(tmp_path / "in" / "good" / "flair.nii.gz")
    line = spoil(tmp_path / "in" / "spoilt")
    cases = {case["case_id"]: case for case in load_studies(tmp_path / "in", SEQUENCES, tmp_path / "links")}
    assert sorted(cases) == ["good", "spoilt"] and fault_of(cases["good"]) is None
    assert fault_of(cases["spoilt"]).startswith("case spoilt: ") and line in fault_of(cases["spoilt"])


def test_a_damaged_slice_stops_its_own_study_only(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name / "flair").mkdir(parents=True)
        add_series(tmp_path / "in" / name / "flair", 2, "flair", **FLAIR, StudyInstanceUID=f"1.2.{ord(name)}")
    (tmp_path / "in" / "b" / "t1").mkdir()
    add_series(tmp_path / "in" / "b" / "t1", 3, "t1_se", **T1, StudyInstanceUID=f"1.2.{ord('b')}")
    for file in (tmp_path / "in" / "b" / "t1").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    cases = load_studies(tmp_path / "in", SEQUENCES, tmp_path / "links")
    assert {case["case_id"]: fault_of(case) is None for case in cases} == {"a_flair": True, "b": False}


def test_links_that_cannot_be_written_are_one_line(mixed, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written") as error:
        load_studies(mixed, SEQUENCES, tmp_path / "file" / "series")
    assert "\n" not in str(error.value) and "--prepared_dir" in str(error.value)


def test_many_studies_are_one_line_each(tmp_path, capsys):
    for number in range(4):
        write(tmp_path / f"p{number}" / "flair.nii.gz")
    write(tmp_path / "p2" / "t1.nii.gz")
    cases = load_studies(tmp_path, SEQUENCES, tmp_path / "links")
    print_tables(cases, SEQUENCES)
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["4 studies", "  p0: flair", "  p1: flair", "  p2: flair, t1", "  p3: flair"]
    print_tables(cases[:1], SEQUENCES)
    assert "taken as" in capsys.readouterr().out


def test_a_folder_is_told_from_other_input(tmp_path):
    assert is_folder(tmp_path) and not is_folder([str(tmp_path)]) and not is_folder(None)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no DICOM, NIfTI"):
        load_studies(tmp_path, SEQUENCES, tmp_path / "links")
