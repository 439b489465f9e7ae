"""The sequences of a study are found in a scanner's export; unclear cases are reported."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from pydicom.uid import generate_uid

from shared.io.affine import to_voxels
from shared.io.dicom_seg import save_dicom_seg
from shared.io.sources import load_volume
from shared.preparation.dicom_study import find_dicom_series
from shared.preparation.sequences import find_studies, find_study
from tests.bundles.running import assert_one_line, input_error
from tests.making import make_enhanced, save, volume
from tests.preparation.studies import (
    BASIC_REPORT,
    FLAIR,
    SEQUENCES,
    T1,
    T2,
    add_frames,
    add_report,
    add_series,
    clinical,
    grid,
    voxels,
)

REAL = os.environ.get("BUNDLES_REAL_DATA")


def taken(study) -> dict[str, str | None]:
    return {name: None if one is None else one.name for name, one in study.series.items()}


def reason(study, name: str) -> str:
    return next(row.why for row in study.rows if row.series.name == name)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory) -> Path:
    return clinical(tmp_path_factory.mktemp("clinic") / "study")


CLINICAL = {"flair": "t2_tirm_tra_dark-fluid", "t1": "t1_se_tra", "t1ce": "t1_mprage_sag KM", "t2": "t2_tse_tra"}


def test_the_sequences_of_a_clinical_study_in_one_folder_are_found(clinic, tmp_path):
    study = find_study(clinic, SEQUENCES)
    assert taken(study) == CLINICAL and study.name == "study" and study.notes == ()
    assert [row.sequence for row in study.rows[:4]] == list(SEQUENCES)
    whys = {row.series.name: row.why for row in study.rows if not row.sequence}
    assert whys == {
        "localizer": "localiser",
        "ep2d_diff_TRACEW": "diffusion",
        "t1_mprage KM MPR tra": "projection or reformatted plane",
        "Screen Save": "a screenshot (secondary capture)",
        "SR of the study": "no image: Basic Text SR",
        "DOC of the study": "no image: Encapsulated PDF",
        "KO of the study": "no image: Key Object Selection Document",
    }
    assert list(clinic.glob(".*")) == []


def test_a_series_in_a_shared_folder_is_loaded_alone(clinic, tmp_path):
    paths = find_study(clinic, SEQUENCES).image(tmp_path / "links")
    for path, number in zip(paths, (2, 3, 6, 4)):
        affine = grid(4, 40, "sagittal") if number == 6 else grid()
        written, image = voxels(number, 40 if number == 6 else 24), load_volume(path, "case a")
        place = np.argwhere(np.ones(written.shape)) @ affine[:3, :3].T + affine[:3, 3]
        assert np.array_equal(image[0].numpy()[tuple(to_voxels(place * [-1, -1, 1], image).T)], written.ravel())
    assert find_study(clinic, SEQUENCES).image(tmp_path / "links") == paths
    assert len(list((tmp_path / "links").iterdir())) == 4


def test_links_where_the_system_makes_none_are_copies(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("privilege")))
    path = find_study(clinic, ["flair"]).image(tmp_path)[0]
    assert load_volume(path, "case a").shape == (1, 10, 12, 24)
    assert not any(file.is_symlink() for file in Path(path).iterdir())


def test_a_dicom_seg_refers_to_the_series_in_the_shared_folder(clinic, tmp_path):
    path = find_study(clinic, ["flair"]).image(tmp_path / "links")[0]
    image = load_volume(path, "case a")
    codes = [["52988006", "SCT", "Lesion"]]
    written = save_dicom_seg((image > 500).to(int), path, tmp_path / "a.dcm", ["lesion"], codes)
    series = pydicom.dcmread(written).ReferencedSeriesSequence[0].SeriesInstanceUID
    files = find_study(clinic, ["flair"]).series["flair"].files
    assert {pydicom.dcmread(file).SeriesInstanceUID for file in files} == {series}


def test_series_in_folders_are_taken_where_they_lie(clinic, tmp_path):
    for file in sorted(clinic.iterdir()):
        target = tmp_path / "study" / file.name[:5] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    study = find_study(tmp_path / "study", SEQUENCES)
    assert taken(study) == CLINICAL
    names = [Path(path).name for path in study.image(tmp_path / "links")]
    assert names == ["IM002", "IM003", "IM006", "IM004"] and not (tmp_path / "links").exists()


def test_the_table_names_every_series_and_its_reason(clinic):
    lines = find_study(clinic, SEQUENCES).table().splitlines()
    assert lines[0] == "study study" and len(lines) == 2 + 11
    columns = lines[1].index("why")
    assert all(line[columns - 2 : columns] == "  " and line[columns] != " " for line in lines[1:])
    assert lines[2].split("  ")[1].strip() == "flair" and "24 axial slices of 5 mm" in lines[2]
    assert lines[2].endswith("its name; TR 9000, TE 86, TI 2500 ms")


def test_two_series_of_which_neither_is_better_are_named_and_not_taken(tmp_path):
    add_series(tmp_path, 1, "FLAIR", **FLAIR)
    add_series(tmp_path, 2, "t1 tra", **T1)
    add_series(tmp_path, 3, "t1 tra rpt", **T1)
    study = find_study(tmp_path, SEQUENCES)
    assert taken(study) == {"flair": "FLAIR", "t1": None, "t1ce": None, "t2": None}
    assert_one_line(study.notes[0], ["series 2 't1 tra' and series 3 't1 tra rpt'", """--series '{"t1": ...}'"""])
    assert reason(study, "t1 tra") == "could be t1, and so could series 3 't1 tra rpt': none is taken"
    assert study.notes[0] in study.table()


def test_a_folder_called_after_its_sequence_is_named_with_the_one_above(tmp_path):
    folder = tmp_path / "p01" / "flair"
    folder.mkdir(parents=True)
    add_series(folder, 1, "FLAIR", **FLAIR)
    assert list(find_studies(tmp_path / "p01", SEQUENCES)) == ["p01_flair"]


@pytest.mark.parametrize("choice", [3, "3", "t1 tra rpt", "T1_TRA_RPT", "rpt"])
def test_a_choice_settles_it(tmp_path, choice):
    add_series(tmp_path, 1, "FLAIR", **FLAIR)
    add_series(tmp_path, 2, "t1 tra", **T1)
    add_series(tmp_path, 3, "t1 tra rpt", **T1)
    study = find_study(tmp_path, SEQUENCES, {"t1": choice})
    assert taken(study)["t1"] == "t1 tra rpt" and study.notes == ()
    assert reason(study, "t1 tra rpt") == "--series names it"


def test_a_choice_may_be_a_folder_a_file_or_nothing(tmp_path):
    for number, name in ((1, "FLAIR"), (2, "a"), (3, "b")):
        (tmp_path / "study" / name).mkdir(parents=True)
        add_series(
            tmp_path / "study" / name, number, "t1 tra" if number > 1 else "FLAIR", **(T1 if number > 1 else FLAIR)
        )
    choose = lambda value: find_study(tmp_path / "study", SEQUENCES, {"t1": value}).series["t1"]  # noqa: E731
    assert choose(str(tmp_path / "study" / "b")).number == 3
    assert choose(next((tmp_path / "study" / "a").iterdir())).number == 2
    other = save(tmp_path / "elsewhere.nii", volume(0))
    assert choose(other).path == Path(other)
    assert [choose(word) for word in (None, "null", "None")] == [None] * 3


def test_a_localiser_may_be_chosen_by_force(clinic):
    assert find_study(clinic, ["t2"], {"t2": 1}).series["t2"].name == "localizer"


@pytest.mark.parametrize(
    "choices, parts",
    [
        ({"t3": 1}, ["--series names 't3': choose one of flair"]),
        ({"t1": 77}, ["--series t1: no series '77'"]),
        ({"t1": "mprage"}, ["'mprage' names series 6", "series 7", "give the number"]),
    ],
)
def test_a_wrong_choice_is_one_line(clinic, choices, parts):
    assert_one_line(input_error(find_study, clinic, SEQUENCES, choices), parts)


def pair(folder: Path, first: dict, second: dict) -> str | None:
    """Return the description of the better one of two series of T2."""
    add_series(folder, 1, **{"description": "t2 one", **T2, **first})
    add_series(folder, 2, **{"description": "t2 other", **T2, **second})
    try:
        return taken(find_study(folder, ["t2"]))["t2"]
    except ValueError as error:
        assert "could each be it" in str(error)
        return None


@pytest.mark.parametrize(
    "first, second",
    [
        ({}, {"slices": 40, "step": 3}),
        ({}, {"MRAcquisitionType": "3D"}),
        ({"description": "t2 fs one"}, {}),
        ({"description": "serie 1"}, {}),
        ({"ImageType": ["DERIVED", "PRIMARY", "M"]}, {}),
        ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]}),
        ({"slices": 18}, {}),
        ({"slices": 6}, {}),
        ({"description": "t2 post gd one"}, {}),
        ({"plane": "coronal"}, {}),
    ],
    ids=["thinner", "3d", "fat", "named", "derived", "filter", "wider", "part", "contrast", "axial"],
)
def test_the_better_series_of_a_contrast_is_taken(tmp_path, first, second):
    assert pair(tmp_path, first, second) == "t2 other"


def test_series_that_differ_little_are_not_ranked(tmp_path):
    assert pair(tmp_path, {}, {"slices": 26, "step": 4.6}) is None


def test_t1_before_and_after_contrast_are_told_apart_by_the_header(tmp_path):
    add_series(tmp_path, 1, "FLAIR", **FLAIR)
    add_series(tmp_path, 2, "t1 tra", **T1)
    add_series(tmp_path, 3, "t1 tra", **T1, ContrastBolusAgent="Dotarem")
    study = find_study(tmp_path, SEQUENCES)
    assert (study.series["t1"].number, study.series["t1ce"].number) == (2, 3)


def test_a_name_against_the_times_is_noted(tmp_path):
    add_series(tmp_path, 1, "t1 tra", **FLAIR)
    study = find_study(tmp_path, SEQUENCES)
    assert taken(study)["flair"] == "t1 tra" and "make it FLAIR" in study.notes[0]


def test_the_echoes_of_a_series_are_separate(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    add_series(folder, 1, "FLAIR", **FLAIR)
    uid = generate_uid()
    for number, time in ((2, 12), (3, 96)):
        tags = {**T2, "EchoTime": time, "EchoNumbers": number - 1, "SeriesInstanceUID": uid, "SeriesNumber": 5}
        add_series(folder, number, "pd+t2_tse_tra", **tags)
    study = find_study(folder, SEQUENCES)
    assert study.series["t2"].tags.te == 96 and len(study.series["t2"].files) == 24
    assert load_volume(study.image(tmp_path / "links")[3], "case a").shape == (1, 10, 12, 24)
    assert "pd, which is not asked for" in [row.why for row in study.rows]


def test_image_types_that_differ_within_one_stack_lose_no_slice(tmp_path):
    add_series(tmp_path, 1, "FLAIR", **FLAIR)
    for file in sorted(tmp_path.iterdir())[:9]:
        piece = pydicom.dcmread(file)
        piece.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM"]
        piece.save_as(file)
    assert len(find_study(tmp_path, SEQUENCES).series["flair"].files) == 24


def test_an_enhanced_file_is_one_series(tmp_path):
    add_frames(tmp_path / "flair.dcm", "3D FLAIR", **FLAIR)
    add_series(tmp_path, 2, "t2_tse_tra", **T2)
    study = find_study(tmp_path, SEQUENCES)
    assert taken(study)["flair"] == "3D FLAIR" and study.series["flair"].geometry.slices == 24
    assert study.series["flair"].tags.times == "TR 9000, TE 86, TI 2500 ms"
    image = load_volume(study.image(tmp_path / "links")[0], "case a")
    assert image.shape == (1, 10, 12, 24)


def test_enhanced_files_of_one_frame_are_one_series(tmp_path):
    add_series(tmp_path, 1, "t2_tse_tra", **T2)
    (tmp_path / "xa").mkdir()
    add_series(tmp_path / "xa", 3, "t2_tirm_tra_dark-fluid", **FLAIR)
    expected = find_study(tmp_path, SEQUENCES).series["flair"]
    plain = load_volume(expected.path, "case a")
    make_enhanced(tmp_path / "xa")
    found = find_study(tmp_path, SEQUENCES).series["flair"]
    assert found.geometry == expected.geometry and found.path == tmp_path / "xa"
    assert found.tags.times == "TR 9000, TE 86, TI 2500 ms" and found.tags.image_type == expected.tags.image_type
    image = load_volume(found.path, "case a")
    assert torch.equal(image.as_tensor(), plain.as_tensor()) and torch.equal(image.affine, plain.affine)


def test_echoes_and_phases_of_enhanced_files_are_separate(tmp_path):
    add_series(tmp_path, 4, "FLAIR", **FLAIR)
    uid = generate_uid()
    for number, time in ((1, 12), (2, 96), (3, 96)):
        tags = {**T2, "EchoTime": time, "SeriesInstanceUID": uid, "SeriesNumber": 5}
        add_series(tmp_path, number, "pd+t2_tse_tra", **tags)
    make_enhanced(tmp_path)
    for file in tmp_path.glob("IM003*"):
        piece = pydicom.dcmread(file)
        piece.PerFrameFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].ComplexImageComponent = "PHASE"
        piece.save_as(file)
    study = find_study(tmp_path, SEQUENCES)
    assert study.series["t2"].tags.te == 96 and len(study.series["t2"].files) == 24
    whys = [row.why for row in study.rows]
    assert "pd, which is not asked for" in whys and "phase or complex image" in whys


def ct(folder: Path) -> None:
    add_series(folder, 1, "Schaedel 1.0", Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")


def lone_localiser(folder: Path) -> None:
    add_series(folder, 1, "localizer", slices=3)


def no_flair(folder: Path) -> None:
    add_series(folder, 1, "t1 tra", **T1)
    add_series(folder, 2, "t2 tra", **T2)


def thin_flair(folder: Path) -> None:
    add_series(folder, 1, "FLAIR", slices=5, **FLAIR)
    add_series(folder, 2, "t1 tra", **T1)


def two_flairs(folder: Path) -> None:
    add_series(folder, 1, "FLAIR a", **FLAIR)
    add_series(folder, 2, "FLAIR b", **FLAIR)


def two_patients(folder: Path) -> None:
    for number in (1, 2):
        add_series(folder, number, "FLAIR", **FLAIR, PatientID=f"p{number}", StudyInstanceUID=generate_uid())


def two_visits(folder: Path) -> None:
    for number in (1, 2):
        tags = {"StudyInstanceUID": generate_uid(), "StudyDate": f"202{number}0101"}
        add_series(folder, number, "FLAIR", **FLAIR, **tags)


def only_a_report(folder: Path) -> None:
    add_report(folder, BASIC_REPORT, "SR")


def nothing(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello", encoding="utf-8")


def cut_slice(folder: Path) -> None:
    add_series(folder, 1, "FLAIR", **FLAIR)
    (folder / "IM001003.dcm").write_bytes(b"")


REFUSED = [
    (ct, ["a study of CT, where MR is needed"]),
    (lone_localiser, ["none of flair, t1, t1ce, t2 found (series 1 'localizer': localiser)", '{"flair": ...}']),
    (no_flair, ["no flair found, but t1 (series 1 't1 tra') and t2 (series 2 't2 tra')", "--reference t1", '": ...}']),
    (thin_flair, ["no flair found (series 1 'FLAIR': covers 25 mm, others", "--series '{\"flair\": 1}'"]),
    (two_flairs, ["flair: series 1 'FLAIR a' and series 2 'FLAIR b' could each be it", "--series"]),
    (two_patients, ["2 studies of 2 patients", "give the folder of one study"]),
    (two_visits, ["2 studies: ", "of 20210101", "of 20220101", "give the folder of one study"]),
    (only_a_report, ["none of flair, t1, t1ce, t2 found", "no image: Basic Text SR"]),
    (nothing, ["holds no DICOM, NIfTI, NRRD, MetaImage or MGZ file"]),
    (cut_slice, ["IM001003.dcm is empty, cut short or not DICOM"]),
]


@pytest.mark.parametrize("make, parts", REFUSED, ids=[row[0].__name__ for row in REFUSED])
def test_a_study_that_cannot_be_used_is_one_line(tmp_path, make, parts):
    make(tmp_path)
    assert_one_line(input_error(find_study, tmp_path, SEQUENCES), [str(tmp_path), *parts])


def test_an_absent_folder_is_one_line(tmp_path):
    assert_one_line(input_error(find_study, tmp_path / "x", SEQUENCES), ["not found"])


def test_a_reference_replaces_the_first_channel(tmp_path):
    no_flair(tmp_path)
    assert taken(find_study(tmp_path, SEQUENCES, reference="t2"))["flair"] is None
    assert_one_line(input_error(find_study, tmp_path, SEQUENCES, None, "t3"), ["--reference is 't3'", "t1"])


def test_a_channel_that_no_rule_knows_must_be_named(clinic):
    assert_one_line(input_error(find_study, clinic, ["flair", "swi"]), ["no rule finds 'swi'", "--series"])
    assert taken(find_study(clinic, ["flair", "dwi"], {"dwi": 5}))["dwi"] == "ep2d_diff_TRACEW"


def test_studies_of_one_folder_become_cases(tmp_path):
    two_visits(tmp_path)
    studies = [*find_studies(tmp_path, SEQUENCES).values()]
    assert [study.name for study in studies] == [f"{tmp_path.name}_20210101", f"{tmp_path.name}_20220101"]
    assert [study.series["flair"].number for study in studies] == [1, 2]


def test_all_studies_that_fail_are_named(tmp_path):
    for name, make in (("a", lone_localiser), ("b", no_flair), ("c", two_flairs)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
        for file in (tmp_path / name).iterdir():
            piece = pydicom.dcmread(file)
            piece.StudyInstanceUID = f"1.2.{ord(name)}"
            piece.save_as(file)
    lines = [str(error) for error in find_studies(tmp_path, SEQUENCES).values()]
    assert [line[:2] for line in lines] == ["a:", "b:", "c:"]


def test_headers_are_read_without_pixels(clinic, monkeypatch):
    read, seen = pydicom.dcmread, []

    def watch(file, **options):
        seen.append((str(file), options.get("stop_before_pixels")))
        return read(file, **options)

    monkeypatch.setattr(pydicom, "dcmread", watch)
    find_dicom_series(sorted(clinic.iterdir()))
    assert len(seen) == len({file for file, _ in seen}) and all(stopped for _, stopped in seen)


# files ----------------------------------------------------------------------------------------------------------------


def write(folder: Path, *names: str, shape: tuple = (10, 12, 24)) -> Path:
    """Write volumes in the format of their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".nrrd", ".mha", ".nhdr", ".mhd")):
            image = SimpleITK.GetImageFromArray(volume(0, shape).T.copy())
            image.SetSpacing([16, 16, 5])
            SimpleITK.WriteImage(image, path)
        elif name.endswith(".mgz"):
            nib.save(nib.MGHImage(volume(0, shape).astype(np.float32), grid()), path)
        else:
            save(path, volume(0, shape), grid())
    return folder


