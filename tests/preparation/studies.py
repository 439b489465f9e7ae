"""Makers of studies as scanners leave them: DICOM series with their tags, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tests.making import save_frames, volume

PIXELS = (10, 12)  # columns, rows
SEQUENCES = ("flair", "t1", "t1ce", "t2")
BASIC_REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
STUDY, FRAME = generate_uid(), generate_uid()
FLAIR = {"RepetitionTime": 9000, "EchoTime": 86, "InversionTime": 2500, "ScanningSequence": ["SE", "IR"]}
T1 = {"RepetitionTime": 500, "EchoTime": 8, "ScanningSequence": "SE"}
MPRAGE = {
    **{"RepetitionTime": 2300, "EchoTime": 2.98, "InversionTime": 900, "ScanningSequence": ["GR", "IR"]},
    "MRAcquisitionType": "3D",
}
T2 = {"RepetitionTime": 6000, "EchoTime": 99, "ScanningSequence": "SE"}
DWI = {"RepetitionTime": 6000, "EchoTime": 90, "ScanningSequence": "EP", "DiffusionBValue": 1000}


def grid(step: float = 5.0, slices: int = 24, plane: str = "axial") -> np.ndarray:
    """An affine (RAS, mm) of pixels of 16 mm and slices `step` mm apart."""
    order = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}[plane]
    affine = np.zeros((4, 4))
    for column, (axis, edge) in enumerate(zip(order, (16.0, -16.0, step))):
        affine[axis, column] = edge
    affine[:3, 3], affine[3, 3] = [-80, 90, -60], 1
    return affine


def voxels(number: int, slices: int = 24) -> np.ndarray:
    """The voxels of series `number`."""
    return volume(number, (*PIXELS, slices))


def add_series(folder: Path, number: int, description: str, slices: int = 24, step: float = 5.0, **tags: Any) -> Path:
    """Write one series; `plane` in `tags` is its plane, every other entry an attribute of each file."""
    lps = np.diag([-1.0, -1, 1, 1]) @ grid(step, slices, tags.pop("plane", "axial"))
    piece = pydicom.Dataset()
    attributes = {
        **{"StudyInstanceUID": STUDY, "FrameOfReferenceUID": FRAME, "SeriesInstanceUID": generate_uid()},
        **{"SOPClassUID": MRImageStorage, "Modality": "MR", "PatientID": "p", "PatientName": "Doe^Jane"},
        **{"SeriesNumber": number, "SeriesDescription": description, "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
        **{"StudyDate": "20240131", "SliceThickness": step, "PixelSpacing": [16, 16]},
        **{"Rows": PIXELS[1], "Columns": PIXELS[0], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"},
        **{"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0},
        **{"ImageOrientationPatient": [*(lps[:3, 0] / 16), *(lps[:3, 1] / 16)], **tags},
    }
    for word, value in attributes.items():
        setattr(piece, word, value)
    piece.file_meta = FileMetaDataset()
    piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID
    array = voxels(number, slices).astype(np.uint16)
    for index in range(slices):
        piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID = generate_uid()
        piece.ImagePositionPatient = list((lps @ [0, 0, index, 1])[:3])
        piece.PixelData = array[:, :, index].T.tobytes()
        piece.save_as(folder / f"IM{number:03d}{index:03d}.dcm", enforce_file_format=True)
    return folder


def add_frames(file: Path, description: str, slices: int = 24, step: float = 5.0, **tags: Any) -> Path:
    """Write one enhanced multi-frame file of a series."""
    attributes = {
        **{"StudyInstanceUID": STUDY, "PatientID": "p", "StudyDate": "20240131"},
        **{"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], **tags},
    }
    save_frames(file, voxels(3, slices), grid(step, slices), **attributes)
    for piece in (file.parent / f"{file.stem}_slices").iterdir():
        piece.unlink()
    (file.parent / f"{file.stem}_slices").rmdir()
    whole = pydicom.dcmread(file)
    whole.SeriesDescription = description
    whole.save_as(file)
    return file


def add_report(folder: Path, sop_class: str, modality: str, number: int = 99) -> Path:
    """Write a DICOM file without pixels, such as a report."""
    piece = pydicom.Dataset()
    piece.file_meta = FileMetaDataset()
    piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = sop_class
    piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID = generate_uid()
    piece.StudyInstanceUID, piece.SeriesInstanceUID, piece.PatientID = STUDY, generate_uid(), "p"
    piece.Modality, piece.SeriesNumber, piece.SeriesDescription = modality, number, f"{modality} of the study"
    piece.save_as(folder / f"{modality}{number}", enforce_file_format=True)
    return folder / f"{modality}{number}"


def clinical(folder: Path) -> Path:
    """A study of one folder: four sequences among a localiser, diffusion, reformats, a screenshot and reports."""
    folder.mkdir(parents=True, exist_ok=True)
    add_series(folder, 1, "localizer", slices=3, step=20)
    add_series(folder, 2, "t2_tirm_tra_dark-fluid", **FLAIR)
    add_series(folder, 3, "t1_se_tra", **T1)
    add_series(folder, 4, "t2_tse_tra", **T2)
    add_series(folder, 5, "ep2d_diff_TRACEW", **DWI)
    add_series(folder, 6, "t1_mprage_sag KM", slices=40, step=4, plane="sagittal", **MPRAGE)
    add_series(folder, 7, "t1_mprage KM MPR tra", **MPRAGE, ImageType=["DERIVED", "SECONDARY", "MPR"])
    add_series(folder, 8, "Screen Save", slices=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT")
    add_report(folder, BASIC_REPORT, "SR")
    add_report(folder, "1.2.840.10008.5.1.4.1.1.104.1", "DOC", 98)
    add_report(folder, "1.2.840.10008.5.1.4.1.1.88.59", "KO", 97)
    (folder / "VIEWER.exe").write_bytes(b"MZ")
    return folder
