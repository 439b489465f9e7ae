"""Write a raw study as DICOM: classic MR images, one file per slice, as a scanner or an archive exports them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from brainsegdmlf.phantoms.anatomy import Array
from brainsegdmlf.phantoms.raw_protocols import Protocol, RawStudy, RawVolume
from shared.core.files import write_atomic
from shared.io.affine import LPS

PATIENT, PATIENT_ID = "Synthetic^Head", "SYNTHETIC"
DATE, TIME = "20240115", "090000"


def write_dicom(study: RawStudy, folder: str | os.PathLike[str], flat: bool = False) -> Path:
    """Write a study: the localiser, every sequence, and the derived series; the same study gives the same files.

    The rows of a picture run downwards in DICOM, so volumes are stored with their second axis reversed.

    Args:
        study: the study.
        folder: created if missing.
        flat: all files in this folder; else a folder for every series, such as ``003_t2_tirm_tra_dark-fluid``.

    Returns:
        The folder. Files are called ``IM0001`` and so on.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = Path(folder)
    volumes = [*study.images.values(), study.adc]
    series: list[Sequence[RawVolume]] = [study.localiser, *([one] for one in volumes)]
    count = 0
    for members in sorted(series, key=lambda one: one[0].protocol.number):
        protocol = members[0].protocol
        home = target if flat else target / f"{protocol.number:03d}_{protocol.description}"
        slices = (piece for member in members for piece in _slices(member))
        for number, (pixels, lps) in enumerate(slices, 1):
            count += 1
            piece = _piece(study, protocol, number, pixels, lps)
            write_atomic(home / f"IM{count if flat else number:04d}", _encoded(piece))
    return target


def _slices(volume: RawVolume) -> Iterator[tuple[Array, Array]]:
    """Yield the pixels (rows, columns) of each slice and its affine (LPS), rows downwards."""
    flip = np.diag([1.0, -1, 1, 1])
    flip[1, 3] = volume.voxels.shape[1] - 1
    lps = LPS @ volume.affine @ flip
    for index in range(volume.voxels.shape[2]):
        place = lps.copy()
        place[:3, 3] += index * lps[:3, 2]
        yield volume.voxels[:, ::-1, index].T, place


def _piece(study: RawStudy, protocol: Protocol, number: int, pixels: Array, lps: Array) -> Dataset:
    piece = Dataset()
    piece.file_meta = FileMetaDataset()
    piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = MRImageStorage
    piece.SOPInstanceUID = _uid(study, f"{protocol.number}.{number}")
    piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID
    piece.StudyInstanceUID, piece.FrameOfReferenceUID = _uid(study, "study"), _uid(study, "frame of reference")
    piece.SeriesInstanceUID = _uid(study, f"series {protocol.number}")
    piece.PatientName, piece.PatientID, piece.PatientBirthDate, piece.PatientSex = PATIENT, PATIENT_ID, "", ""
    piece.StudyDate = piece.SeriesDate = piece.AcquisitionDate = DATE
    piece.StudyTime, piece.SeriesTime = TIME, f"{int(TIME) + 500 * protocol.number:06d}"
    piece.AccessionNumber, piece.ReferringPhysicianName, piece.StudyID = "", "", "1"
    piece.Modality, piece.Manufacturer, piece.BodyPartExamined = "MR", "Synthetic", "HEAD"
    piece.StudyDescription, piece.PatientPosition, piece.MagneticFieldStrength = "Brain", "HFS", 1.5
    piece.SeriesDescription = piece.ProtocolName = protocol.description
    piece.SeriesNumber, piece.InstanceNumber, piece.AcquisitionNumber = protocol.number, number, 1
    piece.ImageType = list(protocol.image_type)
    _set_acquisition(piece, protocol)
    _set_place(piece, lps)
    piece.Rows, piece.Columns = pixels.shape
    piece.SamplesPerPixel, piece.PhotometricInterpretation = 1, "MONOCHROME2"
    piece.BitsAllocated = piece.BitsStored = 16
    piece.HighBit, piece.PixelRepresentation = 15, 1
    piece.WindowCenter, piece.WindowWidth = 1000, 2000
    piece.PixelData = np.ascontiguousarray(pixels, "<i2").tobytes()
    return piece


def _set_acquisition(piece: Dataset, protocol: Protocol) -> None:
    piece.ScanningSequence, piece.SequenceVariant = list(protocol.scanning), list(protocol.variant)
    piece.ScanOptions, piece.MRAcquisitionType = "", "3D" if protocol.is_3d else "2D"
    piece.RepetitionTime, piece.EchoTime, piece.EchoNumbers = protocol.tr, protocol.te, 1
    if protocol.ti is not None:
        piece.InversionTime = protocol.ti
    if protocol.agent:
        piece.ContrastBolusAgent = protocol.agent


def _set_place(piece: Dataset, lps: Array) -> None:
    columns, rows, thickness = np.linalg.norm(lps[:3, :3], axis=0)
    piece.ImagePositionPatient = _numbers(lps[:3, 3])
    piece.ImageOrientationPatient = _numbers([*lps[:3, 0] / columns, *lps[:3, 1] / rows])
    piece.PixelSpacing = _numbers([rows, columns])
    piece.SliceThickness = piece.SpacingBetweenSlices = _numbers([thickness])[0]
    piece.SliceLocation = _numbers([lps[:3, 2] @ lps[:3, 3] / thickness])[0]


def _numbers(values: Sequence[float] | Array) -> list[DSfloat]:
    return [DSfloat(round(float(value), 9) + 0.0, auto_format=True) for value in values]  # + 0.0: no "-0.0"


def _uid(study: RawStudy, name: str) -> str:
    grid = "x".join(map(str, study.lesion.shape))
    return str(generate_uid(entropy_srcs=[f"synthetic head {study.seed} {grid} {name}"]))


def _encoded(piece: Dataset) -> bytes:
    file = io.BytesIO()
    piece.save_as(file, enforce_file_format=True)
    return file.getvalue()
