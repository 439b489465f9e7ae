"""Writing a label map as DICOM SEG, which refers to the images it was made from and names its segments by codes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence, imread
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from monai.data import MetaTensor
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage, generate_uid

from shared import __version__
from shared.core.errors import InputError
from shared.core.files import whole
from shared.io.affine import to_voxels
from shared.io.dicom_files import read_dicom
from shared.io.dicom_frames import find_frames, frame_planes
from shared.io.dicom_picture import find_dicom_picture
from shared.io.dicom_series import plane_of, read_series
from shared.io.dicom_stack import Plane

MAKER = "MONAI bundle"
FAMILY = dictionary.cid7162.ArtificialIntelligence
ELSEWHERE = "{}: the label map {} does not lie in its grid: give the image that it belongs to"
# attributes that the segmentation copies and needs
OF_PICTURE = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
OF_VOLUME = [*OF_PICTURE, "FrameOfReferenceUID"]
OF_SLICE = [*OF_VOLUME, "SliceThickness"]
# attributes that may be empty (type 2)
OF_PATIENT = ["PatientID", "PatientName", "PatientBirthDate", "PatientSex"]
OF_STUDY = ["StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"]


def save_dicom_seg(
    pred: MetaTensor,
    series: str | os.PathLike[str],
    path: str | os.PathLike[str],
    names: Sequence[str],
    codes: Sequence[Sequence[str]],
    category: str = "AnatomicalStructure",
    nested: bool = False,
) -> Path:
    """Write a label map as DICOM SEG: one binary segment per class, each frame with a reference to its slice.

    Every slice gets its pixels from the label map by its own place in space. A `highdicom.Volume` would do that for
    straight stacks only: it refuses the sheared grid of a tilted gantry.

    Args:
        pred: label map (1, X, Y, Z) or (X, Y, Z), integers, on the grid of the series, its axes in any order; its
            affine (RAS, mm) says where it lies. Of a single image: (1, H, W), rows from top to bottom, in its size.
        series: the folder of one DICOM series; or the file of a single image or of a volume, or the folder that holds
            this file alone.
        path: the file to write; an existing file is replaced once the new one is complete.
        names: names of the values 1, 2, ...
        codes: code of each value, ``[value, scheme, meaning]``, such as ``["52988006", "SCT", "Lesion"]``.
        category: keyword of SNOMED CT in DICOM's dictionary, "AnatomicalStructure" or
            "MorphologicallyAbnormalStructure".
        nested: each class lies inside the one before it, as the cup in the optic disc, and its voxels belong to both
            segments.

    Returns:
        The path. A label map without any segment is written with empty frames.

    Raises:
        InputError: codes and names differ in number; an unreadable series, or one that lacks attributes which a DICOM
            SEG needs; a label map on another grid; one line.
    """
    if len(codes) != len(names) or any(len(code) != 3 for code in codes):
        raise InputError(
            f"{len(codes)} DICOM codes for {len(names)} classes ({', '.join(names)}): give [value, scheme, meaning]"
        )
    if pred.ndim == 3 and len(pred) == 1:
        sources, frames = _on_picture(pred, series)
    else:
        sources, frames = _on_volume(pred, series)
    _complete(sources)
    classes = _as_plain_slices(sources)
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=_cumulated(frames, len(names)) if nested else frames,
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
    _name_classes(segmentation, classes)
    target = Path(path)
    with whole(target) as draft:
        segmentation.save_as(draft)
    return target


def _on_picture(pred: MetaTensor, path: Any) -> tuple[list[pydicom.Dataset], np.ndarray]:
    """Return a single image, and its mask (1, rows, columns), uint8."""
    file = find_dicom_picture(path)
    if file is None:
        raise InputError(f"{path} is not a DICOM image: leave dicom_seg out")
    image = read_dicom(file)
    _require(image, OF_SLICE if "ImagePositionPatient" in image else OF_PICTURE, path)
    frames = np.asarray(pred.cpu()).astype(np.uint8)
    if frames.shape[1:] != (image.Rows, image.Columns):
        raise InputError(ELSEWHERE.format(path, frames.shape))
    return [image], frames


def _on_volume(pred: MetaTensor, path: Any) -> tuple[list[pydicom.Dataset], np.ndarray]:
    """Return the slices of a series, or the file of a volume, and a mask (N, rows, columns), uint8, of each frame."""
    try:
        file = find_frames(path)
        sources: list[pydicom.Dataset] = [imread(file)] if file else read_series(path)
        planes = frame_planes(sources[0]) if file else [plane_of(piece) for piece in sources]
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path}: {error}") from error
    for source in sources:
        _require(source, OF_VOLUME, path)
    return sources, on_planes(pred, planes, path)


def _require(source: pydicom.Dataset, words: Sequence[str], path: Any) -> None:
    if lacking := [word for word in words if source.get(word) in (None, "")]:
        raise InputError(
            f"{path}: no {lacking[0]} in its DICOM files, which a DICOM SEG must name: leave dicom_seg out"
        )


def _cumulated(frames: np.ndarray, classes: int) -> np.ndarray:
    """Turn values 0..K (N, rows, columns) into masks (N, rows, columns, K), each of a class and all after it."""
    return (frames[..., None] >= np.arange(1, classes + 1)).astype(np.uint8)


def on_planes(pred: MetaTensor, planes: Sequence[Plane], where: Any) -> np.ndarray:
    """Take the value of every pixel of some slices from a label map.

    Args:
        pred: label map with its affine (RAS, mm).
        planes: where each slice lies.
        where: path of the series, begins the message.

    Returns:
        (slices, rows, columns), uint8.

    Raises:
        InputError: a pixel lies between the voxels or outside.
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


def _complete(slices: Sequence[pydicom.Dataset]) -> None:
    """Add attributes that DICOM SEG copies where anonymisation or a converter left them out."""
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


def _as_plain_slices(slices: Sequence[pydicom.Dataset]) -> dict[str, str]:
    """Give several source files the SOP class of plain MR slices, as highdicom wants several files to be.

    Returns:
        The SOP class that each file had, by its SOP instance UID.
    """
    classes = {str(piece.SOPInstanceUID): piece.SOPClassUID for piece in slices}
    if len(slices) > 1:
        for piece in slices:
            piece.SOPClassUID = MRImageStorage
    return classes


def _name_classes(segmentation: pydicom.Dataset, classes: dict[str, str]) -> None:
    """Restore the SOP classes of the source files in the references to them."""

    def put(piece: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.keyword == "ReferencedSOPInstanceUID":
            piece.ReferencedSOPClassUID = classes[str(element.value)]

    segmentation.walk(put)


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
    """Return the number of a derived series, as scanners count: 100, 200, ... after the source's."""
    return 100 * (int(getattr(piece, "SeriesNumber", None) or 0) + 1)
