"""A single DICOM image, such as a radiograph or a fundus photograph, as a picture on the screen."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from shared.io.dicom_files import check_pixels, decoding, dicom_files, read_dicom
from shared.io.memory import check_picture_size

# Anonymisation may leave these attributes empty. Empty ones carry no information, but highdicom fails on them.
MAY_BE_EMPTY = (
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
)


def find_dicom_picture(path: str | os.PathLike) -> Path | None:
    """Return the DICOM file that a path names: itself, or the only one in a folder; None if there is none.

    Raises:
        ValueError: a folder with several.
    """
    files = list(dicom_files(Path(path).expanduser()))
    if len(files) > 1:
        raise ValueError(f"the folder holds {len(files)} DICOM files; give the path of one")
    return files[0] if files else None


def open_dicom_picture(file: Path) -> Image.Image:
    """Decode one image as a viewer shows it: modality and window applied, MONOCHROME1 inverted, palettes in colour.

    A grey image without a usable window is stretched from its lowest to its highest value.

    Args:
        file: one frame, compressed or not, of any kind that highdicom reads.

    Returns:
        A Pillow image of mode "I;16", white 65535, or "RGB" of 8 bits.

    Raises:
        InputError: no decoder is installed for its compression.
        ValueError: several frames, or none.
    """
    import highdicom  # absent from MONAI Label's environment

    source = read_dicom(file)
    _drop_empty(source)
    frames = int(source.get("NumberOfFrames", 1))
    if frames > 1:
        raise ValueError(f"{frames} frames; save one image per file")
    check_pixels(source)
    check_picture_size(int(source.Rows), int(source.Columns))
    windowed = [_keep_usable_windows(settings) for settings in _display_settings(source)]
    image = highdicom.Image.from_dataset(source, copy=False)
    with decoding(source):
        pixels = image.get_frame(1, apply_voi_transform=None, apply_presentation_lut=True, apply_icc_profile=False)
    if pixels.ndim == 3:
        deep = image.get("RedPaletteColorLookupTableDescriptor")
        bits = deep[2] if deep else image.BitsStored
        return Image.fromarray(np.rint(pixels * (255 / (2**bits - 1))).astype(np.uint8))
    if not any(windowed):
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / max(high - low, 1e-9)
    return Image.fromarray(np.rint(65535 * np.clip(pixels, 0, 1)).astype(np.uint16))


def _display_settings(source: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """Yield the data sets that may hold a window: the image, and the groups of an enhanced one."""
    yield source
    for word in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in source.get(word) or []:
            yield from group.get("FrameVOILUTSequence") or []


def _drop_empty(source: pydicom.Dataset) -> None:
    for settings in _display_settings(source):
        for word in MAY_BE_EMPTY:
            if word in settings and settings[word].is_empty:
                del settings[word]
    for word, other, value in (("RescaleSlope", "RescaleIntercept", 0), ("RescaleIntercept", "RescaleSlope", 1)):
        if word in source and other not in source:
            setattr(source, other, value)


def _keep_usable_windows(settings: pydicom.Dataset) -> bool:
    """Delete windows without centre, or without a positive width; return True if a window or a table is left.

    DICOM's LINEAR function subtracts 1 from the width: a width below 1 would show the negative, so it is taken exactly.
    """
    centres, widths = _numbers(settings, "WindowCenter"), _numbers(settings, "WindowWidth")
    usable = [(c, w) for c, w in zip(centres, widths) if math.isfinite(c) and math.isfinite(w) and w > 0]
    for word in ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"):
        if word in settings:
            delattr(settings, word)
    if usable:
        centre, width = usable[0]
        settings.WindowCenter, settings.WindowWidth = f"{centre:.10g}", f"{width:.10g}"
        if width <= 1 and settings.get("VOILUTFunction", "LINEAR") == "LINEAR":
            settings.VOILUTFunction = "LINEAR_EXACT"
    return bool(usable) or "VOILUTSequence" in settings


def _numbers(settings: pydicom.Dataset, word: str) -> list[float]:
    value = settings.get(word)
    if value is None:
        return []
    values = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    return [math.nan if number in (None, "") else float(number) for number in values]
