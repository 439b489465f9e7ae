"""Makers of small volumes and DICOM files for tests."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SHAPE = (6, 5, 4)
AFFINE = np.array([[-1.0, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
EMPTY = ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def oblique() -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    if np.linalg.det(turn) < 0:
        turn[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, 1.1, 3.0])
    affine[:3, 3] = [10, -20, 30]
    return affine


def save_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    numbers: list[int] | None = None,
    skip: tuple = (),
    uid: str = "",
) -> str:
    """Write `array` (X, Y, Z), whose affine maps voxels to RAS mm, as one DICOM file per slice along Z."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    columns, rows = (np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    uid = uid or generate_uid()
    for index in range(array.shape[2]):
        if index in skip:
            continue
        piece = pydicom.Dataset()
        piece.file_meta = FileMetaDataset()
        piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = MRImageStorage
        piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID = generate_uid()
        piece.SeriesInstanceUID = uid
        piece.FrameOfReferenceUID = piece.StudyInstanceUID = f"{uid[:60].rstrip(chr(46))}.1"
        piece.Modality = "MR"
        if numbers:
            piece.InstanceNumber = numbers[index]
        piece.ImageOrientationPatient = [f"{v:.9f}" for v in (*lps[:3, 0] / columns, *lps[:3, 1] / rows)]
        piece.ImagePositionPatient = [f"{v:.9f}" for v in (lps @ [0, 0, index, 1])[:3]]
        piece.PixelSpacing = [f"{v:.9f}" for v in (rows, columns)]
        piece.Rows, piece.Columns = array.shape[1], array.shape[0]
        piece.SamplesPerPixel, piece.PhotometricInterpretation = 1, "MONOCHROME2"
        piece.BitsAllocated = piece.BitsStored = 16
        piece.HighBit, piece.PixelRepresentation = 15, 0
        piece.PixelData = array[:, :, index].T.astype(np.uint16).tobytes()
        piece.save_as(folder / f"{hash((uid, index)) % 10**9:09d}.dcm", enforce_file_format=True)
    return str(folder)


def save_frames(path: Path, array: np.ndarray, affine: np.ndarray, **change) -> str:
    """Write `array` (X, Y, Z) as one multi-frame file, by highdicom, its frames in random order.

    The slices stay beside it, in ``<stem>_slices``.
    """
    folder = path.parent / f"{path.stem}_slices"
    save_series(folder, array, affine)
    slices = []
    step = f"{np.linalg.norm(affine[:3, 2]):.9f}"
    for number, file in enumerate(sorted(folder.iterdir()), 1):
        piece = pydicom.dcmread(file)
        for word in (*EMPTY, "PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(piece, word, "")
        piece.InstanceNumber, piece.Manufacturer, piece.ImageType = number, "", ["ORIGINAL", "PRIMARY", "M"]
        piece.SpacingBetweenSlices = piece.SliceThickness = step
        piece.WindowCenter, piece.WindowWidth = 1, 2
        for word, value in change.items():
            setattr(piece, word, value)
        piece.save_as(file)
        slices.append(piece)
    LegacyConvertedEnhancedMRImage(slices, generate_uid(), 1, generate_uid(), 1).save_as(path)
    return str(path)


def radiograph(folder: Path, **change) -> Path:
    """Write one DICOM image of 6 x 5 pixels, values 0, 10, 20, ...; `change` sets attributes."""
    save_series(folder, np.arange(60).reshape(5, 6, 2) * 10, np.eye(4))
    first, second = sorted(folder.iterdir())
    second.unlink()
    piece = pydicom.dcmread(first)
    for name, value in change.items():
        setattr(piece, name, value)
    piece.save_as(first)
    return first