FOLDERS: dict[str, tuple[list[str], list[str | None]]] = {
    "brats": (
        [f"BraTS-GLI-00000-000-{name}.nii.gz" for name in ("seg", "t1c", "t1n", "t2f", "t2w")],
        ["t2f", "t1n", "t1c", "t2w"],
    ),
    "bids": (
        [
            *("sub-01_ses-02_T1w.nii.gz", "sub-01_ses-02_ce-gadolinium_T1w.nii.gz", "sub-01_ses-02_FLAIR.nii.gz"),
            *("sub-01_ses-02_acq-tse_T2w.nii.gz", "sub-01_ses-02_dwi.nii.gz", "sub-01_ses-02_task-rest_bold.nii.gz"),
        ],
        ["02_FLAIR", "ses-02_T1w", "gadolinium_T1w", "T2w"],
    ),
    "philips": (
        ["201_T1W_3D_TFE.nii.gz", "301_T2_FLAIR_TSE.nii.gz", "401_T2W_TSE.nii.gz", "501_T1W_3D_TFE_GADO.nii.gz"],
        ["301", "201", "501", "401"],
    ),
    "siemens": (
        ["tirm_dark-fluid.nii.gz", "MPRAGE.nii.gz", "MPRAGE_post_KM.nii.gz", "t2_tse_tra.nii.gz", "localizer.nii.gz"],
        ["tirm", "MPRAGE.", "post_KM", "t2_tse"],
    ),
    "formats": (["flair.nrrd", "t1.mha", "t1c.mgz", "t2.mhd"], ["flair.nrrd", "t1.mha", "t1c.mgz", "t2.mhd"]),
    "folders": (
        ["FLAIR/image.nii.gz", "T1/image.nii.gz", "T1_KM/image.nii.gz", "T2/image.nii.gz"],
        ["FLAIR/", "T1/", "T1_KM/", "T2/"],
    ),
    "one": (["p1_flair.nii.gz"], ["p1_flair", None, None, None]),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_files_are_found_by_their_names(tmp_path, name):
    names, parts = FOLDERS[name]
    paths = find_study(write(tmp_path / "p1", *names), SEQUENCES).image(tmp_path / "links")
    for path, part in zip(paths, parts):
        assert (path is None) == (part is None) and (part is None or part in path), paths
    assert not (tmp_path / "links").exists()


def test_a_side_car_tells_what_the_name_does_not(tmp_path):
    write(tmp_path, "scan_5.nii.gz", "scan_6.nii.gz")
    times = {"RepetitionTime": 9, "EchoTime": 0.086, "InversionTime": 2.5, "SeriesNumber": 5, "Modality": "MR"}
    (tmp_path / "scan_5.json").write_text(json.dumps(times), encoding="utf-8")
    (tmp_path / "scan_6.json").write_text(
        json.dumps({"SeriesDescription": "t1_mprage KM", "ImageType": ["ORIGINAL", "PRIMARY"]}), encoding="utf-8"
    )
    study = find_study(tmp_path, SEQUENCES)
    assert study.series["flair"].name == "scan_5.nii.gz" and study.series["flair"].number == 5
    assert study.series["flair"].tags.times == "TR 9000, TE 86, TI 2500 ms"
    assert study.series["t1ce"].name == "scan_6.nii.gz"


def test_an_agent_in_a_side_car_means_after_contrast(tmp_path):
    write(tmp_path, "flair.nii.gz", "t1_a.nii.gz", "t1_b.nii.gz")
    (tmp_path / "t1_b.json").write_text(json.dumps({"ContrastBolusAgent": "Gadovist"}), encoding="utf-8")
    study = find_study(tmp_path, SEQUENCES)
    assert (study.series["t1"].name, study.series["t1ce"].name) == ("t1_a.nii.gz", "t1_b.nii.gz")


def test_numbered_channels_are_named_by_the_data_list(tmp_path):
    write(tmp_path / "images", "p1_0000.nii.gz", "p1_0001.nii.gz", "p2_0000.nii.gz", "p2_0001.nii.gz")
    for error in find_studies(tmp_path, SEQUENCES).values():
        assert_one_line(str(error), ["none of flair", "as a list in --input"])
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "FLAIR"}}), encoding="utf-8")
    studies = [*find_studies(tmp_path, SEQUENCES).values()]
    assert [study.series["flair"].name for study in studies] == ["p1_0001.nii.gz", "p2_0001.nii.gz"]
    assert [study.name for study in studies] == [f"{tmp_path.name}_p1", f"{tmp_path.name}_p2"]


