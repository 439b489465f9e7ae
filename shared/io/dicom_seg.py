"""DICOM SEG: a label map as an object that refers to the series it was made from, with coded names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence, VolumeGeometry, imread
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from monai.data import MetaTensor
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from shared import __version__
from shared.core.errors import InputError
from shared.core.files import whole
from shared.io.dicom import read_series, to_voxels
from shared.io.dicom_frames import find_frames, read_geometry
from shared.io.dicom_picture import find_dicom_picture

MAKER = "MONAI bundle"
FAMILY = dictionary.cid7162.ArtificialIntelligence  # how the segments were found
ELSEWHERE = "{}: the label map {} does not lie in its grid: give what it was made from"
# must be there: what the segmentation refers to
OF_PICTURE = ["StudyInstanceUID"]
OF_VOLUME = [*OF_PICTURE, "FrameOfReferenceUID"]
OF_SLICE = [*OF_VOLUME, "SliceThickness"]
# may be empty, but must be there (type 2)
OF_PATIENT = ["PatientID", "PatientName", "PatientBirthDate", "PatientSex"]
OF_STUDY = ["StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"]


class Plane(NamedTuple):
    """Where a slice lies in DICOM's world: its first pixel, and the steps to the next row and column, in mm."""

    origin: np.ndarray
    down: np.ndarray
    right: np.ndarray
    shape: tuple[int, int]


def save_dicom_seg(
    pred: MetaTensor,
    series: str | os.PathLike[str],
    path: str | os.PathLike[str],
    names: Sequence[str],
    codes: Sequence[Sequence[str]],
    category: str = "AnatomicalStructure",
    nested: bool = False,
) -> Path:
    """Write a label map as DICOM SEG, one binary segment a class, every frame with the slice that it lies on.

    Args:
        pred: label map (1, X, Y, Z) or (X, Y, Z), integers, in the grid of the series, in any order of its axes; its
            affine (RAS, mm) says where it lies. Of a single image (1, H, W), rows from top to bottom, in its size.
        series: folder with one DICOM series; of a single image, or of a volume in one file, that file or the folder
            that holds it alone.
        path: file to write; replaced whole.
        names: of the values 1, 2, ...
        codes: of each, ``[value, scheme, meaning]``, such as ``["52988006", "SCT", "Lesion"]``.
        category: keyword of SNOMED CT in DICOM's dictionary, "AnatomicalStructure" or
            "MorphologicallyAbnormalStructure".
        nested: each class lies in the one before it, as the cup in the optic disc: its voxels belong to both segments.

    Returns:
        The path. A map without a single voxel is written too, with empty frames.

    Raises:
        InputError: another number of codes than names; an unreadable series, or one without what DICOM SEG must refer
            to; a label map that lies on another grid; one line.
    """
    if len(codes) != len(names) or any(len(code) != 3 for code in codes):
        raise InputError(
            f"{len(codes)} DICOM codes for {len(names)} classes ({', '.join(names)}): give [value, scheme, meaning]"
        )
    picture = find_dicom_picture(series) if pred.ndim == 3 and len(pred) == 1 else None
    sources, geometry = ([pydicom.dcmread(picture)], None) if picture else _volume(series)
    needed = OF_PICTURE if picture else OF_VOLUME
    if picture and "ImagePositionPatient" in sources[0]:  # a slice of a scan
        needed = OF_SLICE
    if lacking := [word for word in needed if word not in sources[0]]:
        raise InputError(
            f"{series}: no {lacking[0]} in its DICOM files, which a DICOM SEG must name: leave dicom_seg out"
        )
    _complete(sources)
    if picture:
        frames = np.asarray(pred.cpu()).astype(np.uint8)
        if frames.shape[1:] != (sources[0].Rows, sources[0].Columns):
            raise InputError(ELSEWHERE.format(series, frames.shape))
    else:
        frames = on_planes(pred, _planes_of(geometry) if geometry else _planes(sources), series)
    frames = _cumulated(frames, len(names)) if nested else frames
    channels: Any = {"SegmentNumber": range(1, len(names) + 1)} if nested else None
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=geometry.with_array(frames, channels) if geometry else frames,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, name, Code(*code), getattr(dictionary.SCT, category))
            for number, (name, code) in enumerate(zip(names, codes), 1)
        ],
        series_instance_uid=generate_uid(),
        series_number=_series_number(sources[0]),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="0",
        omit_empty_frames=bool(frames.any()),
        content_description="Research, not for clinical use",
        series_description="Segmentation (research)",
    )
    target = Path(path)
    with whole(target) as draft:
        segmentation.save_as(draft)
    return target


