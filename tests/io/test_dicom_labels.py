"""DICOM SEG as labels: what was written comes back on its voxels, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from highdicom.seg import Segmentation
from monai.data import MetaTensor

from shared.datasets.preflight import check_pictures, check_volumes
from shared.io import dicom_seg
from shared.io.dicom_labels import find_dicom_seg
from shared.io.dicom_seg import save_dicom_seg
from shared.io.picture_files import load_picture, load_picture_label
from shared.io.volumes import LoadLabeld
from tests.bundles.running import assert_one_line, input_error
from tests.io.loading import load_dicom
from tests.making import AFFINE, SHAPE, oblique, radiograph, save_frames, save_series, volume

NAMES, CODES = ["left ventricle", "myocardium"], [["87878005", "SCT", "Left ventricle"], ["74281007", "SCT", "Muscle"]]


def drawn(image: MetaTensor) -> MetaTensor:
    """Two structures on two slices; the others stay empty."""
    label = torch.zeros(1, *SHAPE)
    label[0, 1:4, 1:3, 1:3], label[0, 2, 2, 2] = 1, 2
    return MetaTensor(label, image.affine)


def load(path: Path, image: MetaTensor, labels: tuple[int, ...] = (0, 1, 2)) -> MetaTensor:
    return LoadLabeld("label", labels=labels)({"image": image, "label": str(path), "case_id": "p1"})["label"]


def source(folder: Path, kind: str, affine: np.ndarray = AFFINE) -> str:
    folder.mkdir(exist_ok=True)
    if kind == "series":
        return save_series(folder / "series", volume(0), affine)
    return save_frames(folder / "scan.dcm", volume(0), affine)


@pytest.mark.parametrize("kind", ["series", "file"])
@pytest.mark.parametrize("form", ["BINARY", "LABELMAP"])
def test_what_was_written_comes_back(tmp_path, monkeypatch, kind, form):
    monkeypatch.setattr(dicom_seg, "Segmentation", lambda **given: Segmentation(**given | {"segmentation_type": form}))
    path = source(tmp_path, kind, oblique())
    image = load_dicom(path)
    label = drawn(image)
    save_dicom_seg(label, path, tmp_path / "seg" / "p1_seg.dcm", NAMES, CODES)
    for given in (tmp_path / "seg", tmp_path / "seg" / "p1_seg.dcm"):
        assert find_dicom_seg(given) == tmp_path / "seg" / "p1_seg.dcm"
        found = load(given, image)
        assert torch.equal(found.as_tensor(), label.as_tensor().to(torch.uint8))
        assert torch.equal(found.affine, image.affine) and found.meta["filename_or_obj"].endswith("p1_seg.dcm")
        case = {"case_id": "p1", "image": [path], "label": str(given)}
        assert check_volumes([case], ["flair"], [0, 1, 2]) == []


def test_a_segmentation_is_no_image(tmp_path):
    path = source(tmp_path, "series")
    file = save_dicom_seg(drawn(load_dicom(path)).clamp(max=1), path, tmp_path / "seg.dcm", NAMES[:1], CODES[:1])
    assert "seg.dcm cannot be read (a DICOM SEG, which is a label, not an image)" in input_error(load_dicom, str(file))
    (line,) = check_volumes([{"case_id": "p1", "image": [str(file)]}], ["flair"])
    assert_one_line(line, ["p1", "flair", "a DICOM SEG, which is a label, not an image"])


def test_a_single_frame(tmp_path):
    path = source(tmp_path, "series")
    image = load_dicom(path)
    label = drawn(image)
    label[..., 2:] = 0
    file = save_dicom_seg(label, path, tmp_path / "seg.dcm", NAMES, CODES)
    assert torch.equal(load(file, image).as_tensor(), label.as_tensor().to(torch.uint8))


def test_empty_frames(tmp_path):
    path = source(tmp_path, "file")
    image = load_dicom(path)
    assert not load(save_dicom_seg(drawn(image) * 0, path, tmp_path / "seg.dcm", NAMES, CODES), image).any()


def elsewhere(image: MetaTensor) -> MetaTensor:
    """Half a voxel away."""
    moved = image.clone()
    moved.affine = image.affine @ torch.tensor([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double()
    return moved


@pytest.mark.parametrize(
    ("change", "given", "labels", "part"),
    [
        (elsewhere, {}, (0, 1, 2), "it does not lie in the image's grid"),
        (lambda image: image[:, :, :, :2], {}, (0, 1, 2), "it does not lie in the image's grid"),
        (None, {"nested": True}, (0, 1, 2), "its segments overlap"),
        (None, {"segmentation_type": "FRACTIONAL"}, (0, 1, 2), "its segments are fractional"),
        (None, {}, (0, 1), "holds the values 0, 1, 2 where 0, 1 are declared"),
    ],
    ids=["half a voxel away", "part of the image", "overlap", "fractional", "unknown value"],
)
def test_what_does_not_fit(tmp_path, monkeypatch, change, given, labels, part):
    if "segmentation_type" in given:
        monkeypatch.setattr(dicom_seg, "Segmentation", lambda **usual: Segmentation(**usual | given))
    path = source(tmp_path, "series")
    image = load_dicom(path)
    file = save_dicom_seg(drawn(image), path, tmp_path / "seg.dcm", NAMES, CODES, nested="nested" in given)
    line = input_error(load, file, change(image) if change else image, labels)
    assert part in line and "case p1: label" in line and "seg.dcm" in line


def test_pictures(tmp_path):
    file, seg = radiograph(tmp_path / "image", SliceThickness="2"), tmp_path / "seg.dcm"
    label = torch.zeros(1, 6, 5, dtype=torch.uint8)
    label[0, 1:5, 1:4], label[0, 2, 2] = 1, 2
    for options in ({}, {"nested": True}):
        save_dicom_seg(MetaTensor(label), file, seg, NAMES, CODES, **options)
        assert torch.equal(load_picture_label(seg, [0, 1, 2], "case a").as_tensor(), label)
        case = {"case_id": "a", "image": str(file), "label": str(seg)}
        assert check_pictures([case], [0, 1, 2]) == []
        assert "holds the value 2 where 0, 1 are declared" in check_pictures([case], [0, 1])[0]
    assert "is a DICOM SEG: give the picture" in input_error(load_picture, seg, "case a")
    small = radiograph(tmp_path / "small", Rows=4, PixelData=bytes(40), SliceThickness="2")
    assert "does not lie in its grid" in input_error(save_dicom_seg, MetaTensor(label), small, seg, NAMES, CODES)
    save_dicom_seg(MetaTensor(label[:, :4]), small, seg, NAMES, CODES)
    assert "is 5 x 4 pixels where the picture is 5 x 6" in check_pictures([case], [0, 1, 2])[0]
    path = source(tmp_path, "series")
    save_dicom_seg(drawn(load_dicom(path)), path, seg, NAMES, CODES)
    assert "its segments lie on several images" in input_error(load_picture_label, seg, [0, 1, 2], "case a")


@pytest.mark.parametrize("length", [140, 200, 314, 500])
def test_a_file_cut_short(tmp_path, length):
    image = source(tmp_path, "series")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(save_dicom_seg(drawn(load_dicom(image)), image, cut, NAMES, CODES).read_bytes()[:length])
    case = {"case_id": "p1", "image": [image], "label": str(cut)}
    assert_one_line(check_volumes([case], ["flair"], [0, 1, 2])[0], ["p1", "cut.dcm cannot be read"])
    assert_one_line(input_error(load, cut, load_dicom(image)), ["p1", "cut.dcm cannot be read"])
    assert_one_line(input_error(load_picture, cut, "case a"), ["case a", "cut.dcm cannot be read"])
    assert_one_line(input_error(load_picture_label, cut, [0, 1], "case a"), ["case a", "cut.dcm cannot be read"])