def test_files_of_several_patients_are_several_studies(tmp_path):
    write(tmp_path, *(f"{case}_{name}.nii.gz" for case in ("001", "002") for name in ("flair", "t1")))
    assert_one_line(input_error(find_study, tmp_path, SEQUENCES), ["holds 2 studies", "_001", "_002"])
    studies = [*find_studies(tmp_path, SEQUENCES).values()]
    assert [(study.name, *taken(study).values()) for study in studies] == [
        (f"{tmp_path.name}_{case}", f"{case}_flair.nii.gz", f"{case}_t1.nii.gz", None, None) for case in ("001", "002")
    ]


def test_a_choice_picks_the_study_of_a_folder(tmp_path):
    write(tmp_path, *(f"{case}_{name}.nii.gz" for case in ("v1", "v2") for name in ("flair", "t1")))
    study = find_study(tmp_path, SEQUENCES, {"flair": "v2_flair"})
    assert taken(study) == {"flair": "v2_flair.nii.gz", "t1": "v2_t1.nii.gz", "t1ce": None, "t2": None}


def test_subjects_and_sessions_of_bids_are_studies(tmp_path):
    for subject, session in (("01", "1"), ("01", "2"), ("02", "1")):
        front = f"sub-{subject}_ses-{session}"
        write(tmp_path / f"sub-{subject}" / f"ses-{session}" / "anat", f"{front}_FLAIR.nii.gz", f"{front}_T1w.nii.gz")
        write(tmp_path / "derivatives" / f"sub-{subject}", f"{front}_desc-preproc_FLAIR.nii.gz")
    studies = [*find_studies(tmp_path, SEQUENCES).values()]
    assert [study.name for study in studies] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    assert all(study.series["t1"] for study in studies)


