"""DICOM SEG as a label map: of a volume on the voxels of its image, of a picture pixel by pixel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.io.affine import to_voxels
from shared.io.dicom_files import only_dicom, read_dicom
from shared.io.dicom_frames import functional_group
from shared.io.dicom_series import SEGMENTATION

if TYPE_CHECKING:
    from highdicom.seg import Segmentation


def find_dicom_seg(path: str | os.PathLike) -> Path | None:
    """Return the DICOM SEG that a path names: itself, or the only DICOM file in a folder; else None.

    None for a broken file too: the function that reads it reports what is wrong.
    """
    file = only_dicom(str(path))
    if file is None:
        return None
    try:
        header = read_dicom(file, stop_before_pixels=True, specific_tags=["Modality"])
        return file if header.get("Modality") == SEGMENTATION else None
    except Exception:
        return None


def load_dicom_seg(file: Path, image: MetaTensor, where: str) -> MetaTensor:
    """Lay the segments of a DICOM SEG on the grid of an image.

    highdicom's `Segmentation.get_volume` and `match_geometry` are not used: they refuse the sheared grid of a tilted
    gantry, and silently drop pixels outside the image.

    Args:
        file: binary or label map; frames in any order, empty ones may be left out.
        image: the image (M, X, Y, Z) with its affine (RAS, mm).
        where: case and role of the file, begins the message.

    Returns:
        MetaTensor float32 (1, X, Y, Z): 0, or the number of the segment.

    Raises:
        InputError: unreadable, fractional, segments that overlap, pixels outside the image or between its voxels.
    """
    import highdicom  # absent from MONAI Label's environment

    label = np.zeros(image.shape[1:], np.float32)
    try:
        for numbers, world in _pixels(highdicom.seg.segread(file)):
            index = tuple(to_voxels(world, image).T)
            if ((label[index] > 0) & (label[index] != numbers)).any():
                raise ValueError("its segments overlap")
            label[index] = numbers
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise InputError(
            f"{where}: {file} cannot be used ({reason(error)}): give the DICOM SEG of this image, or NIfTI"
        ) from error
    meta = {**image.meta, "filename_or_obj": str(file)}
    return MetaTensor(torch.from_numpy(label)[None], meta=meta)


def open_dicom_seg(file: Path) -> Image.Image:
    """Open the DICOM SEG of one picture as a label picture.

    Args:
        file: binary or label map; one frame per segment.

    Returns:
        A Pillow image of mode "I;16": 0, or the number of the segment. Where segments overlap, the highest number
        counts, as the cup lies in the optic disc.

    Raises:
        ValueError: fractional, or frames of several pictures.
    """
    import highdicom

    seg = highdicom.seg.segread(file)
    frames = _frames(seg)
    segments = [_segment(seg, index) for index in range(len(frames))]
    if len(set(segments)) < len(segments):
        raise ValueError("its segments lie on several images")
    return Image.fromarray(np.max([frame * segment for frame, segment in zip(frames, segments)], axis=0))


def _frames(seg: Segmentation) -> np.ndarray:
    """Return (frames, rows, columns), uint16."""
    if seg.SegmentationType == "FRACTIONAL":
        raise ValueError("its segments are fractional")
    return seg.pixel_array.reshape(-1, seg.Rows, seg.Columns).astype(np.uint16)


def _pixels(seg: Segmentation) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield, per frame that is not empty, the segment numbers of its pixels (N,) and their places (N, 3), LPS, mm."""
    from highdicom.spatial import PixelToReferenceTransformer

    for index, frame in enumerate(_frames(seg)):
        pixels = np.argwhere(frame)
        if len(pixels):
            world = PixelToReferenceTransformer.for_image(seg, frame_number=index + 1)(pixels[:, ::-1])
            yield frame[tuple(pixels.T)] * _segment(seg, index), world


def _segment(seg: Segmentation, index: int) -> int:
    """Return the factor from a frame's values to segment numbers: its segment's number, or 1 for a label map."""
    if seg.SegmentationType == "LABELMAP":
        return 1
    return int(functional_group(seg, index, "SegmentIdentificationSequence").ReferencedSegmentNumber)
