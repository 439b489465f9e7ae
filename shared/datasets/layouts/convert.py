"""Conversions of published files: other label values, single frames of a cine, one view of a stereo pair.

Each function reads its sources and writes its last argument, `target`. With the sources bound by `functools.partial` it
is the `write` of a `shared.datasets.layouts.layout.Conversion`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw

from shared.core.errors import InputError
from shared.core.messages import reason


@dataclass(frozen=True)
class Layer:
    """Pixels of a mask that become one label value.

    Attributes:
        mask: grey picture.
        value: label value of these pixels.
        low, high: the range of grey values that belong to them, both included. Without `low` it begins above half of
            the brightest value in the mask, which suits masks of 0 and 1, of 0 and 255, and JPG.
    """

    mask: Path
    value: int
    low: int | None = None
    high: int = 255


def paint(size_of: Path, layers: Sequence[Layer], left_half: bool, target: Path) -> None:
    """Paint layers in order, later ones on top, and write the label as a grey PNG.

    Args:
        size_of: the picture; masks of another size are resized to it (nearest pixel).
        layers: the layers.
        left_half: keep the left half, as `crop_left` does with the picture.
        target: the new file.

    Raises:
        InputError: a file cannot be read.
    """
    with _opened(size_of) as picture:
        size = picture.size
    label = np.zeros(size[::-1], np.uint8)
    for layer in layers:
        with _opened(layer.mask) as mask:
            grey = np.asarray(mask.convert("L").resize(size, Image.Resampling.NEAREST))
        inside = grey > int(grey.max()) / 2 if layer.low is None else (grey >= layer.low) & (grey <= layer.high)
        label[inside] = layer.value
    Image.fromarray(label[:, : size[0] // 2] if left_half else label).save(target)


def crop_left(source: Path, target: Path) -> None:
    """Write the left half of a stereo pair as PNG."""
    with _opened(source) as picture:
        picture.crop((0, 0, picture.width // 2, picture.height)).save(target)


def fill_outline(size_of: Path, outline: Path, value: int, target: Path) -> None:
    """Fill the polygon of a text file of RIM-ONE r2 and write it as a grey PNG.

    The file has a heading, then x and y alternately, one number per line, up to the line "Ellipse parameters". The
    first point is the centre, the others are the outline.

    Raises:
        InputError: a file cannot be read, or holds no outline.
    """
    text = outline.read_text(encoding="utf-8", errors="replace")
    lines = re.split(r"ellipse", text, flags=re.IGNORECASE)[0].splitlines()[1:]
    numbers = [int(float(word)) for line in lines for word in re.findall(r"-?\d+(?:\.\d+)?", line)]
    points = list(zip(numbers[::2], numbers[1::2]))[1:]
    if len(points) < 3:
        raise InputError(f"{outline} holds no outline: get the file again")
    with _opened(size_of) as picture:
        label = Image.new("L", picture.size, 0)
    ImageDraw.Draw(label).polygon(points, fill=value)
    label.save(target)


def remap(source: Path, values: Mapping[int, int], frame: int | None, target: Path) -> None:
    """Write a label map with other values, uint8, on the same grid.

    Args:
        source: NIfTI (X, Y, Z), or (X, Y, Z, T) with `frame`.
        values: value in the file -> new value; 0 stays 0. Other values mean that this is another data set.
        frame: index on the fourth axis, from 0; None for a volume.
        target: the new file.

    Raises:
        InputError: the file cannot be read, has no such frame, or holds another value.
    """
    image, array = _read(source, frame)
    if array.dtype.kind == "f" and np.allclose(array, np.rint(array), rtol=0, atol=1e-3):
        array = np.rint(array)  # a file with a slope decodes 1 to 0.9999999
    wrong = sorted({float(value) for value in np.unique(array)} - {0.0, *map(float, values)})
    if wrong:
        found = ", ".join(f"{value:g}" for value in wrong[:5])
        raise InputError(
            f"{source} holds {found} where 0, {', '.join(map(str, values))} are published: is it this data set?"
        )
    label = np.zeros(array.shape, np.uint8)
    for old, new in values.items():
        label[array == old] = new
    nib.save(nib.Nifti1Image(label, image.affine), target)


def binary(source: Path, target: Path) -> None:
    """Write a mask as 0 and 1, uint8; 1 is above half of the largest value, which also suits resampled masks."""
    image, array = _read(source, None)
    label = (array > array.max() / 2).astype(np.uint8)
    nib.save(nib.Nifti1Image(label, image.affine), target)


def take_frame(source: Path, frame: int, target: Path) -> None:
    """Write one frame (counted from 0) of a cine (X, Y, Z, T), with its data type and geometry.

    Raises:
        InputError: the file cannot be read or has no such frame.
    """
    nib.save(_read(source, frame)[0], target)


def _read(source: Path, frame: int | None) -> tuple[Any, np.ndarray]:
    """Return a volume, or a frame of a cine, and its array."""
    try:
        image: Any = nib.load(source)
        if frame is not None:
            if image.ndim != 4 or not 0 <= frame < image.shape[3]:
                raise InputError(f"{source} has no frame {frame}: its shape is {' x '.join(map(str, image.shape))}")
            image = image.slicer[..., frame]
        return image, np.asanyarray(image.dataobj)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{source} cannot be read ({reason(error)}): get the file again") from error


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
        return picture
    except Exception as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): get the file again") from error
