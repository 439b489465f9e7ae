"""DICOM SEG as a label map: of a volume, every pixel on the voxel that it lies on; of a picture, pixel for pixel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from PIL import Image

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.io.dicom import only_dicom, to_voxels
from shared.io.dicom_frames import SEGMENTATION

if TYPE_CHECKING:
    from highdicom.seg import Segmentation


def find_dicom_seg(path: str | os.PathLike) -> Path | None:
    """Return the DICOM SEG that a path means: itself, or the only DICOM file in a folder; else None.

    A broken file is none; whoever reads it as what it might be says what is wrong with it.
    """
    file = only_dicom(str(path))
    if file is None:
        return None
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"])
        return file if header.get("Modality") == SEGMENTATION else None
    except Exception:
        return None


def load_dicom_seg(file: Path, image: MetaTensor, where: str) -> MetaTensor:
    """Lay the segments of a DICOM SEG on the grid of an image.

    Args:
        file: binary or label map; frames in any order, empty ones may be left out.
        image: the image (M, X, Y, Z) with its affine (RAS, mm).
        where: case and role of the file, begins the message.

    Returns:
        MetaTensor float32 (1, X, Y, Z): 0, or the number of the segment.

    Raises:
        InputError: unreadable, fractional, segments that overlap, pixels outside the image or between its voxels.
    """
    import highdicom  # not in MONAI Label's environment, which has no use for it

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
        file: binary or label map; one frame a segment.

    Returns:
        A Pillow image of mode "I;16": 0, or the number of the segment, where segments overlap the highest (our choice:
        the cup lies in the optic disc).

    Raises:
        ValueError: fractional, or frames of several pictures.
    """
    import highdicom

    seg = highdicom.seg.segread(file)
    frames = _frames(seg)
    segments = [_segment(seg, number) for number in range(1, len(frames) + 1)]
    if len(set(segments)) < len(segments):
        raise ValueError("its segments lie on several images")
    return Image.fromarray(np.max([frame * segment for frame, segment in zip(frames, segments)], axis=0))


def _frames(seg: Segmentation) -> np.ndarray:
    """(frames, rows, columns), uint16."""
    if seg.SegmentationType == "FRACTIONAL":
        raise ValueError("its segments are fractional")
    return seg.pixel_array.reshape(-1, seg.Rows, seg.Columns).astype(np.uint16)


def _pixels(seg: Segmentation) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield, a frame at a time, the segment's number of each of its pixels (N,) or of all, and (N, 3) places, mm."""
    from highdicom.spatial import PixelToReferenceTransformer

    for number, frame in enumerate(_frames(seg), 1):
        pixels = np.argwhere(frame)
        if len(pixels):
            world = PixelToReferenceTransformer.for_image(seg, frame_number=number)(pixels[:, ::-1])
            yield frame[tuple(pixels.T)] * _segment(seg, number), world


def _segment(seg: Segmentation, frame: int) -> int:
    """Return what a frame's ones stand for; 1 for a label map, whose values are the numbers themselves."""
    if seg.SegmentationType == "LABELMAP":
        return 1
    groups = seg.PerFrameFunctionalGroupsSequence[frame - 1], *seg.get("SharedFunctionalGroupsSequence", [])
    group = next(group for group in groups if "SegmentIdentificationSequence" in group)
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
