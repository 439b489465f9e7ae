"""A whole volume in one DICOM file, as Enhanced MR and CT are: frames in the order of their positions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from shared.io.dicom_files import check_pixels, decoding, only_dicom, read_dicom
from shared.io.dicom_series import ONE_SLICE, SEGMENTATION, check_equal
from shared.io.dicom_stack import Plane, plane, stack
from shared.io.opened import OpenedVolume

OF_ONE_IMAGE = (
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex"),
)
NO_STACK = "its frames are not one regular stack of slices (several times or echoes, or a film)"


def find_frames(path: str | os.PathLike) -> Path | None:
    """Return the DICOM file that holds a volume: the path itself, or the only DICOM file in a folder.

    Returns:
        None if the path is a file of another kind, or a folder with no or several DICOM files.

    Raises:
        ValueError: that file has one frame, or is a DICOM SEG.
    """
    file = only_dicom(path)
    if file is None:
        return None
    header = read_dicom(file, stop_before_pixels=True, specific_tags=["NumberOfFrames", "Modality"])
    if header.get("Modality") == SEGMENTATION:
        raise ValueError("a DICOM SEG, which is a label, not an image")
    if int(header.get("NumberOfFrames") or 1) == 1:
        raise ValueError(ONE_SLICE)
    return file


def open_frames(file: Path) -> OpenedVolume:
    """Read a file that `find_frames` found; its pixels are decoded later.

    Returns:
        The volume (columns, rows, slices), slices along the normal of the image plane, intensities rescaled as the
        file says.

    Raises:
        InputError: no decoder is installed for the file's compression.
        ValueError: frames with colours, or frames that form no volume.
    """
    import highdicom  # absent from MONAI Label's environment

    image = highdicom.Image.from_dataset(_little_endian(read_dicom(file)), copy=False)
    order, affine = order_frames(image)
    _check_one_image(image)
    if image.SamplesPerPixel > 1:
        raise ValueError("its frames have colours")
    check_pixels(image)
    shape = int(image.Columns), int(image.Rows), len(order)
    numbers = [int(index) + 1 for index in order]

    def voxels() -> np.ndarray:
        # A map to real-world values would take the place of the rescaling, which is what a series of slices has.
        with decoding(image):
            frames = image.get_frames(numbers, dtype=np.float32, apply_real_world_transform=False)
        return frames.transpose(2, 1, 0)

    return OpenedVolume(shape, affine, voxels, needs_reading=image.file_meta.TransferSyntaxUID.is_compressed)


def _check_one_image(image: pydicom.Dataset) -> None:
    """Raise ValueError if frames of one stack differ in what they show, as two echoes do."""
    count = int(image.NumberOfFrames)
    for group, keyword in OF_ONE_IMAGE:
        check_equal(keyword, [functional_group(image, index, group).get(keyword) for index in range(count)], "frames")


def _little_endian(image: pydicom.Dataset) -> pydicom.Dataset:
    """Return a data set whose pixels highdicom can read; it takes those of big endian as little endian."""
    if image.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and int(image.BitsAllocated) == 16:
        image.PixelData = np.frombuffer(image.PixelData, ">u2").astype("<u2").tobytes()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def order_frames(image: pydicom.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices that sort the frames of a file, and the affine (RAS, mm) of the volume that they form.

    Raises:
        ValueError: the frames form no volume.
    """
    if "PerFrameFunctionalGroupsSequence" not in image:
        raise ValueError(NO_STACK)
    try:
        return stack(frame_planes(image))
    except ValueError as error:
        raise ValueError(f"{NO_STACK}: {error}") from error


def frame_planes(image: pydicom.Dataset) -> list[Plane]:
    """Return where each frame of a file lies.

    Raises:
        ValueError: a frame has no position, orientation or pixel spacing.
    """
    shape = int(image.Rows), int(image.Columns)
    return [
        plane(
            functional_group(image, index, "PlanePositionSequence").get("ImagePositionPatient"),
            functional_group(image, index, "PlaneOrientationSequence").get("ImageOrientationPatient"),
            functional_group(image, index, "PixelMeasuresSequence").get("PixelSpacing"),
            shape,
        )
        for index in range(int(image.NumberOfFrames))
    ]


def functional_group(image: pydicom.Dataset, index: int, keyword: str) -> Any:
    """Return a functional group of one frame, or the one that all frames share; an empty data set if there is none.

    Args:
        image: with functional groups.
        index: of the frame, from 0.
        keyword: of the group, such as "PlanePositionSequence".
    """
    groups = [image.PerFrameFunctionalGroupsSequence[index], *image.get("SharedFunctionalGroupsSequence", [])]
    return next((group[keyword][0] for group in groups if group.get(keyword)), pydicom.Dataset())
