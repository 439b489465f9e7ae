"""Films that are no stack of one heartbeat are refused in one line that says what is wrong and what to do."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from shared.preparation.cine_load import load_cine
from tests.bundles.running import input_error
from tests.making import make_cine, oblique, save_cine, save_frames

IMAGE = make_cine()[0]
AFFINE = np.diag([1.5, 1.5, 8.0, 1])


def line_of(image) -> str:
    line = input_error(load_cine, image, "case p1")
    assert line.startswith("case p1: ") and "\n" not in line and ": " in line[9:]
    return line


def save_4d(path, array, **fields) -> str:
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    for word, value in fields.items():
        image.header[word] = value
    nib.save(image, path)
    return str(path)


def channels(count: int) -> np.ndarray:
    """Volumes of one anatomy in contrasts that have nothing to do with each other."""
    random, label = np.random.default_rng(0), make_cine()[1][..., 0]
    return np.stack([random.permutation([100, 300, 500, 700])[label] for _ in range(count)], -1).astype(np.int16)


@pytest.mark.parametrize(
    ("array", "fields", "words"),
    [
        (IMAGE[..., :2], {}, "2 along the fourth axis, as channels are"),
        (IMAGE[..., :4], {}, "a cine has at least 6"),
        (IMAGE, {"xyzt_units": 2 + 40}, "in ppm, not time"),
        (IMAGE, {"intent_code": 1007}, "intent_code 1007"),
        (IMAGE[..., None, :], {}, "fifth axis"),
        (channels(6), {}, "channels"),
        (IMAGE * np.array([1, 1, 1, 1, 1, 1, 1, 3]), {}, "volume 8 has a mean"),
        (np.where(np.arange(8) == 4, 0, IMAGE), {}, "phase 5 is all zero"),
        (IMAGE[:, :, :1], {}, "one slice"),
        (IMAGE[:, :1], {}, "one slice"),
        (np.where(np.arange(8) == 2, np.nan, IMAGE.astype(np.float32)), {}, "NaN"),
    ],
)
def test_a_fourth_axis_that_is_not_the_phases_of_a_stack(tmp_path, array, fields, words):
    array = array.astype(np.int16) if np.isfinite(array).all() else array
    assert words in line_of(save_4d(tmp_path / "film.nii.gz", array, **fields))


@pytest.mark.parametrize("pixels", [(3, 0), (0, -4)])
def test_a_slice_that_jumps_between_phases(tmp_path, pixels):
    image = IMAGE.copy()
    image[:, :, 2, 5:] = np.roll(image[:, :, 2, 5:], pixels, axis=(0, 1))
    line = line_of(save_4d(tmp_path / "film.nii.gz", image))
    assert "slice 3 jumps by" in line and "between phases 5 and 6" in line and "breath-hold" in line


def test_a_heart_that_contracts_strongly_does_not_jump(tmp_path):
    image = make_cine(24)[0][..., ::3]  # three times the speed
    load_cine(save_4d(tmp_path / "film.nii.gz", image), "case p1")


def lose(slice_number, phase_number):
    return lambda piece, index, phase: (index, phase) != (slice_number, phase_number)


def move(axis, step, late=True):
    """Move the later phases of slice 2."""

    def edit(piece, index, phase):
        if index == 1 and phase >= 4:
            piece.ImagePositionPatient[axis] += step

    return edit


def another_breath(piece, index, phase):
    """All slices lie 4 mm higher in the later phases, which form a stack of 8 slices with the others."""
    if phase >= 6:
        piece.ImagePositionPatient[2] += 4


def turn(piece, index, phase):
    if index == 3:
        piece.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def second_series(piece, index, phase):
    if index == 2 and phase >= 4:
        piece.SeriesInstanceUID += ".2"


def second_run(piece, index, phase):
    """Phases 4 to 8 of a slice are another run over the same heartbeat."""
    if index == 2 and phase >= 4:
        piece.TriggerTime = 40.0 * (phase - 4) + 20


def same_times(piece, index, phase):
    piece.TriggerTime = 40.0 * (phase % 4)


def no_order(piece, index, phase):
    del piece.TriggerTime, piece.InstanceNumber


def two_echoes(piece, index, phase):
    piece.EchoTime = 1.2 if phase % 2 else 3.4


def phase_image(piece, index, phase):
    piece.ImageType = ["ORIGINAL", "PRIMARY", "P" if phase % 2 else "M"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lose(2, 4), "slice 3 has 7, the others 8"),
        (move(0, 5.0), "two breath-holds"),
        (move(2, 3.0), "two breath-holds"),
        (turn, "not parallel"),
        (second_series, "slice 3 was acquired twice"),
        (second_run, "slice 3 was acquired twice"),
        (same_times, "slice 1 was acquired twice"),
        (no_order, "nothing orders its phases"),
        (two_echoes, "EchoTime"),
        (phase_image, "magnitude and phase"),
        (lambda piece, index, phase: index == 1, "one slice"),
        (lambda piece, index, phase: index != 1 or phase < 0, "two breath-holds"),
        (lambda piece, index, phase: setattr(piece, "PatientID", str(index)), "PatientID"),
    ],
)
@pytest.mark.parametrize("per_slice", [False, True])
def test_a_folder_that_is_no_cine_of_one_stack(tmp_path, edit, words, per_slice):
    assert words in line_of(save_cine(tmp_path / "dicom", IMAGE, AFFINE, per_slice, edit))


def test_phases_of_two_breath_holds_that_interleave(tmp_path):
    folder = save_cine(tmp_path / "dicom", make_cine(12)[0], AFFINE, edit=another_breath)
    assert "two breath-holds" in line_of(folder)


def test_pixels_that_are_cut_short(tmp_path):
    def cut(piece, index, phase):
        if (index, phase) == (1, 2):
            piece.PixelData = piece.PixelData[:100]

    assert "cut short" in line_of(save_cine(tmp_path / "dicom", IMAGE, AFFINE, edit=cut))


def test_files_of_several_frames(tmp_path):
    for number in range(2):
        save_frames(tmp_path / "made" / f"slice{number}.dcm", IMAGE[..., number], AFFINE)
    (tmp_path / "dicom").mkdir()
    for file in (tmp_path / "made").glob("*.dcm"):
        file.rename(tmp_path / "dicom" / file.name)
    assert "one file per image" in line_of(str(tmp_path / "dicom"))


def save_files(folder, names):
    folder.mkdir()
    for phase, name in enumerate(names):
        nib.save(nib.Nifti1Image(IMAGE[..., phase % 8], AFFINE), folder / name)
    return str(folder)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([f"frame{n}.nii.gz" for n in (1, 2, 3, 5, 6, 7, 8)], "missing after frame3"),
        (["frame1.nii", *(f"frame{n:02d}.nii" for n in range(1, 7))], "two files have the number"),
        ([*(f"f{n}.nii.gz" for n in range(6)), *(f"f{n}_gt.nii.gz" for n in range(6))], "names of several kinds"),
        ([f"p{n}_{n}.nii.gz" for n in range(6)], "do not differ in one number"),
        ([f"frame{n}.nii.gz" for n in range(4)], "4 files"),
    ],
)
def test_files_whose_names_do_not_tell_their_phase(tmp_path, names, words):
    assert words in line_of(save_files(tmp_path / "frames", names))


def test_files_of_different_grids_or_with_a_gap(tmp_path):
    folder = tmp_path / "frames"
    save_files(folder, [f"frame{n}.nii.gz" for n in range(8)])
    files = [str(folder / f"frame{n}.nii.gz") for n in range(8)]
    assert "phase 3 of 8 is missing" in line_of([*files[:2], None, *files[3:]])
    nib.save(nib.Nifti1Image(IMAGE[..., 4], oblique()), files[4])
    assert "phase 5 and phase 1 lie differently in space" in line_of(files)
    nib.save(nib.Nifti1Image(IMAGE[..., :2], AFFINE), files[4])
    assert "phase 5 holds 2 volumes" in line_of(files)
