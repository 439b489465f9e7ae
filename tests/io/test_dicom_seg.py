"""DICOM SEG: the place of every voxel, the references of the frames, the names of the segments."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from shared.io.dicom_seg import save_dicom_seg
from shared.io.volumes import LoadSequencesd
from tests.bundles.running import assert_one_line, input_error
from tests.making import oblique, radiograph, save_frames, save_series

# Real scanners' files, cut to 16 x 16.
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
NAMES = ["left ventricle", "myocardium"]
CODES = [["87878005", "SCT", "Left ventricle"], ["74281007", "SCT", "Myocardium"]]


def series(folder, affine, shape=(6, 5, 4)):
    """Write a series with a patient and a series number."""
    array = np.arange(np.prod(shape)).reshape(shape)
    path = save_series(folder, array, affine)
    for file in folder.iterdir():
        piece = pydicom.dcmread(file)
        piece.PatientID, piece.PatientName = "1", "A^B"  # and no more: files may be anonymised
        piece.SeriesNumber = 3
        piece.save_as(file)
    return path


def prediction(path):
    """Load a series as the bundles do; return it with a label map on its grid."""
    image = LoadSequencesd("image", ["cine"])({"image": [path], "case_id": "p"})["image"]
    label = torch.zeros(image.shape)
    label[0, 1:4, 2:4, :2] = 1
    label[0, 4, 1, 1:] = 2
    return image, MetaTensor(label, image.affine)


@pytest.mark.parametrize("axes", ["straight", "oblique", "reversed"])
def test_every_voxel_lands_on_its_own_pixel(tmp_path, axes):
    """The image's intensity under each segment is the same in the volume and, through the references, in the series."""
    affine = oblique() if axes == "oblique" else np.diag([1.5, 1.2, 4.0, 1.0])
    if axes == "reversed":
        affine[:3, 2] *= -1
    folder = tmp_path / "series"
    image, label = prediction(series(folder, affine))
    path = save_dicom_seg(label, folder, tmp_path / "p_seg.dcm", NAMES, CODES)
    found = highdicom.seg.segread(path)
    pieces = {piece.SOPInstanceUID: piece for piece in map(pydicom.dcmread, folder.iterdir())}
    uids = list(pieces)
    frames = found.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    for number in (1, 2):
        expected = sorted(image[0][label[0] == number].tolist())
        there = [pieces[uid].pixel_array[frame == number] for uid, frame in zip(uids, frames)]
        assert sorted(np.concatenate(there).tolist()) == expected
    described = [(d.segment_label, d.segmented_property_type.value) for d in map(found.get_segment_description, (1, 2))]
    assert described == [(name, code[0]) for name, code in zip(NAMES, CODES)]
    source = next(iter(pieces.values()))
    assert found.PatientID == source.PatientID and found.FrameOfReferenceUID == source.FrameOfReferenceUID
    referenced = {s.SeriesInstanceUID for s in found.ReferencedSeriesSequence}
    assert referenced == {source.SeriesInstanceUID} and found.SeriesInstanceUID not in referenced


