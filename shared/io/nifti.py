"""NIfTI and FreeSurfer volumes, read by nibabel, with the affine exactly as nibabel gives it."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from shared.io.opened import OpenedVolume

UNITS = {1: 1000.0, 3: 0.001}  # of NIfTI's xyzt_units, in mm: metre and micron; 2 is mm, 0 (unknown) counts as mm
LENGTH_BITS = 7  # of xyzt_units
BEST_RATIO = 1032  # the highest compression ratio of deflate
CHUNK = 1 << 20
GZIP = b"\x1f\x8b"  # the first bytes of a gzip file
OTHER_PACKERS = (".bz2", ".zst")  # nibabel reads them; their checksums and sizes are not checked here
DAMAGED = (OSError, EOFError, zlib.error)  # what reading a broken file raises


def open_nifti(file: Path) -> OpenedVolume:
    """Read the header of a file and check it against the file's size.

    The orientation is the sform if its code is set, else the qform, else the voxel sizes alone, as nibabel and FSL have
    it. MONAI's reader replaces the sform where its column lengths differ from the voxel sizes, which moves the image.

    Args:
        file: .nii, .nii.gz, a pair of .img and .hdr, .mgh or .mgz.

    Returns:
        The volume; its affine is in mm whatever the unit of the file.

    Raises:
        ValueError: another format or compression, an invalid header, colours, complex numbers, or fewer bytes than the
            header announces.
    """
    if file.suffix.lower() in OTHER_PACKERS:
        raise ValueError(f"compressed as {file.suffix}: unpack it, or compress it with gzip (.nii.gz)")
    try:
        image: Any = nib.load(file)
    except (nib.filebasedimages.ImageFileError, *DAMAGED) as error:
        raise ValueError(_misnamed(file) or "not a NIfTI file, or a damaged one") from error
    except ValueError as error:
        raise ValueError(
            "its header holds a vox_offset, or a rotation (quatern_b, quatern_c, quatern_d), that is invalid"
        ) from error
    if not isinstance(image, (nib.Nifti1Pair, nib.MGHImage)):
        raise ValueError(f"{type(image).__name__} instead of NIfTI")
    _check_geometry(image)
    stored: Any = image.dataobj
    if isinstance(image, nib.Nifti1Image) and stored.offset < image.header.single_vox_offset:
        raise ValueError(f"its vox_offset is {stored.offset}, so its voxels would begin in the header: correct it")
    if stored.dtype.names:
        raise ValueError("its voxels are colours")
    if stored.dtype.kind == "c":
        raise ValueError("its voxels are complex numbers")
    _check_size(Path(str(image.file_map["image"].filename)), stored)
    scaled = stored.slope != 1 or stored.inter != 0
    finite = stored.dtype.kind in "iub" and not scaled
    return OpenedVolume(
        image.shape,
        mm_affine(image),
        voxels=lambda: _read(file, image),
        needs_reading=_is_compressed(file) or not finite,
        step=abs(float(stored.slope)) if stored.dtype.kind in "iub" and scaled else 0.0,
    )


def mm_affine(image: Any) -> np.ndarray:
    """Return the affine of a nibabel image in mm, whatever its unit of length; an unknown unit counts as mm."""
    affine = np.array(image.affine, float)
    if "xyzt_units" in image.header:
        affine[:3] *= UNITS.get(int(image.header["xyzt_units"]) & LENGTH_BITS, 1.0)
    return affine


def _read(file: Path, image: Any) -> np.ndarray:
    """Return the voxels; a compressed file is read to its end, where the checksum is compared."""
    try:
        if not (_is_compressed(file) and hasattr(image, "from_stream")):
            return np.asanyarray(image.dataobj)
        with gzip.open(file) as stream:
            voxels = np.asanyarray(type(image).from_stream(stream).dataobj)
            while stream.read(CHUNK):
                pass
        return voxels
    except DAMAGED as error:
        raise ValueError("damaged or cut short: copy it again") from error


def _misnamed(file: Path) -> str:
    """Return what to do about a file whose name and content disagree on compression, or nothing."""
    name = file.name.lower()
    with file.open("rb") as stream:
        packed = stream.read(len(GZIP)) == GZIP
    if name.endswith(".nii") and packed:
        return "compressed by gzip in spite of its name: rename it to end in .nii.gz"
    if name.endswith(".nii.gz") and not packed and file.stat().st_size:
        return "not compressed in spite of its name: if it is NIfTI, rename it to end in .nii"
    return ""


def _check_geometry(image: Any) -> None:
    """Check transform codes and voxel sizes as they stand in the file: nibabel corrects invalid ones by itself."""
    if not isinstance(image, nib.Nifti1Pair):
        return
    header, place = type(image.header), image.file_map.get("header") or image.file_map["image"]
    with place.get_prepare_fileobj("rb") as stream:
        stored = header(stream.read(header.template_dtype.itemsize), check=False)
    for word in ("sform_code", "qform_code"):
        if int(stored[word]) not in nib.nifti1.xform_codes.value_set():
            raise ValueError(f"its {word} is {int(stored[word])}, which NIfTI does not define: correct its header")
    if (stored["pixdim"][1:4] < 0).any():
        raise ValueError("its pixdim holds a negative voxel size, which some programs take as mirrored: correct it")


def _check_size(file: Path, stored: Any) -> None:
    needed = stored.offset + math.prod(stored.shape) * stored.dtype.itemsize
    there = file.stat().st_size * (BEST_RATIO if _is_compressed(file) else 1)
    if there < needed:
        raise ValueError(f"the file ends too early: its header announces {needed} bytes; copy it again")


def _is_compressed(file: Path) -> bool:
    return file.suffix.lower() in (".gz", ".mgz")