def _cumulated(frames: np.ndarray, classes: int) -> np.ndarray:
    """(N, rows, columns) of values 0..K -> (N, rows, columns, K): a class and all after it."""
    return (frames[..., None] >= np.arange(1, classes + 1)).astype(np.uint8)


def on_planes(pred: MetaTensor, planes: Sequence[Plane], where: Any) -> np.ndarray:
    """Lay a label map on the pixels of DICOM slices: (slices, rows, columns), uint8.

    Args:
        pred: label map with its affine (RAS, mm).
        planes: of each slice.
        where: begins the message.

    Raises:
        InputError: pixels that fall between voxels or outside.
    """
    label = np.asarray(pred.cpu())
    label = label[0] if label.ndim == 4 else label
    frames = np.zeros((len(planes), *planes[0].shape), np.uint8)
    row, column = np.meshgrid(np.arange(frames.shape[1]), np.arange(frames.shape[2]), indexing="ij")
    for frame, plane in zip(frames, planes):
        world = plane.origin + column[..., None] * plane.right + row[..., None] * plane.down
        try:
            index = to_voxels(world, pred)
        except ValueError as error:
            raise InputError(ELSEWHERE.format(where, label.shape)) from error
        frame[:] = label[tuple(np.moveaxis(index, -1, 0))]
    return frames


def _volume(series: Any) -> tuple[list[pydicom.Dataset], VolumeGeometry | None]:
    """Return the slices of a series, or the one file that holds a volume with how it lies in space."""
    try:
        image = imread(file) if (file := find_frames(series)) else None
        geometry = read_geometry(image) if image else None
    except ValueError as error:
        raise InputError(f"{series}: {error}") from error
    return ([image], geometry) if image else (read_series(series), None)


def _planes(slices: Sequence[pydicom.Dataset]) -> list[Plane]:
    """Of the slices of a series."""
    planes = []
    for piece in slices:
        along_row, along_column = np.asarray(piece.ImageOrientationPatient, float).reshape(2, 3)
        row_step, column_step = map(float, piece.PixelSpacing)
        origin = np.asarray(piece.ImagePositionPatient, float)
        shape = int(piece.Rows), int(piece.Columns)
        planes.append(Plane(origin, row_step * along_column, column_step * along_row, shape))
    return planes


def _planes_of(geometry: VolumeGeometry) -> list[Plane]:
    """Of a volume in one file."""
    slices, rows, columns = geometry.spatial_shape
    across, down, right, origin = geometry.affine[:3].T
    return [Plane(origin + number * across, down, right, (rows, columns)) for number in range(slices)]


def _complete(slices: Sequence[pydicom.Dataset]) -> None:
    """Add what DICOM SEG copies and anonymisation, or a converter, left out."""
    thickness = None
    if len(slices) > 1:
        ends = [np.asarray(piece.ImagePositionPatient, float) for piece in (slices[0], slices[-1])]
        thickness = f"{float(np.linalg.norm(ends[1] - ends[0])) / (len(slices) - 1):.6g}"
    for piece in slices:
        for word in [*OF_PATIENT, *OF_STUDY]:
            if word not in piece:
                setattr(piece, word, "")
        if thickness and "SliceThickness" not in piece:
            piece.SliceThickness = thickness


def _describe(number: int, name: str, code: Code, category: Code) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=code,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(name=MAKER, family=FAMILY, version=__version__),
    )


def _series_number(piece: pydicom.Dataset) -> int:
    """One beyond a round hundred of the source's, as is usual for derived series."""
    return 100 * (int(getattr(piece, "SeriesNumber", None) or 0) + 1)
