"""A whole volume in one DICOM file, as Enhanced MR and CT are: frames in the order of their positions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys

from shared.io.dicom import SPACING_TOLERANCE, only_dicom

if TYPE_CHECKING:
    from highdicom import Image, VolumeGeometry

SEGMENTATION = "SEG"
NO_STACK = "its frames are no regular stack of slices (several times or echoes, or a film)"


def find_frames(path: str | os.PathLike) -> Path | None:
    """Return the DICOM file that holds a volume: the path itself, or the only DICOM file in a folder.

    Returns:
        None if the path is a file of another kind, or a folder with no or several DICOM files.

    Raises:
        ValueError: that file has one frame, or is a DICOM SEG, which is no image.
    """
    file = only_dicom(path)
    if file is None:
        return None
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["NumberOfFrames", "Modality"])
    if header.get("Modality") == SEGMENTATION:
        raise ValueError("a DICOM SEG, no image")
    if int(header.get("NumberOfFrames") or 1) == 1:
        raise ValueError("a single DICOM file with one slice, not a series of slices")
    return file


class FramesReader(ImageReader):
    """highdicom's reader for the one file that holds a volume, which `find_frames` found.

    Axes are columns, rows and slices, and slices run along the normal of the image plane, as `DicomSeriesReader` has
    them; the affine is RAS, mm. Intensities are rescaled as the file says.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def verify_suffix(self, filename: Sequence[os.PathLike | str] | os.PathLike | str) -> bool:
        """Return True: the file was looked at before."""
        return True

    def read(self, data: Sequence[os.PathLike | str] | os.PathLike | str, **kwargs: Any) -> Image:
        """Read the file, whether `data` names it or its folder."""
        import highdicom  # not in MONAI Label's environment, which has no use for it

        return highdicom.imread(self.file)

    def get_data(self, img: Image) -> tuple[np.ndarray, dict]:
        """Return (X, Y, Z) float32 and its geometry.

        Raises:
            ValueError: frames that are no regular stack, or have colours.
        """
        read_geometry(img)
        volume = img.get_volume(dtype=np.float32, rtol=SPACING_TOLERANCE)
        if volume.number_of_channel_dimensions:
            raise ValueError("its frames have colours")
        volume = volume.permute_spatial_axes([2, 1, 0]).ensure_handedness("RIGHT_HANDED", flip_axis=2)
        affine = volume.get_affine("RAS")
        return np.ascontiguousarray(volume.array), {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(volume.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        }


def read_geometry(image: Image) -> VolumeGeometry:
    """Return how the frames of one file lie in space, slices first.

    Raises:
        ValueError: they are no regular stack.
    """
    try:
        geometry = image.get_volume_geometry(rtol=SPACING_TOLERANCE, allow_duplicate_positions=False)
    except (ValueError, AttributeError, KeyError) as error:
        raise ValueError(NO_STACK) from error
    if geometry is None:
        raise ValueError(NO_STACK)
    return geometry
