"""A single DICOM image, such as a radiograph or a fundus photograph, as a picture on the screen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from shared.io.dicom_files import dicom_files


def find_dicom_picture(path: str | os.PathLike) -> Path | None:
    """Return the DICOM file that a path means: itself, or the only one in a folder; None if it means none.

    Raises:
        ValueError: a folder with several.
    """
    files = list(dicom_files(Path(path).expanduser()))
    if len(files) > 1:
        raise ValueError(f"the folder holds {len(files)} DICOM files; name the one")
    return files[0] if files else None


def open_dicom_picture(file: Path) -> Image.Image:
    """Decode one image as a viewer shows it: modality and window applied, MONOCHROME1 inverted, palettes in colour.

    A grey image that names no window is stretched from its lowest to its highest value (our choice).

    Args:
        file: one frame, compressed or not, of any kind that highdicom reads.

    Returns:
        A Pillow image of mode "I;16", white 65535, or "RGB" of 8 bits.

    Raises:
        ValueError: several frames, or none.
    """
    import highdicom  # not in MONAI Label's environment, which has no use for it

    image = highdicom.imread(file)
    frames = int(image.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"{frames} frames; save one image a file")
    pixels = image.get_frame(1, apply_voi_transform=None, apply_presentation_lut=True, apply_icc_profile=False)
    if pixels.ndim == 3:
        deep = image.get("RedPaletteColorLookupTableDescriptor")
        bits = deep[2] if deep else image.BitsStored
        return Image.fromarray(np.rint(pixels * (255 / (2**bits - 1))).astype(np.uint8))
    if "WindowCenter" not in image and "VOILUTSequence" not in image:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / max(high - low, 1e-9)
    return Image.fromarray(np.rint(65535 * np.clip(pixels, 0, 1)).astype(np.uint16))
