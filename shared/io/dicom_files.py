"""The DICOM files of a folder, and whether their pixels can be decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from shared.core.errors import InputError

NO_PIXELS = re.compile("Presentation State|Structured|SR Storage|Key Object|Directory|Encapsulated|RT (?!Image|Dose)")
PREAMBLE = 128  # bytes
# what a data set without preamble begins with, in little and in big endian: group 2, or an attribute of group 8
TAGS = [(group, element) for group in (2, 8) for element in range(0x71)]
FIRST_TAGS = {bytes(tag) for group, element in TAGS for tag in ((group, 0, element, 0), (0, group, 0, element))}
OF_PIXELS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
DECODE = "install python-gdcm (pip install python-gdcm), or decompress the files, e.g. with gdcmconv --raw"


def has_dicom(path: os.PathLike | str) -> bool:
    """Return True if a file, or at least one file directly in a folder, is DICOM."""
    return next(dicom_files(path), None) is not None


def dicom_files(path: os.PathLike | str) -> Iterator[Path]:
    """Yield the DICOM images directly in a folder, by name; of a file, itself if it is one.

    A folder's table of contents (DICOMDIR), reports and the settings of a viewer are left out.
    """
    source = Path(path)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    return (file for file in files if file.is_file() and is_dicom(file) and _may_have_pixels(file))


def is_dicom(file: Path) -> bool:
    """Return True for a DICOM file, with the preamble or without, as older exports are."""
    return pydicom.misc.is_dicom(file) or _starts_with_data(file)


def read_dicom(file: os.PathLike | str, **options: Any) -> pydicom.Dataset:
    """Read a file that `dicom_files` found; one without preamble gets the transfer syntax that its data set shows.

    Args:
        file: the file.
        **options: of `pydicom.dcmread`.
    """
    piece = pydicom.dcmread(file, force=True, **options)
    if "TransferSyntaxUID" not in piece.file_meta and not pydicom.misc.is_dicom(Path(file)):
        implicit, little = getattr(piece, "original_encoding", None) or (
            piece.read_implicit_vr,
            piece.read_little_endian,
        )
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        piece.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return piece


def check_broken(folder: os.PathLike | str) -> None:
    """Check that no file of a folder is a slice that is empty, or cut before its data begin.

    Such a file is named ``.dcm``; or it is empty or all zeros, as a preamble is, and has a suffix of a DICOM image
    beside it (a number, as in a UID, counts as none). Hidden files are left out.

    Raises:
        ValueError: a slice is broken.
    """
    others = [file for file in sorted(Path(folder).iterdir()) if file.is_file() and not is_dicom(file)]
    others = [file for file in others if not file.name.startswith(".")]
    suffixes = {_suffix(file) for file in dicom_files(folder)} if others else set()
    for file in others:
        if _suffix(file) == ".dcm" or (_suffix(file) in suffixes and _is_blank(file)):
            raise ValueError(f"{file.name} is empty, cut short or not DICOM: copy it again, or remove it")


def only_dicom(path: os.PathLike | str) -> Path | None:
    """Return the DICOM file that a path names: itself, or the only one in a folder; else None."""
    first_two = list(islice(dicom_files(Path(path).expanduser()), 2))
    return first_two[0] if len(first_two) == 1 else None


def number(piece: pydicom.Dataset, keyword: str, default: float) -> float:
    """Return a number of a data set, or `default` where it is absent or empty."""
    value = piece.get(keyword)
    return default if value in (None, "") else float(value)


def check_pixels(piece: Any) -> None:
    """Check that a data set has pixels, all of them, in a form that can be decoded.

    Raises:
        InputError: no decoder is installed for its compression.
        ValueError: pixels are missing, or an attribute that describes them.
    """
    if "PixelData" not in piece:
        raise ValueError("no pixels in it: a file cut short? copy it again")
    for word in OF_PIXELS:
        if piece.get(word) in (None, ""):
            raise ValueError(f"no {word} in its DICOM header: export the image again")
    syntax = piece.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        _check_decoder(syntax)
        return
    bits = int(piece.Rows) * int(piece.Columns) * int(piece.get("SamplesPerPixel") or 1) * int(piece.BitsAllocated)
    if len(piece.PixelData) * 8 < bits * int(piece.get("NumberOfFrames") or 1):
        raise ValueError("fewer pixels than its header announces: a file cut short? copy it again")


@contextmanager
def decoding(piece: Any) -> Iterator[None]:
    """Turn what the decoders raise for a compressed data set into one line.

    Raises:
        InputError: its pixels are damaged, or of a kind that no decoder here knows, such as JPEG of 12 bits.
    """
    try:
        yield
    except Exception as error:
        syntax = piece.file_meta.TransferSyntaxUID
        if not syntax.is_compressed or isinstance(error, MemoryError):
            raise
        raise InputError(
            f"compressed as {syntax.name}, and its pixels are damaged or cannot be decoded here: copy it again, or "
            "decompress it with another program"
        ) from error


def _suffix(file: Path) -> str:
    suffix = file.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _is_blank(file: Path) -> bool:
    """Return True if a file is empty, or a part of the 128 zeros and 4 letters that DICOM begins with."""
    with file.open("rb") as stream:
        return not stream.read(PREAMBLE + 4).strip(b"\0DICM") and file.stat().st_size < PREAMBLE + 4


def _starts_with_data(file: Path) -> bool:
    """Return True if a file without preamble begins with a data set of an image."""
    with file.open("rb") as stream:
        if stream.read(4) not in FIRST_TAGS:
            return False
    try:
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID", "Rows"])
    except Exception:
        return False
    return ("SOPClassUID" in header or "Rows" in header) and not NO_PIXELS.search(
        getattr(header.get("SOPClassUID"), "name", "")
    )


def _check_decoder(syntax: Any) -> None:
    try:
        from pydicom.pixels import get_decoder
    except ImportError:  # pydicom 2, in MONAI Label's environment, raises its own error when it decodes
        return
    try:
        decodable = get_decoder(syntax).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        raise InputError(f"compressed as {syntax.name}, which cannot be decoded here: {DECODE}")


def _may_have_pixels(file: Path) -> bool:
    try:
        kind = pydicom.filereader.read_file_meta_info(file).get("MediaStorageSOPClassUID", "")
    except Exception:  # a broken file; the function that reads it reports what is wrong
        return True
    return not NO_PIXELS.search(getattr(kind, "name", ""))
