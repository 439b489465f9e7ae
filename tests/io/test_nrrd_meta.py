"""NRRD and MetaImage: the same voxels at the same place as in NIfTI; damaged files are refused by check and run."""

from __future__ import annotations

import bz2
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.io import memory
from shared.io.masks import save_prediction
from shared.io.sources import load_volume, read_header
from tests.bundles.running import input_error
from tests.making import SHAPE, oblique, volume

LPS = np.diag([-1.0, -1, 1, 1])
NAMES = ("a.nrrd", "a.nhdr", "a.mha", "a.mhd")


def write(path: Path, array: np.ndarray, affine: np.ndarray, packed: bool = False) -> Path:
    """Write `array` (X, Y, Z), whose affine maps voxels to RAS mm, by SimpleITK."""
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, path, packed)
    return path


def random_affine(seed: int, flips: tuple[bool, bool, bool], straight: bool) -> np.ndarray:
    random = np.random.default_rng(seed)
    turn = np.eye(3)[random.permutation(3)] if straight else np.linalg.qr(random.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(random.uniform(0.3, 6, 3) * np.where(flips, -1, 1))
    affine[:3, 3] = random.uniform(-200, 200, 3)
    return affine


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    straight=st.booleans(),
    name=st.sampled_from(NAMES),
    packed=st.booleans(),
    dtype=st.sampled_from([np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64]),
)
def test_voxels_lie_where_they_were_written_and_where_nifti_has_them(
    tmp_path, seed, flips, straight, name, packed, dtype
):
    affine, array = random_affine(seed, flips, straight), (volume(seed) % 200).astype(dtype)
    path = write(tmp_path / name, array, affine, packed)
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), tmp_path / "a.nii")
    image, header = load_volume(path, "case a"), read_header(path, "case a")
    same = load_volume(tmp_path / "a.nii", "case a")
    np.testing.assert_allclose(image.affine, affine, atol=1e-9)
    np.testing.assert_allclose(image.affine, same.affine, atol=1e-4)  # NIfTI stores float32
    assert np.array_equal(image[0].numpy(), array.astype(np.float32)) and np.array_equal(image, same)
    assert header.shape == SHAPE and np.array_equal(header.affine, image.affine)


def change(path: Path, old: str, new: str) -> Path:
    """Replace a line of the text header."""
    head, blank, voxels = path.read_bytes().partition(b"\n\n")
    changed, count = re.subn(old, new, head.decode("utf-8"))
    assert count == 1
    path.write_bytes(changed.encode("utf-8") + blank + voxels)
    return path


@pytest.mark.parametrize(
    "space, axes",
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("scanner-xyz", (-1, -1, 1)),
        ("3D-right-handed", (-1, -1, 1)),
    ],
)
def test_each_space_of_nrrd_becomes_ras(tmp_path, space, axes):
    path = write(tmp_path / "a.nrrd", volume(0), oblique())
    numbers = LPS @ oblique()  # as they stand in the file
    change(path, "space: .*", f"space: {space}")
    np.testing.assert_allclose(read_header(path, "case a").affine, np.diag([*axes, 1]) @ numbers, atol=1e-9)


def test_a_unit_other_than_mm_is_converted(tmp_path):
    path = change(write(tmp_path / "a.nrrd", volume(0), oblique()), "sizes: ", 'space units: "cm" "cm" "cm"\nsizes: ')
    expected = oblique()
    expected[:3] *= 10
    np.testing.assert_allclose(read_header(path, "case a").affine, expected, atol=1e-8)


def test_voxels_of_four_axes_are_several_volumes(tmp_path):
    array = np.stack([volume(0), volume(1)])
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(np.ascontiguousarray(part.T)) for part in array])
    SimpleITK.WriteImage(image, tmp_path / "a.mha")
    assert np.array_equal(load_volume(tmp_path / "a.mha", "case a"), array)


def test_bzip2_is_read_and_checked(tmp_path):
    """Slicer does not write it, other programs do."""
    path = write(tmp_path / "a.nrrd", volume(0), oblique())
    head, blank, voxels = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head.replace(b"encoding: raw", b"encoding: bzip2") + blank + bz2.compress(voxels)[:-3])
    assert "damaged or cut short" in input_error(load_volume, path, "case a")


def test_a_mask_of_an_nrrd_lies_on_the_scan_s_own_grid(tmp_path):
    scan = load_volume(write(tmp_path / "a.nrrd", volume(0), oblique()), "case a")
    path = save_prediction((scan > 500).to(int), tmp_path / "out", "a")
    written = nib.load(path)
    assert path.name == "a_seg.nii.gz" and written.shape == SHAPE
    np.testing.assert_allclose(written.affine, oblique(), atol=1e-5)
    assert np.array_equal(np.asanyarray(written.dataobj), volume(0) > 500)


