"""Reading pictures (PNG, JPG, TIFF, BMP, DICOM) and label pictures, by Pillow and highdicom."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.io.dicom_labels import find_dicom_seg, open_dicom_seg
from shared.io.dicom_picture import find_dicom_picture, open_dicom_picture
from shared.io.memory import check_picture_size

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
OTHER_FORMATS = (".gif", ".webp", ".avif", ".heic", ".svg", ".jp2")
REMEDY = "give a PNG, JPG, TIFF or BMP of 8 or 16 bits, or one DICOM image"
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # of one channel; Pillow reads 16-bit colour as 8 bits
GREY = (*SIXTEEN_BITS, "1", "L", "LA", "La")
FIRST_GREY = threading.Lock()  # taken by the first grey picture of the process, never released


def load_picture(path: str | os.PathLike, where: str, grey: bool = False) -> MetaTensor:
    """Read a photograph as it looks on the screen (EXIF orientation applied, alpha dropped).

    A grey picture is repeated to three channels unless `grey` is set; the log names the first one of a process.

    Args:
        path: the file, 8 or 16 bits; or a folder that holds one DICOM image.
        where: the case, begins the messages.
        grey: return one channel; of a colour picture, its luma.

    Returns:
        MetaTensor float32 (3, H, W), rows from top to bottom, red, green, blue in [0, 1], or (1, H, W); affine the
        identity; meta ``filename_or_obj`` and ``spatial_shape`` (H, W).

    Raises:
        InputError: absent, unreadable, damaged, too large, several pages, or more than 16 bits.
    """
    with _opened(path, where, label=False) as image:
        ImageOps.exif_transpose(image, in_place=True)
        colourless, deep = image.mode in GREY, image.mode in SIXTEEN_BITS
        array = np.asarray(image if deep else image.convert("L" if colourless or grey else "RGB"))
    white = 65535 if deep else 255
    if deep and not 0 <= array.min() <= array.max() <= white:
        raise InputError(f"{where}: {path} holds the values {array.min()} to {array.max()}: {REMEDY}")
    picture = torch.from_numpy(np.atleast_3d(array).astype(np.float32)).movedim(-1, 0) / white
    if grey:
        return _with_meta(picture, path)
    if colourless and FIRST_GREY.acquire(blocking=False):
        logging.getLogger(__name__).warning(
            f"{where}: a grey picture where colour is expected: repeated to three channels (logged once)"
        )
    return _with_meta(picture.expand(3, -1, -1).contiguous(), path)


def load_picture_label(path: str | os.PathLike, labels: Sequence[int], where: str) -> MetaTensor:
    """Read a label picture: the values in the file; of a palette, its indices.

    Args:
        path: the file: grey, palette, or colour whose channels are equal; alpha is dropped. Or the DICOM SEG of the
            picture, or the folder that holds it alone: the segments' numbers are the values.
        labels: values that may occur.
        where: case and role of the file, begins the messages.

    Returns:
        MetaTensor uint8 (int32 if a declared value exceeds 255) (1, H, W), rows from top to bottom; meta as that of
        `load_picture`.

    Raises:
        InputError: absent, unreadable, damaged, too large, several pages, colours, or a value outside `labels`.
    """
    with _opened(path, where) as image:
        ImageOps.exif_transpose(image, in_place=True)
        array = np.asarray(image)
        colour = len(image.getbands()) > 2
        equal = image.mode.startswith("RGB") and not (array[..., :3] != array[..., :1]).any()
    if colour and not equal:
        raise InputError(f"{where}: {path} is in colour: save one value per pixel, as a grey PNG")
    values = torch.from_numpy((array if array.ndim == 2 else array[..., 0]).astype(np.int32))[None]
    wrong = sorted(set(values.unique().tolist()) - set(labels))
    if wrong:
        found = f"value{'s' * (len(wrong) > 1)} {', '.join(map(str, wrong[:10]))}{', ...' * (len(wrong) > 10)}"
        raise InputError(
            f"{where}: {path}: holds the {found} where {', '.join(map(str, labels))} are declared: remap the labels "
            "and save them as PNG (JPG changes values)"
        )
    return _with_meta(values.to(torch.uint8 if max(labels) < 256 else torch.int32), path)


def picture_size(path: str | os.PathLike, where: str) -> tuple[int, int]:
    """Return rows and columns of a picture as it looks on the screen.

    Pixels are decoded for DICOM, and for a file whose EXIF orientation turns it.

    Raises:
        InputError: absent, unreadable, too large, several pages, or floating-point numbers.
    """
    with _opened(path, where) as image:
        in_header = image.format != "PNG" or "exif" in image.info  # Pillow decodes a PNG to find EXIF at its end
        if in_header and image.getexif().get(ExifTags.Base.Orientation, 1) > 4:
            ImageOps.exif_transpose(image, in_place=True)
        return image.height, image.width


def check_same_size(size: tuple[int, ...], label_size: tuple[int, ...], where: str) -> None:
    """Raise InputError unless picture and label have the same size.

    Args:
        size: rows and columns of the picture.
        label_size: rows and columns of its label.
        where: case and file of the label, begins the message.
    """
    if size != label_size:
        (rows, columns), (label_rows, label_columns) = size, label_size
        raise InputError(
            f"{where}: is {label_columns} x {label_rows} pixels where the picture is {columns} x {rows}: give the "
            "label of this picture, in the picture's own size"
        )


@contextmanager
def _opened(path: str | os.PathLike, where: str, label: bool = True) -> Iterator[Image.Image]:
    """Open a picture for reading; whatever Pillow raises before it is closed becomes one line.

    Args:
        path: the file, or a folder that holds one DICOM file.
        where: case and role of the file, begins the messages.
        label: accept a DICOM SEG.
    """
    source = Path(str(path)).expanduser()
    try:
        if not source.exists():
            raise InputError(f"{where}: {path} not found: correct the path")
        dicom = find_dicom_picture(source)
        if source.is_dir() and not dicom:
            raise ValueError("a folder without a DICOM image")
        segmentation = find_dicom_seg(dicom) if dicom else None
        if segmentation and not label:
            raise InputError(f"{where}: {path} is a DICOM SEG: give the picture that it was made from")
        opened = open_dicom_seg if segmentation else open_dicom_picture
        with opened(dicom) if dicom else Image.open(source, formats=FORMATS) as image:
            check_picture_size(image.height, image.width)
            pages = getattr(image, "n_frames", 1)
            if pages > 1 and image.format != "MPO":  # a camera's JPG with a preview behind the photograph
                raise InputError(f"{where}: {path} holds {pages} pictures: save one picture per file")
            if image.mode == "F":
                raise InputError(f"{where}: {path} holds floating-point numbers: {REMEDY}")
            yield image
    except InputError as error:
        if str(error).startswith(f"{where}: "):
            raise
        raise InputError(f"{where}: {path}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{where}: {path} does not fit into memory: crop or shrink it") from error
    except Exception as error:
        known = not isinstance(error, UnidentifiedImageError)
        other = source.suffix.lower() in OTHER_FORMATS
        why = reason(error) if known else f"{source.suffix} is not supported" if other else "no picture in it"
        raise InputError(f"{where}: {path} cannot be read ({why}): {REMEDY}") from error


def _with_meta(array: torch.Tensor, path: str | os.PathLike) -> MetaTensor:
    return MetaTensor(array, meta={"filename_or_obj": str(path), "spatial_shape": np.array(array.shape[1:])})
