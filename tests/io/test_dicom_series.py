"""A folder of slices: every geometry is represented exactly or refused in one line, in the check and in the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    generate_uid,
)

from shared.io import dicom_files
from shared.io.dicom_seg import save_dicom_seg
from shared.io.sources import load_volume, read_header
from tests.bundles.running import input_error
from tests.making import AFFINE, oblique, save_frames, save_series, volume

Edit = Callable[[pydicom.Dataset, int], None]


def series(folder: Path, edit: Edit | None = None) -> Path:
    """Write four slices; `edit` changes each by its number in space."""
    save_series(folder, volume(0), AFFINE)
    pieces = sorted(map(pydicom.dcmread, folder.iterdir()), key=lambda piece: piece.ImagePositionPatient[2])
    for number, piece in enumerate(pieces):
        if edit:
            edit(piece, number)
        piece.save_as(piece.filename)
    return folder


def moved(number: int, axis: int, step: float) -> Edit:
    """Move one slice along an axis."""

    def edit(piece: pydicom.Dataset, index: int) -> None:
        if index == number:
            piece.ImagePositionPatient[axis] += step

    return edit


def put(word: str, value: object, number: int | None = None) -> Edit:
    """Set an attribute of one slice, or of all."""
    return lambda piece, index: setattr(piece, word, value) if number in (None, index) else None


def without(word: str, number: int | None = None) -> Edit:
    """Delete an attribute of one slice, or of all."""
    return lambda piece, index: delattr(piece, word) if number in (None, index) else None


def at_one_position(piece: pydicom.Dataset, _: int) -> None:
    piece.ImagePositionPatient = [0, 0, 0]


def half_the_pixels(piece: pydicom.Dataset, index: int) -> None:
    if index == 1:
        piece.PixelData = piece.PixelData[: len(piece.PixelData) // 2]


def two_values(word: str, first: float, second: float) -> Edit:
    """Give the lower and the upper slices another value, as if half of each image had been lost."""
    return lambda piece, index: setattr(piece, word, second if index > 1 else first)


def two_acquisitions(piece: pydicom.Dataset, index: int) -> None:
    """Two images of two slices each."""
    piece.AcquisitionNumber = index // 2
    piece.ImagePositionPatient[2] = -72 + 2 * (index % 2)


REFUSED = {
    "sideways": (moved(2, 0, 40), "shifted sideways against each other, by up to 40.0 mm"),
    "sideways a little": (moved(1, 1, 0.5), "shifted sideways"),
    "last slice sideways": (moved(3, 0, 3), "shifted sideways"),
    "gap": (moved(3, 2, 2), "slices missing or doubled"),
    "one position": (at_one_position, "its 4 slices all lie at one position"),
    "other pixel size": (put("PixelSpacing", [1.5, 1.2], 2), "pixels of different sizes"),
    "other number of pixels": (put("Rows", 4, 2), "slices of different sizes"),
    "no pixel size": (without("PixelSpacing"), "a slice has no PixelSpacing"),
    "empty pixel size": (put("PixelSpacing", None, 1), "a slice has no PixelSpacing"),
    "pixel size of 0": (put("PixelSpacing", [0, 0]), "a PixelSpacing of 0 mm"),
    "no position": (without("ImagePositionPatient", 1), "no ImagePositionPatient"),
    "empty orientation": (put("ImageOrientationPatient", None), "no ImagePositionPatient or ImageOrientationPatient"),
    "two numbers": (put("ImagePositionPatient", [1, 2], 1), "not made of finite numbers"),
    "orientation of length 2": (put("ImageOrientationPatient", [2, 0, 0, 0, 1, 0]), "two perpendicular directions"),
    "no right angle": (put("ImageOrientationPatient", [1, 0, 0, 0.6, 0.8, 0]), "two perpendicular directions"),
    "two patients": (
        lambda piece, index: setattr(piece, "PatientID", "ab"[index // 2]),
        "its slices have 2 values of PatientID",
    ),
    "two frames of reference": (put("FrameOfReferenceUID", "1.2.3", 3), "2 values of FrameOfReferenceUID"),
    "two echoes": (two_values("EchoTime", 20, 80), "its slices have 2 values of EchoTime ("),
    "two times": (two_values("TemporalPositionIdentifier", 1, 2), "2 values of TemporalPositionIdentifier (1, 2)"),
    "two diffusion weightings": (two_values("DiffusionBValue", 0.0, 1e3), "2 values of DiffusionBValue (0.0, 1000.0)"),
    "two acquisitions": (two_acquisitions, "several images at one position, which differ in AcquisitionNumber; give"),
    "no Rows": (without("Rows", 1), "no Rows in its DICOM header"),
    "no colour": (without("PhotometricInterpretation"), "no PhotometricInterpretation in its DICOM header"),
    "no samples": (without("SamplesPerPixel"), "no SamplesPerPixel in its DICOM header"),
    "no pixels": (without("PixelData", 1), "no pixels in it"),
    "half the pixels": (half_the_pixels, "fewer pixels than its header announces"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_and_run_refuse_in_the_same_words(tmp_path, name):
    edit, part = REFUSED[name]
    folder = series(tmp_path / "series", edit)
    line = input_error(load_volume, folder, "case a")
    assert line == input_error(read_header, folder, "case a")
    assert part in line and line.startswith(f"case a: {folder} ") and "\n" not in line


def tilted() -> np.ndarray:
    affine = oblique()
    affine[:3, 2] += 0.8 * affine[:3, 1]
    return affine


def test_a_tilted_gantry_is_a_sheared_affine(tmp_path):
    image = load_volume(save_series(tmp_path / "series", volume(0), tilted()), "case a")
    np.testing.assert_allclose(image.affine, tilted(), atol=1e-6)
    assert np.array_equal(image[0].as_tensor().numpy(), volume(0))


def test_a_tilted_gantry_in_one_file(tmp_path):
    image = load_volume(save_frames(tmp_path / "scan.dcm", volume(0), tilted()), "case a")
    np.testing.assert_allclose(image.affine, tilted(), atol=1e-6)


def test_frames_that_jump_sideways(tmp_path):
    file = save_frames(tmp_path / "scan.dcm", volume(0), AFFINE)
    image = pydicom.dcmread(file)
    image.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[0] += 40
    image.save_as(file)
    for read in (load_volume, read_header):
        assert "shifted sideways" in input_error(read, file, "case a")


def directory(folder: Path) -> None:
    """The table of contents that a CD has beside its slices."""
    content = pydicom.Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    content.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    content.DirectoryRecordSequence = []
    content.save_as(folder / "DICOMDIR", enforce_file_format=True)


def report(folder: Path) -> None:
    """A presentation state, such as a workstation adds."""
    directory(folder)
    content = pydicom.dcmread(folder / "DICOMDIR")
    content.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    content.save_as(folder / "PR0001", enforce_file_format=True)


def segmentation(folder: Path) -> None:
    """The result of an earlier run, copied beside the slices."""
    image = load_volume(folder, "case a")
    code = [["52988006", "SCT", "Lesion"]]
    save_dicom_seg((image > 500).float(), folder, folder / "case_seg.dcm", ["lesion"], code)


BESIDE = {
    "subfolder": lambda folder: (folder / "thumbnails").mkdir(),
    "DICOMDIR": directory,
    "presentation state": report,
    "segmentation": segmentation,
    "text": lambda folder: (folder / "notes.txt").write_text("no image", encoding="utf-8"),
    "text without suffix": lambda folder: (folder / "README").write_text("no image", encoding="utf-8"),
    "empty text": lambda folder: (folder / "notes.txt").touch(),
    "hidden file of a Mac": lambda folder: (folder / "._1.dcm").write_bytes(bytes([0, 5, 22, 7])),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_slices_is_left_out(tmp_path, name):
    folder = series(tmp_path / "series")
    expected = load_volume(folder, "case a")
    BESIDE[name](folder)
    assert torch.equal(load_volume(folder, "case a").as_tensor(), expected.as_tensor())


def last_slice(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])


@pytest.mark.parametrize("suffix", [".dcm", "", ".1"])
@pytest.mark.parametrize("length", [0, 100])
def test_a_slice_that_is_empty_or_cut_is_refused(tmp_path, suffix, length):
    folder = series(tmp_path / "series")
    broken = last_slice(folder).with_suffix(suffix)
    for file in list(folder.iterdir()):
        file.rename(file.with_suffix(suffix))
    broken.write_bytes(broken.read_bytes()[:length])
    for read in (load_volume, read_header):
        line = input_error(read, folder, "case a")
        assert f"{broken.name} is empty, cut short or not DICOM: copy it again, or remove it" in line
        assert line.startswith(f"case a: {folder} ") and "\n" not in line


def encode(file: Path, syntax: UID, preamble: bool) -> None:
    """Write a file of 16 bits again in another encoding, without `.dcm` in its name."""
    piece = pydicom.dcmread(file)
    if not syntax.is_little_endian:
        piece.PixelData = np.frombuffer(piece.PixelData, "<u2").astype(">u2").tobytes()
        piece["PixelData"].VR = "OW"
    file.unlink()
    target = file.with_suffix("")
    if preamble:
        piece.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(target, piece, enforce_file_format=True)
        return
    with pydicom.filebase.DicomBytesIO() as stream:
        stream.is_little_endian, stream.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
        pydicom.filewriter.write_dataset(stream, piece)
        target.write_bytes(stream.getvalue())


ENCODINGS = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda syntax: syntax.name.replace(" ", "_"))
@pytest.mark.parametrize("preamble", [True, False], ids=["preamble", "bare"])
def test_a_file_of_frames_is_read_in_every_encoding(tmp_path, syntax, preamble):
    file = Path(save_frames(tmp_path / "scan.dcm", volume(0), AFFINE))
    expected = load_volume(file, "case a")
    encode(file, syntax, preamble)
    found = load_volume(tmp_path / "scan", "case a")
    assert torch.equal(found.as_tensor(), expected.as_tensor()) and torch.equal(found.affine, expected.affine)


@pytest.mark.parametrize("group", ["MREchoSequence", "FrameContentSequence"])
def test_frames_of_two_echoes_or_times_are_refused(tmp_path, group):
    word = {"MREchoSequence": "EffectiveEchoTime", "FrameContentSequence": "TemporalPositionIndex"}[group]
    file = save_frames(tmp_path / "scan.dcm", volume(0), AFFINE)
    image = pydicom.dcmread(file)
    for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
        if group not in frame:
            setattr(frame, group, [pydicom.Dataset()])
        setattr(frame[group][0], word, 1 + number % 2)
    image.save_as(file)
    for read in (load_volume, read_header):
        assert f"its frames have 2 values of {word}" in input_error(read, file, "case a")


def test_an_echo_time_that_jitters_is_one_image(tmp_path):
    folder = series(tmp_path / "series", lambda piece, index: setattr(piece, "EchoTime", 80 + 0.01 * index))
    assert load_volume(folder, "case a").shape == (1, 6, 5, 4)


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda syntax: syntax.name.replace(" ", "_"))
@pytest.mark.parametrize("preamble", [True, False], ids=["preamble", "bare"])
@pytest.mark.parametrize("which", ["last", "all"])
def test_slices_are_read_in_every_encoding(tmp_path, syntax, preamble, which):
    folder = series(tmp_path / "series")
    expected = load_volume(folder, "case a")
    for file in [last_slice(folder)] if which == "last" else list(folder.iterdir()):
        encode(file, syntax, preamble)
    image = load_volume(folder, "case a")
    assert torch.equal(image.as_tensor(), expected.as_tensor()) and torch.equal(image.affine, expected.affine)
    code = [["52988006", "SCT", "Lesion"]]
    assert save_dicom_seg((image > 500).float(), folder, tmp_path / "seg.dcm", ["lesion"], code).is_file()


@pytest.mark.parametrize("name", ["T1 [axial]", "a*b?", "[", "ß 雪"])
def test_names_of_folders_are_taken_as_they_are(tmp_path, name):
    assert load_volume(series(tmp_path / name), "case a").shape == (1, 6, 5, 4)


def test_a_slice_that_lies_there_twice_counts_once(tmp_path):
    folder = series(tmp_path / "series")
    once = load_volume(folder, "case a")
    for file in list(folder.iterdir())[:2]:
        shutil.copy(file, file.with_name(f"{file.stem} (1).dcm"))
    twice = load_volume(folder, "case a")
    assert torch.equal(once.as_tensor(), twice.as_tensor()) and torch.equal(once.affine, twice.affine)
    assert read_header(folder, "case a").shape == (6, 5, 4)


def test_two_slices_of_one_identifier_are_no_copies(tmp_path):
    folder = series(tmp_path / "series")
    file = next(folder.iterdir())
    piece = pydicom.dcmread(file)
    piece.PixelData = piece.PixelData[::-1]
    piece.save_as(file.with_name("other.dcm"))
    assert "slices missing or doubled" in input_error(read_header, folder, "case a")


def test_an_empty_slope_is_no_slope(tmp_path):
    def edit(piece: pydicom.Dataset, _: int) -> None:
        piece.RescaleSlope, piece.RescaleIntercept = None, None

    plain, empty = (load_volume(series(tmp_path / name, e), "case a") for name, e in (("a", None), ("b", edit)))
    assert torch.equal(plain.as_tensor(), empty.as_tensor())


def test_a_compression_that_cannot_be_decoded_names_the_remedy(tmp_path, monkeypatch):
    class Missing:
        is_available = False

    def edit(piece: pydicom.Dataset, _: int) -> None:
        piece.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        piece.PixelData = pydicom.encaps.encapsulate([piece.PixelData])

    folder = series(tmp_path / "series", edit)
    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda _: Missing)
    line = input_error(read_header, folder, "case a")
    assert line.startswith(f"case a: {folder}: compressed as JPEG Lossless") and line.endswith(dicom_files.DECODE)


def test_compressed_pixels_that_are_damaged_are_one_line(tmp_path):
    def edit(piece: pydicom.Dataset, _: int) -> None:
        piece.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        piece.PixelData = pydicom.encaps.encapsulate([piece.PixelData])

    folder = series(tmp_path / "series", edit)
    line = input_error(load_volume, folder, "case a")
    assert "compressed as JPEG Lossless" in line and "its pixels are damaged or cannot be decoded here" in line
    assert line.startswith(f"case a: {tmp_path}") and "\n" not in line
    assert input_error(read_header, folder, "case a") == line, "the check says what the run says"