def test_several_volumes_and_masks_are_left_aside(tmp_path):
    write(tmp_path, "p1_flair.nii.gz", "p1_flair_seg.nii.gz", "p1_brainmask.nii.gz")
    write(tmp_path, "p1_t2.nii.gz", shape=(10, 10, 10, 3))
    study = find_study(tmp_path, SEQUENCES)
    assert reason(study, "p1_t2.nii.gz") == "holds 3 volumes"
    assert reason(study, "p1_flair_seg.nii.gz") == "a mask or another result, not an image"
    assert taken(study) == {"flair": "p1_flair.nii.gz", "t1": None, "t1ce": None, "t2": None}


def test_a_damaged_file_of_a_sequence_is_not_left_aside_in_silence(tmp_path):
    write(tmp_path, "flair.nii.gz")
    (tmp_path / "t1.nii").write_bytes(b"hello" * 100)
    assert_one_line(input_error(find_study, tmp_path, SEQUENCES), ["t1.nii", "cannot be read"])


def test_names_never_hold_the_patient_s_name(clinic):
    study = find_study(clinic, SEQUENCES)
    assert "Doe" not in study.table() and "Doe" not in study.name


@pytest.mark.skipif(not REAL, reason="set BUNDLES_REAL_DATA to the folder of real images")
def test_two_visits_of_a_real_patient_are_two_studies():
    studies = [*find_studies(Path(REAL) / "brain_raw", SEQUENCES).values()]
    assert [study.name for study in studies] == ["patient01_study1", "patient01_study2"]
    for number, study in enumerate(studies, 1):
        assert taken(study) == {
            "flair": f"study{number}_FLAIR.nii.gz",
            "t1": f"study{number}_T1W.nii.gz",
            "t1ce": None,
            "t2": f"study{number}_T2W.nii.gz",
        }


@pytest.mark.skipif(not REAL, reason="set BUNDLES_REAL_DATA to the folder of real images")
def test_real_files_are_found():
    for study in find_studies(Path(REAL) / "brain_ms", SEQUENCES).values():
        assert list(taken(study).values()) == ["flair.nii.gz", "t1.nii.gz", "t1post.nii.gz", "t2.nii.gz"]
