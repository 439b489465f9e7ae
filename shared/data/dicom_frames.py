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

from shared.data.dicom import SPACING_TOLERANCE, dicom_files

if TYPE_CHECKING:
    from highdicom import Image, VolumeGeometry

NO_STACK = "its frames are no regular stack of slices (several times or echoes, or a film)"


def find_frames(path: str | os.PathLike) -> Path | None:
    """Return the DICOM file that holds a volume: the path itself, or the only DICOM file in a folder.

    Returns:
        None if the path is a file of another kind, or a folder with no or several DICOM files.

    Raises:
        ValueError: that file has one frame.
    """
    files = list(dicom_files(Path(path).expanduser()))
    if len(files) != 1:
        return None
    header = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["NumberOfFrames"])
    if int(header.get("NumberOfFrames") or 1) == 1:
        raise ValueError("a single DICOM file with one slice, not a series of slices")
    return files[0]


class FramesReader(ImageReader):
    """highdicom's reader for one file that holds a volume.

    Axes are columns, rows and slices, and slices run along the normal of the image plane, as `DicomSeriesReader` has
    them; the affine is RAS, mm. Intensities are rescaled as the file says.
    """

    def verify_suffix(self, filename: Sequence[os.PathLike | str] | os.PathLike | str) -> bool:
        """Tell whether this is such a file."""
        return isinstance(filename, (str, os.PathLike)) and find_frames(filename) is not None

    def read(self, data: Sequence[os.PathLike | str] | os.PathLike | str, **kwargs: Any) -> Image:
        """Read a file, or the only one in a folder."""
        import highdicom  # not in MONAI Label's environment, which has no use for it

        (path,) = [data] if isinstance(data, (str, os.PathLike)) else data
        return highdicom.imread(find_frames(path) or path)

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
