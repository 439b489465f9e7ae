"""What the check accepts the run can load; a file that is broken, absurd or too large is one line in both."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from shared.io import memory, nifti
from shared.io.sources import load_volume, read_header
from tests.bundles.running import input_error
from tests.making import AFFINE, SHAPE, oblique, save, save_series, volume


def with_header(path: Path, **fields) -> Path:
    """Write a small scan and change fields of its header on disk."""
    save(path.with_name("right.nii"), volume(0))
    content = bytearray(path.with_name("right.nii").read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for field, value in fields.items():
        header[field] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def with_size(path: Path, size: int) -> Path:
    return with_header(path, dim=[3, size, size, size, 1, 1, 1, 1])


def with_row(path: Path, value: float) -> Path:
    return with_header(path, srow_y=[value] * 4)


def packed(path: Path) -> bytearray:
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    return bytearray(Path(save(path, noise)).read_bytes())


def cut(path: Path) -> Path:
    content = packed(path)
    path.write_bytes(content[: len(content) // 2])
    return path


def flipped(path: Path, place: int) -> Path:
    content = packed(path)
    content[place] ^= 0xFF
    path.write_bytes(content)
    return path


def small_on_disk(path: Path) -> Path:
    """A thousand times smaller than its voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((200, 200, 200))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4 + 200**3)))
    return path


def voxels_of(path: Path, dtype: np.dtype) -> Path:
    array = np.zeros(SHAPE, dtype)
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return path


def not_finite(path: Path) -> Path:
    array = np.ones(SHAPE, np.float32)
    array[0, 0, 0] = np.nan
    return Path(save(path, array))


def renamed(folder: Path, name: str, other: str) -> Path:
    return Path(save(folder / name, volume(0))).rename(folder / other)


COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "huge header": (lambda d: with_size(d / "a.nii", 30000), "ends too early"),
    "huge header, packed": (lambda d: with_size(d / "a.nii.gz", 30000), "ends too early"),
    "no voxels": (lambda d: with_header(d / "a.nii", dim=[3, 6, 0, 4, 1, 1, 1, 1]), "has shape 6 x 0 x 4"),
    "cut": (lambda d: cut(d / "a.nii"), "ends too early"),
    "cut, packed": (lambda d: cut(d / "a.nii.gz"), "damaged or cut short"),
    "flipped byte of a voxel": (lambda d: flipped(d / "a.nii.gz", 5000), "damaged or cut short"),
    "flipped byte of the checksum": (lambda d: flipped(d / "a.nii.gz", -6), "damaged or cut short"),
    "zero row": (lambda d: with_row(d / "a.nii", 0), "a size of 0 mm"),
    "parallel": (
        lambda d: with_header(d / "a.nii", srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]),
        "its affine cannot be inverted",
    ),
    "NaN": (lambda d: with_row(d / "a.nii", np.nan), "its affine holds NaN"),
    "infinity": (lambda d: with_row(d / "a.nii", np.inf), "its affine holds NaN or infinite"),
    "1e30": (lambda d: with_row(d / "a.nii", 1e30), "its affine holds values up to 1e+30 mm"),
    "no size": (lambda d: with_header(d / "a.nii", srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4), "a size of 0 mm"),
    "colours": (lambda d: voxels_of(d / "a.nii.gz", COLOURS), "colours"),
    "complex": (lambda d: voxels_of(d / "a.nii.gz", np.complex64), "complex numbers"),
    "undefined sform": (lambda d: with_header(d / "a.nii.gz", sform_code=99), "its sform_code is 99"),
    "undefined qform": (lambda d: with_header(d / "a.nii", qform_code=-3), "its qform_code is -3"),
    "negative size": (
        lambda d: with_header(d / "a.nii.gz", pixdim=[1, -1, 1.5, 2, 0, 0, 0, 0]),
        "a negative voxel size",
    ),
    "offset": (lambda d: with_header(d / "a.nii", vox_offset=np.nan), "its header holds a vox_offset"),
    "rotation": (
        lambda d: with_header(d / "a.nii", sform_code=0, qform_code=1, quatern_b=2),
        "a rotation (quatern_b, quatern_c, quatern_d), that is invalid",
    ),
    "offset of 0": (lambda d: with_header(d / "a.nii", vox_offset=0), "its vox_offset is 0"),
    "bzip2": (lambda d: Path(save(d / "a.nii.bz2", volume(0))), "compressed as .bz2: unpack it, or compress it with"),
    "packed, named as plain": (lambda d: renamed(d, "a.nii.gz", "b.nii"), "rename it to end in .nii.gz"),
    "plain, named as packed": (lambda d: renamed(d, "a.nii", "b.nii.gz"), "rename it to end in .nii)"),
    "NaN voxel": (lambda d: not_finite(d / "a.nii"), "1 NaN or infinite voxels"),
    "folder without DICOM": (lambda d: d, "no DICOM file in this folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_check_and_run_refuse_in_the_same_words(tmp_path, name):
    make, part = BROKEN[name]
    path = make(tmp_path)
    line = input_error(load_volume, path, "case a: flair")
    assert line == input_error(read_header, path, "case a: flair")
    assert line.startswith(f"case a: flair: {path}") and part in line and "\n" not in line


@pytest.mark.parametrize("make", [small_on_disk, lambda path: with_size(path.with_suffix(""), 4)])
def test_memory_is_estimated_before_loading(tmp_path, monkeypatch, make):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    path = make(tmp_path / "a.nii.gz")
    for read in (load_volume, read_header):
        line = input_error(read, path, "case a")
        assert "GB of memory where 1e-06 GB are free" in line


def test_a_thousand_cubed_is_refused_by_its_header_alone(tmp_path, monkeypatch):
    """1000 cubed bytes compress to 1 MB; the voxels are not touched."""
    path = with_header(tmp_path / "a.nii.gz", dim=[3, 1000, 1000, 1000, 1, 1, 1, 1], datatype=2, bitpix=8)
    with path.open("ab") as stream:
        stream.write(bytes(2**20))
    monkeypatch.setattr(nifti, "_read", lambda *_: pytest.fail("voxels were read"))
    monkeypatch.setattr(memory, "free_memory", lambda: 15 * 10**9)
    for read in (load_volume, read_header):
        assert "its 1e+09 values need about 16 GB of memory where 15 GB are free" in input_error(read, path, "case a")
    monkeypatch.setattr(memory, "free_memory", lambda: 17 * 10**9)
    assert read_header(path, "case a", whole=False).shape == (1000, 1000, 1000)


def test_a_container_s_limit_counts(tmp_path, monkeypatch):
    for name, text in (("memory.max", "3000"), ("memory.current", "2500"), ("memory.stat", "anon 1\nfile 400\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_memory() == 900


def pair(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(volume(0), oblique()), folder / "a.img")
    return folder / "a.img"


def freesurfer(folder: Path) -> Path:
    nib.save(nib.MGHImage(volume(0).astype(np.float32), oblique()), folder / "a.mgz")
    return folder / "a.mgz"


def big_endian(folder: Path) -> Path:
    nib.save(nib.Nifti1Image(volume(0), oblique(), nib.Nifti1Header(endianness=">")), folder / "a.nii")
    return folder / "a.nii"


def packed_series(folder: Path) -> Path:
    return Path(save_series(folder / "series", volume(0), oblique()))


@pytest.mark.parametrize("make", [pair, freesurfer, big_endian, packed_series])
def test_check_and_run_agree_on_what_is_read(tmp_path, make):
    path = make(tmp_path)
    header, image = read_header(path, "case a"), load_volume(path, "case a")
    assert header.shape == tuple(image.shape[1:]) and np.array_equal(header.affine, image.affine)
    np.testing.assert_allclose(header.affine, oblique(), atol=1e-5)
    assert np.array_equal(image[0].as_tensor().numpy(), volume(0))


@pytest.mark.parametrize("volumes, added", [(1, (1,)), (1, (1, 1, 1)), (2, (2, 1)), (2, (1, 2)), (2, (1, 2, 1))])
def test_axes_of_one_position_are_dropped(tmp_path, volumes, added):
    array = np.stack([volume(number) for number in range(volumes)], axis=-1)
    path = save(tmp_path / "a.nii.gz", array.reshape(*array.shape[:3], *added))
    assert read_header(path, "case a").channels == volumes
    assert np.array_equal(load_volume(path, "case a").as_tensor().numpy(), np.moveaxis(array, -1, 0))


def test_an_analyze_file_does_not_tell_left_from_right(tmp_path):
    nib.save(nib.AnalyzeImage(volume(0), np.eye(4)), tmp_path / "a.img")
    assert "AnalyzeImage instead of NIfTI" in input_error(read_header, tmp_path / "a.img", "case a")


def test_voxel_sizes_that_contradict_the_sform_leave_it_as_it_is(tmp_path):
    """MONAI's reader puts the qform in its place, even an unknown one."""
    image = nib.Nifti1Image(volume(0), None)
    image.header.set_zooms((4, 4, 6))
    image.header.set_sform(oblique(), 2)
    nib.save(nib.Nifti1Image(volume(0), None, image.header), tmp_path / "a.nii")
    assert np.array_equal(load_volume(tmp_path / "a.nii", "case a").affine, nib.load(tmp_path / "a.nii").affine)