def spoilt(path: Path, packed: bool, spoil: Callable[[bytes], bytes]) -> Path:
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    write(path, noise, oblique(), packed)
    path.write_bytes(spoil(path.read_bytes()))
    return path


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(place: float) -> Callable[[bytes], bytes]:
    def spoil(content: bytes) -> bytes:
        index = int(place * len(content)) if place > 0 else int(place)
        return content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :]

    return spoil


def without_voxels(folder: Path, name: str, lost: str) -> Path:
    write(folder / name, volume(0), oblique())
    (folder / lost).unlink()
    return folder / name


def short_raw(folder: Path, name: str) -> Path:
    write(folder / name, volume(0), oblique())
    raw = folder / "a.raw"
    raw.write_bytes(raw.read_bytes()[:-2])
    return folder / name


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def colours(path: Path) -> Path:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, path)
    return path


def complex_numbers(path: Path) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.complex64)), path)
    return path


def flat(path: Path) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((5, 6), np.uint8)), path)
    return path


def not_finite(path: Path) -> Path:
    array = np.ones(SHAPE, np.float32)
    array[0, 0, 0] = np.nan
    return write(path, array, oblique())


def nrrd(path: Path, old: str, new: str) -> Path:
    return change(write(path, volume(0), oblique()), old, new)


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut nrrd": (lambda d: spoilt(d / "a.nrrd", False, half), "ends too early"),
    "cut mha": (lambda d: spoilt(d / "a.mha", False, half), "ends too early"),
    "cut nrrd, packed": (lambda d: spoilt(d / "a.nrrd", True, half), "damaged or cut short"),
    "cut mha, packed": (lambda d: spoilt(d / "a.mha", True, half), "damaged or cut short"),
    "flipped byte of a packed nrrd": (lambda d: spoilt(d / "a.nrrd", True, flipped(0.75)), "damaged or cut short"),
    "flipped byte of a packed mha": (lambda d: spoilt(d / "a.mha", True, flipped(0.75)), "damaged or cut short"),
    "flipped checksum, nrrd": (lambda d: spoilt(d / "a.nrrd", True, flipped(-6)), "damaged or cut short"),
    "flipped checksum, mha": (lambda d: spoilt(d / "a.mha", True, flipped(-2)), "damaged or cut short"),
    "short raw of nhdr": (lambda d: short_raw(d, "a.nhdr"), "a.raw ends too early"),
    "short raw of mhd": (lambda d: short_raw(d, "a.mhd"), "a.raw ends too early"),
    "lost raw of nhdr": (lambda d: without_voxels(d, "a.nhdr", "a.raw"), "a.raw, is not beside it"),
    "lost raw of mhd": (lambda d: without_voxels(d, "a.mhd", "a.raw"), "a.raw, is not beside it"),
    "text": (lambda d: written(d / "a.nrrd", b"hello"), "not a NRRD or MetaImage file"),
    "empty": (lambda d: written(d / "a.mha", b""), "not a NRRD or MetaImage file"),
    "header alone": (lambda d: spoilt(d / "a.mha", False, lambda c: c[: c.index(b"LOCAL") + 6]), "ends too early"),
    "colours": (lambda d: colours(d / "a.mha"), "its voxels hold 3 values each"),
    "colours, nrrd": (lambda d: colours(d / "a.nrrd"), "its voxels hold 3 values each"),
    "complex": (lambda d: complex_numbers(d / "a.nrrd"), "complex numbers"),
    "two axes": (lambda d: flat(d / "a.nrrd"), "has shape 6 x 5: volumes are"),
    "NaN voxel": (lambda d: not_finite(d / "a.mha"), "1 NaN or infinite voxels"),
    "left-handed": (lambda d: nrrd(d / "a.nrrd", "space: .*", "space: 3D-left-handed"), "save it in LPS or RAS"),
    "unknown space": (lambda d: nrrd(d / "a.nrrd", "space: .*", "space: head"), "not a NRRD or MetaImage file"),
    "unit": (lambda d: nrrd(d / "a.nrrd", "sizes: ", 'space units: "in" "in" "in"\nsizes: '), "save it in mm"),
    "huge": (lambda d: nrrd(d / "a.nrrd", "sizes: .*", "sizes: 30000 30000 30000"), "ends too early"),
    "flat affine": (
        lambda d: nrrd(d / "a.nrrd", "space directions: .*", "space directions: (1,0,0) (1,0,0) (0,0,1)"),
        "its affine cannot be inverted",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_check_and_run_refuse_in_the_same_words(tmp_path, name):
    make, part = BROKEN[name]
    path = make(tmp_path)
    line = input_error(load_volume, path, "case a: flair")
    assert line == input_error(read_header, path, "case a: flair")
    assert line.startswith(f"case a: flair: {path}") and part in line and "\n" not in line


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_estimated_before_loading(tmp_path, monkeypatch, name):
    path = write(tmp_path / name, volume(0), oblique(), packed=True)
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    monkeypatch.setattr(SimpleITK.ImageFileReader, "Execute", lambda self: pytest.fail("voxels were read"))
    assert "GB of memory where 1e-06 GB are free" in input_error(load_volume, path, "case a")
