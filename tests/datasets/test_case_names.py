"""Names of cases: from their files and folders, the same in every list, fit for a folder of results."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import InputError
from shared.datasets import case_names
from shared.datasets.case_names import MAX_BYTES, check_case_id, check_name, fit_name, name_cases

FLAIR_ONLY = [None, None, None]


@pytest.mark.parametrize(
    "name",
    [
        "patient_001.nii.gz",
        "case_001.nii.gz",
        "patient-12.nii",
        "patient_0000.nii.gz",
        "patient.0001",
        "1.2.840.113619.2",
        "case 3.mgz",
        "sub-01_run-2.nii.gz",
    ],
)
def test_the_number_at_the_end_of_a_file_name_stays(name):
    expected = name.removesuffix(".gz").removesuffix(".nii").removesuffix(".mgz")
    assert name_cases([[f"/d/{name}", *FLAIR_ONLY]]) == [expected]
    assert name_cases([f"/d/{name}"]) == [expected]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["p1/flair.nii.gz", "p1/t1.nii.gz"], "p1"),
        (["p1/flair.nii.gz", None], "p1"),
        (["p1/MPRAGE.nii", "p1/haste.nii"], "p1"),
        (["im/p1_flair.nii.gz", None], "p1"),
        (["im/sub-01_ses-2_T1w.nii.gz", "im/sub-01_ses-2_FLAIR.nii.gz"], "sub-01_ses-2"),
        (["im/p1_mprage.nii", "im/p1_haste.nii"], "p1"),
        (["t1/p1.nii.gz", "t2/p1.nii.gz"], "p1"),
        (["p1/T1_2mm.nii.gz", "p1/T2_2mm.nii.gz"], "p1"),
        (["im/BRATS_001_0000.nii.gz", "im/BRATS_001_0001.nii.gz"], "BRATS_001"),
        ([None, "im/BRATS_001_0001.nii.gz"], "BRATS_001"),
        (["im/case_001.nii.gz", "im/case_002.nii.gz"], "case_001"),
        (["p1/scan_001.nii.gz", "p1/scan_002.nii.gz"], "p1_scan_001"),
    ],
)
def test_sequence_names_are_dropped_and_numbers_of_patients_are_not(files, expected):
    assert name_cases([files]) == [expected]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["s1/p1.png", "s1/p2.png", "s2/p1.png"], ["s1_p1", "p2", "s2_p1"]),
        (["p1/IM0001.jpg", "p2/IM0001.jpg"], ["p1_IM0001", "p2_IM0001"]),
        (["p1/image.nii.gz", "p2/image.nii.gz"], ["p1_image", "p2_image"]),
        (["a/p1/image.nii.gz", "b/p1/image.nii.gz"], ["a_p1_image", "b_p1_image"]),
        (["d/001.png", "d/001.jpg"], ["d_001.png", "d_001.jpg"]),
        (["d/x.png", "d/x.jpg"], ["x.png", "x.jpg"]),
        (["a/b.png", "a_b.png"], ["b", "a_b"]),
        (["/a/b.png", "/c/b.png", "/a_b.png"], ["b.png", "c_b", "a_b.png"]),
    ],
)
def test_files_of_the_same_name_are_told_apart_by_their_folders(images, expected):
    assert name_cases(images) == expected
    assert name_cases(images[::-1]) == expected[::-1]


def table() -> list[tuple[str, str]]:
    """The rows of the table at the top of the module: image and name."""
    return re.findall(r"^``(.+?)``.*?``(.+?)``", case_names.__doc__ or "", re.MULTILINE)


def as_image(text: str) -> str | list[str]:
    return text.strip("[]").split(", ") if text.startswith("[") else text


def test_the_table_in_the_module_is_true():
    assert len(table()) >= 12
    for image, name in table():
        assert name_cases([as_image(image)]) == [name], image


def test_the_names_of_the_table_do_not_depend_on_the_other_cases():
    images = [as_image(image) for image, _ in table()]
    images += [image.replace("p1", "p2") for image in images if isinstance(image, str) and "p1" in image]
    together = name_cases(images)
    assert together == [name_cases([image])[0] for image in images]
    assert len(set(together)) == len(images)


@pytest.mark.parametrize("name", ["IM0001", "I10", "00001", "image", "slice_001", "T1", "T1_2mm", "20230115", "MR.1.2"])
def test_a_generic_name_always_carries_its_folder(name):
    alone = [name_cases([f"/study/{patient}/{name}.png"])[0] for patient in ("p1", "p2")]
    assert alone == name_cases([f"/study/{patient}/{name}.png" for patient in ("p1", "p2")])
    assert alone == [f"p1_{name}", f"p2_{name}"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("/study/p1/dicom/IM0001.dcm", "p1_dicom_IM0001"),
        ("/study/p1/anat/T1/0001.dcm", "p1_anat_T1_0001"),
        ("/data/images/001.png", "images_001"),
        ("/001.png", "001"),
        ("001.png", "001"),
    ],
)
def test_a_generic_folder_brings_the_next_one_along(image, expected):
    assert name_cases([image]) == [expected]


def test_an_image_that_is_listed_again_is_numbered_as_a_repeat():
    assert name_cases(["patient.png", "patient.png", "patient.png"]) == [
        "patient",
        "patient_repeat2",
        "patient_repeat3",
    ]


def test_names_that_the_list_gives_are_not_used_again():
    assert name_cases(["x/b.png", "y/c.png"], taken=["b", "x_b"]) == ["b.png", "c"]


PARTS = st.sampled_from(["a", "b", "p1", "image", "flair", "a_b", "x.y", "...", "001"])
IMAGES = st.lists(st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".png"), max_size=12)


@given(IMAGES, st.randoms(use_true_random=False))
def test_names_are_unique_fit_for_folders_and_independent_of_the_order(images, generator):
    names = name_cases(images)
    assert len(set(names)) == len(names)
    for name in names:
        assert check_name(name, "name") == name
    distinct = list(dict.fromkeys(images))
    by_image = dict(zip(distinct, name_cases(distinct)))
    generator.shuffle(distinct)
    assert dict(zip(distinct, name_cases(distinct))) == by_image


def test_a_name_does_not_depend_on_files_of_other_names():
    images = [f"scans/patient_{number:03d}.nii.gz" for number in range(50)]
    names = dict(zip(images, name_cases(images)))
    for count in (1, 7, 30):
        some = random.Random(count).sample(images, count)
        assert name_cases(some) == [names[image] for image in some]


@pytest.mark.parametrize(
    "images",
    [
        ["i.png"] * 10_000,
        [f"r/{number}/p/image.png" for number in range(10_000)],
        [f"{number}/IM0001.dcm" for number in range(10_000)],
    ],
    ids=["one file", "roles", "folders"],
)
def test_ten_thousand_equal_file_names_take_less_than_two_seconds(images):
    began = time.process_time()
    assert len(set(name_cases(images))) == 10_000
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../p01", "a/b", "a\\b", "/p", "p\0", "p\n1", "\x1b[31m", "p" * 300, "ä" * 61, ".hidden"]
    + ["p.", "predictions.json", "Predictions.JSON", "report.html", "\ud800", None, True, 1.5, ["p"], {"a": 1}],
)
def test_a_name_that_cannot_be_a_folder_is_one_line(name):
    with pytest.raises(InputError) as caught:
        check_name(name, "case_id")
    message = str(caught.value)
    assert message.startswith("case_id ") and message.isprintable() and len(message) < 300


@pytest.mark.parametrize("name", ["p ", "con", "Lpt1.left", *(f"p{sign}1" for sign in '<>:"|?*')])
def test_a_case_id_that_cannot_be_a_folder_on_windows_is_one_line(name):
    with pytest.raises(InputError, match=r"^case_id '.*' cannot be a folder name on Windows[^\n]*: (leave|add) .*$"):
        check_case_id(name, "case_id")
    assert check_case_id(fit_name(name), "case_id") == fit_name(name)


@pytest.mark.parametrize(
    ("images", "taken", "expected"),
    [
        (["a/P1.png", "b/p1.png"], [], ["a_P1", "b_p1"]),
        (["/d/q.png"], ["Q"], ["d_q"]),
        (["a/M\u00fc.png", "b/Mu\u0308.png"], [], ["a_M\u00fc", "b_Mu\u0308"]),
        (["p.png", "p.png"], ["P_REPEAT2"], ["p", "p_repeat3"]),
    ],
)
def test_names_that_differ_only_in_case_or_accents_are_told_apart(images, taken, expected):
    assert name_cases(images, taken) == expected


@pytest.mark.parametrize("name", ["p01", "1.2.840", "x...png", "Müller, A. (2)", "患者", "p" * MAX_BYTES])
def test_other_names_pass_unchanged(name):
    assert check_name(name, "case_id") == fit_name(name) == name


def test_a_whole_number_is_a_name():
    assert check_name(7, "case_id") == "7"


@given(st.text(st.characters(), max_size=200))
def test_every_text_becomes_a_name(text):
    fitted = fit_name(text)
    assert check_case_id(fitted, "name") == fitted == fit_name(fitted)


@pytest.mark.parametrize("file", ["...png", "a" * 251 + ".png", "predictions.json", "x...png", "\x07.png", "a:b?.png"])
def test_a_strange_file_name_stays_inside_the_output_folder(file):
    (name,) = name_cases([f"/d/{file}"])
    assert Path("out", name).resolve().parent == Path("out").resolve()
    assert check_name(name, "name") == name
