from __future__ import annotations

import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist
from shared.datasets.preflight import check_pictures, check_volumes, preflight
from shared.io.pictures import load_picture
from shared.io.volumes import LoadSequencesd

REAL = os.environ.get("BUNDLES_REAL_DATA")
CHANNELS = ["flair", "t1"]
SHAPE = (6, 5, 4)


def save(path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray | None = None, value: float = 1) -> str:
    array = np.full(shape, value, np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return str(path)


def item(folder: Path, **changes) -> dict:
    image = [save(folder / f"{name}.nii.gz") for name in CHANNELS]
    return {"image": image, "label": save(folder / "lesion.nii.gz"), "case_id": "p03"} | changes


def corrupt(path: Path, keep: int) -> str:
    save(path)
    path.write_bytes(path.read_bytes()[:keep])
    return str(path)


def folder_of_text(path: Path) -> str:
    path.mkdir()
    (path / "a").write_text("text", encoding="utf-8")
    return str(path)


def dicom_series(path: Path) -> str:
    """Write a series of the grid of `save`: (6, 5, 4), the identity in RAS."""
    path.mkdir()
    for number in range(SHAPE[2]):
        piece = pydicom.Dataset()
        piece.file_meta = FileMetaDataset()
        piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = MRImageStorage
        piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID = f"1.2.{number + 1}"
        piece.SeriesInstanceUID, piece.Modality, piece.InstanceNumber = "1.2", "MR", number
        piece.ImageOrientationPatient, piece.PixelSpacing = [-1, 0, 0, 0, -1, 0], [1, 1]
        piece.ImagePositionPatient = [0, 0, number]
        piece.Rows, piece.Columns, piece.SamplesPerPixel = SHAPE[1], SHAPE[0], 1
        piece.PhotometricInterpretation = "MONOCHROME2"
        piece.BitsAllocated, piece.BitsStored, piece.HighBit, piece.PixelRepresentation = 16, 16, 15, 0
        piece.PixelData = np.full(SHAPE[:2], number + 1, np.uint16).tobytes()
        piece.save_as(path / f"{number}.dcm", enforce_file_format=True)
    return str(path)


def test_good_items_have_no_problem(tmp_path):
    good = item(tmp_path)
    partial = good | {"image": [None, good["image"][1]]}
    four_d = good | {"image": save(tmp_path / "4d.nii.gz", (*SHAPE, 2))}
    dicom = good | {"image": [dicom_series(tmp_path / "dicom"), good["image"][1]]}
    assert check_volumes([good, partial, four_d, dicom], CHANNELS, labels=[0, 1], need_label=True) == []


PROBLEMS = {
    "not found": (lambda d: {"image": [str(d / "x.nii.gz"), None]}, ["flair", "x.nii.gz not found"]),
    "bad header": (lambda d: {"image": [corrupt(d / "c.nii", 100), None]}, ["flair", "c.nii cannot be read"]),
    "cut after header": (lambda d: {"image": [corrupt(d / "c.nii", 352), None]}, ["c.nii cannot be read"]),
    "count": (lambda d: {"image": [save(d / "a.nii")]}, ["1 channel where 2 are declared (flair, t1): give null"]),
    "4-D count": (lambda d: {"image": save(d / "a.nii", (*SHAPE, 3))}, ["a.nii: 3 channels where 2"]),
    "4-D in a list": (lambda d: {"image": [save(d / "a.nii", (*SHAPE, 3)), None]}, ["a.nii holds 3 volumes"]),
    "shape": (
        lambda d: {"image": [save(d / "a.nii"), save(d / "b.nii", (6, 5, 3))]},
        ["t1 has shape 6 x 5 x 3"],
    ),
    "affine": (
        lambda d: {"image": [save(d / "a.nii"), save(d / "b.nii", affine=np.eye(4) * 2)]},
        ["register t1 to flair"],
    ),
    "2-D": (lambda d: {"image": [save(d / "a.nii", (6, 5)), None]}, ["shape 6 x 5", "(X, Y, 1)"]),
    "all missing": (lambda d: {"image": [None, "None"]}, ["every sequence is missing: give at least one of flair, t1"]),
    "no image": (lambda d: {"image": None}, ["every sequence is missing"]),
    "no DICOM": (
        lambda d: {"image": [folder_of_text(d / "series"), None]},
        ["(no DICOM file in this folder)"],
    ),
    "no label": (lambda d: {"label": None}, ["has no label"]),
    "label shape": (lambda d: {"label": save(d / "l.nii", (6, 5, 3))}, ["l.nii", "label has shape 6 x 5 x 3"]),
    "label value": (lambda d: {"label": save(d / "l.nii", value=2)}, ["l.nii", "values 2 where 0, 1"]),
    "label not found": (lambda d: {"label": str(d / "l.nii")}, ["label", "l.nii not found"]),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_is_one_line(tmp_path, name):
    change, parts = PROBLEMS[name]
    (line,) = check_volumes([item(tmp_path, **change(tmp_path))], CHANNELS, labels=[0, 1], need_label=True)
    assert line.startswith("case p03") and "\n" not in line
    for part in parts:
        assert part in line


def test_all_problems_come_at_once(tmp_path):
    bad = item(tmp_path, image=[str(tmp_path / "x.nii.gz"), str(tmp_path / "y.nii.gz")], label=None)
    assert len(check_volumes([bad, bad], CHANNELS, need_label=True)) == 6


def test_no_items():
    assert check_volumes([], CHANNELS) == ["the data list holds no case: check --dataset_dir and the split"]


def picture(path: Path, size: tuple[int, int] = (6, 5), value: int = 100, **options) -> str:
    Image.fromarray(np.full(size, value, np.uint8)).save(path, **options)
    return str(path)


def eye(folder: Path, **changes) -> dict:
    return {"image": picture(folder / "i.jpg"), "label": picture(folder / "l.png"), "case_id": "p03"} | changes


def cut_picture(path: Path) -> str:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)


def test_good_pictures_have_no_problem(tmp_path):
    good = eye(tmp_path)
    exif = Image.Exif()
    exif[274] = 6  # lies on its side in the file
    turned = eye(tmp_path, image=picture(tmp_path / "t.jpg", (5, 6), exif=exif))
    assert check_pictures([good, turned], labels=[0, 100], need_label=True) == []
    assert check_pictures([good | {"label": None}, {"image": good["image"]}], labels=[0, 100]) == []


PICTURE_PROBLEMS = {
    "not found": (lambda d: {"image": str(d / "x.png")}, "case p03: .*x.png not found: correct"),
    "none": (lambda d: {"image": None}, "case p03: None not found"),
    "unreadable": (lambda d: {"image": corrupt(d / "c.nii", 100)}, "c.nii cannot be read .*: give a PNG"),
    "size": (lambda d: {"label": picture(d / "m.png", (5, 6))}, "label: .*m.png: is 6 x 5 pixels where the .* 5 x 6"),
    "value": (lambda d: {"label": picture(d / "m.png", value=7)}, "label: .*m.png: holds the value 7 where 0, 100"),
    "cut label": (
        lambda d: {"label": cut_picture(d / "m.png"), "image": picture(d / "b.png", (64, 64))},
        "label: .*m.png",
    ),
    "no label": (lambda d: {"label": None}, "case p03: has no label"),
    "label not found": (lambda d: {"label": str(d / "y.png")}, "case p03: label: .*y.png not found"),
}


@pytest.mark.parametrize("name", PICTURE_PROBLEMS)
def test_each_problem_of_a_picture_is_one_line(tmp_path, name):
    change, pattern = PICTURE_PROBLEMS[name]
    (line,) = check_pictures([eye(tmp_path, **change(tmp_path))], labels=[0, 100], need_label=True)
    assert line.startswith("case p03: ") and "\n" not in line
    assert re.search(pattern, line), line


def test_all_problems_of_pictures_come_at_once(tmp_path):
    assert check_pictures([]) == check_volumes([], CHANNELS)
    two = eye(tmp_path, label=picture(tmp_path / "m.png", (5, 6), 7))
    assert len(check_pictures([two, eye(tmp_path, image="x.png", label="y.png")], labels=[0, 100])) == 4


def test_pixels_are_read_of_labels_alone(tmp_path):
    cut = cut_picture(tmp_path / "c.png")
    assert check_pictures([eye(tmp_path, image=cut, label=cut)]) == []
    assert len(check_pictures([eye(tmp_path, image=cut, label=cut)], labels=[0, 100])) == 1


def noise(shape: tuple[int, ...] = SHAPE, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).integers(1, 99, shape).astype(dtype)


def raw(path: Path, start: int, value: bytes) -> None:
    """Write a NIfTI file with other bytes at one place of its header."""
    nib.save(nib.Nifti1Image(noise(), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[start : start + len(value)] = value
    path.write_bytes(content)


def colours(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), path)


def with_nan(path: Path) -> None:
    array = noise()
    array[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def cut(path: Path) -> None:
    nib.save(nib.Nifti1Image(noise(), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-50])


def flipped_byte(path: Path) -> None:
    nib.save(nib.Nifti1Image(noise((40, 40, 9)), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


SOURCES = {
    "fs.mgz": lambda path: nib.save(nib.MGHImage(noise(), np.eye(4)), path),
    "pair.img": lambda path: nib.save(nib.Nifti1Pair(noise(), np.eye(4)), path),
    "plain.nii.gz": lambda path: nib.save(nib.Nifti1Image(noise(), np.eye(4)), path),
    "cut.nii": cut,
    "cut.nii.gz": cut,
    "flipped_byte.nii.gz": flipped_byte,
    "colours.nii.gz": colours,
    "nan.nii.gz": with_nan,
    "complex.nii.gz": lambda path: nib.save(nib.Nifti1Image(noise(dtype="complex64"), np.eye(4)), path),
    "affine_inf.nii": lambda path: raw(path, 292, np.float32(np.inf).tobytes()),
    "huge.nii": lambda path: raw(path, 42, np.array([30000, 30000, 30000], np.int16).tobytes()),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_check_and_the_run_refuse_the_same_volumes_in_the_same_words(tmp_path, name):
    SOURCES[name](tmp_path / name)
    case = {"image": [str(tmp_path / name)], "case_id": "p1"}
    try:
        LoadSequencesd("image", ["flair"])(case)
        refused = []
    except InputError as error:
        refused = [str(error)]
    assert check_volumes([case], ["flair"], whole=True) == refused
    assert (refused == []) == (name in ("fs.mgz", "pair.img", "plain.nii.gz")) and "\n" not in "".join(refused)


@pytest.mark.parametrize("broken", [True, False])
def test_the_check_and_the_run_refuse_the_same_pictures(tmp_path, broken):
    path = cut_picture(tmp_path / "a.png") if broken else picture(tmp_path / "a.png")
    problems = check_pictures([{"image": path, "case_id": "p1"}], whole=True)
    assert len(problems) == broken
    if broken:
        with pytest.raises(InputError, match=re.escape(problems[0])):
            load_picture(path, "case p1")


def test_a_training_reads_images_to_their_end_and_inference_does_not(tmp_path):
    with_nan(tmp_path / "t1.nii.gz")
    case = {"image": [str(tmp_path / "t1.nii.gz")], "label": save(tmp_path / "l.nii"), "case_id": "a"}
    preflight([[case]], ["t1"], tmp_path / "out")
    for options in ({"labels": [0, 1]}, {"whole": True}):
        with pytest.raises(InputError, match="^case a: t1: .*t1.nii.gz holds 1 NaN"):
            preflight([[case]], ["t1"], tmp_path / "out", **options)


def test_preflight_names_every_problem(tmp_path):
    good = {"image": [save(tmp_path / "t1.nii")], "label": save(tmp_path / "l.nii"), "case_id": "a"}
    bad = {**good, "label": save(tmp_path / "m.nii", value=7), "case_id": "b"}
    bare = {"image": good["image"], "case_id": "c"}
    preflight([[good], [bare]], ["t1"], tmp_path / "out")
    preflight([[good]], ["t1"], tmp_path / "out", labels=[0, 1])
    (tmp_path / "file").write_text("", encoding="utf-8")
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


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
def test_real_lists_are_fine():
    for name, split, channels in (
        ("brain_lgg64", "training", ["flair", "t1", "t1ce"]),
        ("brain_lgg64", "incomplete", ["flair", "t1", "t1ce"]),
        ("brain_ms", "training", ["flair", "t1", "t1ce", "t2"]),
    ):
        items = expand_datalist(Path(REAL) / name / "dataset.json", split)
        assert check_volumes(items, channels, labels=[0, 1], need_label=True) == []
    for split in ("training", "testing"):
        items = expand_datalist(Path(REAL) / "fundus" / "dataset.json", split)
        assert check_pictures(items, labels=[0, 100, 200], need_label=True) == []


def labelled(folder: Path, value: float, name: str) -> dict:
    (folder / name).mkdir()
    return item(folder / name, case_id=name, label=save(folder / name / "mask.nii.gz", value=value))


def test_a_training_whose_labels_are_all_empty_is_refused(tmp_path):
    empty = [labelled(tmp_path, 0, name) for name in "ab"]
    some = [labelled(tmp_path, 1, "c")]
    with pytest.raises(InputError, match=r"^all labels of 2 cases \(a ...\) of the training list hold only background"):
        preflight([empty, some], CHANNELS, tmp_path / "out", [0, 1])
    preflight([[*empty, *some], some], CHANNELS, tmp_path / "out", [0, 1])


def test_an_evaluation_of_empty_labels_is_named_in_one_line(tmp_path, capsys):
    empty, some = [labelled(tmp_path, 0, "a")], [labelled(tmp_path, 1, "b")]
    for lists in ([some, empty], [empty]):
        preflight(lists, CHANNELS, tmp_path / "out", [0, 1])
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("warning: the label of the only case (a)") and "Dice says nothing" in line
    preflight([some], CHANNELS, tmp_path / "out", [0, 1])
    assert capsys.readouterr().out == ""


def test_a_picture_training_whose_labels_are_all_empty_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "p.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "empty.png")
    part = [{"case_id": "p", "image": str(tmp_path / "p.png"), "label": str(tmp_path / "empty.png")}]
    with pytest.raises(InputError, match="the training list hold only background"):
        preflight([part, part], ["image"], tmp_path / "out", [0, 100], pictures=True)
