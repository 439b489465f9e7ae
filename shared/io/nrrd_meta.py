"""NRRD and MetaImage volumes, read by SimpleITK; their text headers are read here too, for what ITK does not check."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK

from shared.io.affine import LPS
from shared.io.opened import OpenedVolume

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
LEFT_HANDED = "3d-left-handed"  # an unoriented space; other spaces are anatomical or count as LPS, see below
UNITS = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "μm": 0.001, "µm": 0.001}
SAME_FILE = {"", "local"}  # where the voxels stand: behind the header
MOST_HEADER = 1 << 20  # bytes; a longer header belongs to no image
CHUNK = 1 << 20
CUT = "damaged or cut short: copy it again"


class _Text(NamedTuple):
    """The text header of a file.

    Args:
        fields: its fields, names and encodings in lower case.
        end: where the voxels begin if they stand in the same file, in bytes.
    """

    fields: dict[str, str]
    end: int


class _Stored(NamedTuple):
    """The voxels on disk.

    Args:
        file: that holds them.
        start: of the voxels in this file, in bytes.
        packed: "", "zlib" (also gzip) or "bz2".
    """

    file: Path
    start: int
    packed: str


def is_nrrd_or_meta(file: Path) -> bool:
    """Return True if a name is that of a NRRD or MetaImage file."""
    return file.suffix.lower() in SUFFIXES


def open_nrrd_or_meta(file: Path) -> OpenedVolume:
    """Read the header of a file and check it against the size of its voxels.

    ITK converts the spaces LPS, RAS and LAS. NRRD's ``scanner-xyz`` counts as LPS, which it equals for a patient who
    lies on the back, head first; so do ``3D-right-handed`` and a file without space, as MetaImage is always LPS.

    Args:
        file: .nrrd or .mha, or .nhdr or .mhd with the voxels in a file beside it.

    Returns:
        The volume; its affine is in mm and RAS, whatever the space and the unit of the file.

    Raises:
        ValueError: another format, several values per voxel, a space that does not say where the patient's left is, or
            fewer bytes than the header announces.
    """
    text = _read_text(file)
    voxels = _find_voxels(file, text)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"not a NRRD or MetaImage file, or a damaged one: {_last_line(error)}") from error
    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind:
        raise ValueError("its voxels are complex numbers")
    if reader.GetNumberOfComponents() > 1:
        raise ValueError(
            f"its voxels hold {reader.GetNumberOfComponents()} values each (colours, vectors or several volumes): "
            "save one volume per file"
        )
    unit = _check_space(text.fields)
    shape = tuple(int(size) for size in reader.GetSize())
    bytes_each = SimpleITK.Image([1] * len(shape), reader.GetPixelID()).GetSizeOfPixelComponent()
    size = math.prod(shape) * bytes_each
    if voxels:
        _check_size(voxels, size)
    affine = _affine(reader) if len(shape) > 2 else np.eye(4)
    affine[:3] *= unit
    return OpenedVolume(
        shape,
        affine,
        voxels=lambda: _read(reader, voxels, size),
        needs_reading="float" in kind or bool(voxels and voxels.packed),
    )


def _affine(reader: SimpleITK.ImageFileReader) -> np.ndarray:
    """Return the affine (RAS) of the first three axes."""
    axes = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (axes, axes))
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * reader.GetSpacing()[:3]
    affine[:3, 3] = reader.GetOrigin()[:3]
    return LPS @ affine


def _check_space(fields: dict[str, str]) -> float:
    """Return the length of the unit of a NRRD file in mm; 1 for MetaImage."""
    if fields.get("space", "").strip('"').lower().startswith(LEFT_HANDED):
        raise ValueError("its space is left-handed and does not say where the patient's left is: save it in LPS or RAS")
    units = {word.strip().lower() for word in fields.get("space units", "").split('"')} - {""} or {""}
    if len(units) > 1 or not units <= set(UNITS):
        raise ValueError(f"its space units are {', '.join(sorted(units))}: save it in mm")
    return UNITS[units.pop()]


def _read_text(file: Path) -> _Text:
    with file.open("rb") as stream:
        content = stream.read(MOST_HEADER)
    return _meta_text(content) if file.suffix.lower() in (".mha", ".mhd") else _nrrd_text(content)


def _nrrd_text(content: bytes) -> _Text:
    """Read ``name: value`` up to an empty line."""
    fields, end = {}, 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        name, colon, value = line.decode("utf-8", "replace").strip().partition(":")
        if not name and not colon:
            break
        if colon and not name.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    return _Text(fields, end)


def _meta_text(content: bytes) -> _Text:
    """Read ``name = value`` up to the name of the file with the voxels."""
    fields, end = {}, 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        name, _, value = line.decode("utf-8", "replace").partition("=")
        fields[name.strip().lower()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    return _Text(fields, end)


def _find_voxels(file: Path, text: _Text) -> _Stored | None:
    """Return where the voxels are; None if they are text, or spread over several files, which ITK checks.

    Raises:
        ValueError: the file with the voxels is absent.
    """
    fields = text.fields
    if file.suffix.lower() in (".mha", ".mhd"):
        name, is_text = fields.get("elementdatafile", ""), fields.get("binarydata", "true").lower() == "false"
        packed = "zlib" if fields.get("compresseddata", "false").lower() == "true" else ""
    else:
        name, encoding = fields.get("data file", fields.get("datafile", "")), fields.get("encoding", "raw").lower()
        packed = {"gzip": "zlib", "gz": "zlib", "bzip2": "bz2", "bz2": "bz2"}.get(encoding, "")
        is_text = encoding not in ("raw", "gzip", "gz", "bzip2", "bz2")
    if is_text or name.upper().startswith("LIST") or "%" in name:
        return None
    if name.lower() in SAME_FILE:
        return _Stored(file, text.end, packed)
    if not (file.parent / name).is_file():
        raise ValueError(f"the file with its voxels, {name}, is not beside it: copy both files")
    return _Stored(file.parent / name, 0, packed)


def _check_size(stored: _Stored, size: int) -> None:
    there = stored.file.stat().st_size - stored.start
    if there <= 0 or (there < size and not stored.packed):
        raise ValueError(f"{stored.file.name} ends too early: its header announces {size} bytes; copy it again")


def _read(reader: SimpleITK.ImageFileReader, stored: _Stored | None, size: int) -> np.ndarray:
    """Return the voxels (X, Y, Z) or (X, Y, Z, M)."""
    if stored and stored.packed:
        _check_packed(stored, size)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{CUT} ({_last_line(error)})") from error
    return SimpleITK.GetArrayFromImage(image).T  # a view would not keep the image alive


def _check_packed(stored: _Stored, size: int) -> None:
    """Unpack the voxels once, to their checksum: ITK returns what it has of a damaged file."""
    try:
        complete = sum(map(len, _unpacked(stored))) >= size
    except (zlib.error, OSError, EOFError) as error:
        raise ValueError(CUT) from error
    if not complete:
        raise ValueError(CUT)


def _unpacked(stored: _Stored) -> Iterator[bytes]:
    """Yield the unpacked voxels in pieces."""
    unpack: Any = bz2.BZ2Decompressor() if stored.packed == "bz2" else zlib.decompressobj(wbits=47)
    with stored.file.open("rb") as stream:
        stream.seek(stored.start)
        while not unpack.eof and (piece := stream.read(CHUNK)):
            yield unpack.decompress(piece)
    if not unpack.eof:
        raise EOFError


def _last_line(error: Exception) -> str:
    """Return what ITK says: its messages begin with the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("sitk::ERROR: ")[:160].rstrip(".") if lines else type(error).__name__