@pytest.mark.parametrize("nested", [False, True])
def test_a_volume_in_one_file(tmp_path, nested):
    """The frames are in random order; each mask refers to the frame that it lies on."""
    path = save_frames(tmp_path / "scan.dcm", np.arange(120).reshape(6, 5, 4), oblique())
    image, label = prediction(path)
    found = highdicom.seg.segread(save_dicom_seg(label, path, tmp_path / "p_seg.dcm", NAMES, CODES, nested=nested))
    source = highdicom.imread(path)
    frames = found.get_pixels_by_source_frame(source.SOPInstanceUID, range(1, 5), ignore_spatial_locations=True)
    for number in (1, 2):
        expected = sorted(image[0][label[0] >= number if nested else label[0] == number].tolist())
        assert sorted(source.pixel_array[frames[..., number - 1] == 1].tolist()) == expected
    assert found.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_an_empty_map_is_written(tmp_path):
    _, label = prediction(series(tmp_path / "series", np.eye(4)))
    path = save_dicom_seg(label * 0, tmp_path / "series", tmp_path / "p_seg.dcm", NAMES, CODES)
    assert not highdicom.seg.segread(path).pixel_array.any()


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    folder = tmp_path / "series"
    _, label = prediction(series(folder, np.eye(4)))
    target = tmp_path / "p_seg.dcm"
    moved = MetaTensor(
        label.as_tensor(), label.affine + torch.eye(4)[3] * 0 + torch.tensor([[0, 0, 0, 0.5]] + [[0] * 4] * 3)
    )
    assert "does not lie in its grid" in input_error(save_dicom_seg, moved, folder, target, NAMES, CODES)
    assert "1 DICOM codes for 2 classes" in input_error(save_dicom_seg, label, folder, target, NAMES, CODES[:1])
    for file in folder.iterdir():
        piece = pydicom.dcmread(file)
        del piece.FrameOfReferenceUID
        piece.save_as(file)
    assert "no FrameOfReferenceUID" in input_error(save_dicom_seg, label, folder, target, NAMES, CODES)
    assert not target.exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("word", ["SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("kind", ["series", "picture"])
def test_an_image_without_its_identifier_is_one_line(tmp_path, word, kind):
    folder, target = tmp_path / "series", tmp_path / "p_seg.dcm"
    if kind == "series":
        _, label = prediction(series(folder, np.eye(4)))
    else:
        radiograph(folder, SliceThickness="2")
        label = MetaTensor(torch.ones(1, 6, 5))
    for file in folder.iterdir():
        piece = pydicom.dcmread(file)
        delattr(piece, word)
        piece.save_as(file)
    assert f"no {word} in its DICOM files" in input_error(save_dicom_seg, label, folder, target, NAMES, CODES)
    assert not target.exists()


def test_a_real_scanner_s_series(tmp_path):
    """Five CT slices that pydicom ships: the mask is found on the slices, and at the places, where it was set."""
    folder = SHIPPED / "98892001" / "CT5N"
    image, label = prediction(str(folder))
    found = highdicom.seg.segread(save_dicom_seg(label, folder, tmp_path / "p_seg.dcm", NAMES, CODES))
    pieces = {piece.SOPInstanceUID: piece for piece in map(pydicom.dcmread, folder.iterdir())}
    frames = found.get_pixels_by_source_instance(list(pieces), combine_segments=True, ignore_spatial_locations=True)
    for number in (1, 2):
        expected = sorted(image[0][label[0] == number].tolist())
        stored = [(piece.pixel_array, piece) for piece in pieces.values()]
        there = [
            array[frame == number] * float(piece.RescaleSlope) + float(piece.RescaleIntercept)
            for (array, piece), frame in zip(stored, frames)
        ]
        assert sorted(np.concatenate(there).tolist()) == expected
    source = next(iter(pieces.values()))
    assert found.PatientID == source.PatientID and found.StudyInstanceUID == source.StudyInstanceUID


@pytest.mark.parametrize(
    ("folder", "part"),
    [
        ("98892003/MR700", "slices of different orientations (a localiser?)"),
        ("98892003/MR1", "the folder holds 3 series; give each its own folder"),
        ("77654033/CT2", "slice distances from 1.25 to 202.50 mm: slices missing or doubled"),
    ],
)
def test_a_real_scanner_s_folder_that_is_no_volume(folder, part):
    line = input_error(prediction, str(SHIPPED / folder))
    assert_one_line(line, [part, folder])


def test_a_slice_of_unknown_thickness_is_one_line(tmp_path):
    """highdicom would write a file that it cannot read."""
    label = MetaTensor(torch.ones(1, 6, 5))
    line = input_error(save_dicom_seg, label, radiograph(tmp_path / "a"), tmp_path / "p_seg.dcm", NAMES, CODES)
    assert "no SliceThickness" in line and not (tmp_path / "p_seg.dcm").exists()


@pytest.mark.parametrize("nested", [False, True])
def test_a_single_image(tmp_path, nested):
    """A radiograph has no position in space; of nested classes, the outer one includes the inner one."""
    file = SHIPPED / "77654033" / "CR1" / "6154"
    label = torch.zeros(1, 16, 16, dtype=torch.uint8)
    label[0, 3:12, 2:9] = 1
    label[0, 5:8, 4:7] = 2
    path = save_dicom_seg(MetaTensor(label), file, tmp_path / "p_seg.dcm", NAMES, CODES, nested=nested)
    found = highdicom.seg.segread(path)
    source = pydicom.dcmread(file, stop_before_pixels=True)
    frames = found.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)[0]
    assert np.array_equal(frames[..., 1], label[0] == 2)
    assert np.array_equal(frames[..., 0], label[0] >= 1 if nested else label[0] == 1)
    assert found.StudyInstanceUID == source.StudyInstanceUID and found.PatientID == source.PatientID
