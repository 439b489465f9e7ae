"""Single DICOM images as pictures: synthetic ones, and those that pydicom ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from shared.io.picture_files import load_picture, load_picture_label, picture_size
from tests.bundles.running import input_error
from tests.making import radiograph, save_series

FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def stored(file: Path) -> np.ndarray:
    return pydicom.dcmread(file).pixel_array.astype(float)


def shown(picture: torch.Tensor) -> np.ndarray:
    """Rows, columns, channels, 0 to 255."""
    return (picture.numpy() * 255).round().transpose(1, 2, 0)


def test_stretched_where_no_window_is_named(tmp_path):
    file = radiograph(tmp_path)
    values = stored(file)
    expected = (values - values.min()) / np.ptp(values)
    np.testing.assert_allclose(load_picture(file, "case a", grey=True)[0], expected, atol=1e-4)


def test_window(tmp_path):
    file = radiograph(tmp_path, WindowCenter=200, WindowWidth=101)
    values = stored(file)
    picture = load_picture(file, "case a", grey=True)[0].numpy()
    assert (picture[values < 149] == 0).all() and (picture[values > 251] == 1).all()
    inside = (values > 155) & (values < 245)
    np.testing.assert_allclose(picture[inside], (values[inside] - 149.5) / 100, atol=0.01)


def test_monochrome1_is_inverted(tmp_path):
    dark = load_picture(radiograph(tmp_path / "a"), "case a", grey=True)
    bright = load_picture(radiograph(tmp_path / "b", PhotometricInterpretation="MONOCHROME1"), "case b", grey=True)
    torch.testing.assert_close(bright.as_tensor(), 1 - dark.as_tensor(), atol=1e-4, rtol=0)


def test_a_folder_that_holds_one_image(tmp_path):
    file = radiograph(tmp_path)
    assert torch.equal(load_picture(tmp_path, "case a", grey=True), load_picture(file, "case a", grey=True))
    assert picture_size(tmp_path, "case a") == stored(file).shape


def test_a_folder_that_holds_several(tmp_path):
    save_series(tmp_path, np.ones((5, 6, 3)), np.eye(4))
    assert "the folder holds 3 DICOM files; give the path of one" in input_error(load_picture, tmp_path, "case a")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dicomdirtests/77654033/CR1/6154", (16, 16)),
        ("examples_rgb_color.dcm", (240, 320)),
        ("examples_palette.dcm", (350, 800)),
        ("SC_rgb_rle_32bit.dcm", (100, 100)),
    ],
)
def test_real_files(name, shape):
    picture = load_picture(FILES / name, "case a")
    assert picture.shape == (3, *shape) and 0 <= picture.min() < picture.max() <= 1


def test_colours_are_those_of_the_file():
    file = FILES / "examples_rgb_color.dcm"
    expected = pydicom.dcmread(file).pixel_array.transpose(2, 0, 1) / 255
    np.testing.assert_allclose(load_picture(file, "case a"), expected, atol=1 / 255)


def test_several_frames():
    line = input_error(load_picture, FILES / "examples_ybr_color.dcm", "case a")
    assert "30 frames; save one image per file" in line and "\n" not in line


def test_a_label_may_be_compared_with_it(tmp_path):
    Image.fromarray(np.ones(stored(radiograph(tmp_path)).shape, np.uint8)).save(tmp_path / "label.png")
    assert load_picture_label(tmp_path / "label.png", [0, 1], "case a").shape[1:] == picture_size(tmp_path, "case a")


UNUSABLE = {
    "empty": {"WindowCenter": None, "WindowWidth": None},
    "width 0": {"WindowCenter": 200, "WindowWidth": 0},
    "negative width": {"WindowCenter": 200, "WindowWidth": -50},
    "centre alone": {"WindowCenter": 200},
    "width alone": {"WindowWidth": 100},
    "empty table": {"VOILUTSequence": []},
    "empty rescale": {"RescaleSlope": None, "RescaleIntercept": None},
    "slope alone": {"RescaleSlope": 2},
    "empty number of frames": {"NumberOfFrames": None},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_without_a_usable_window_a_picture_is_stretched(tmp_path, name):
    file = radiograph(tmp_path, **UNUSABLE[name])
    values = stored(file)
    expected = (values - values.min()) / np.ptp(values)
    np.testing.assert_allclose(load_picture(file, "case a", grey=True)[0], expected, atol=1e-4)


@pytest.mark.parametrize("word", ["Rows", "PhotometricInterpretation", "SamplesPerPixel"])
def test_a_missing_attribute_is_named(tmp_path, word):
    file = radiograph(tmp_path)
    image = pydicom.dcmread(file)
    delattr(image, word)
    image.save_as(file)
    line = input_error(load_picture, file, "case a")
    assert f"(no {word} in its DICOM header: export the image again)" in line and "\n" not in line


def test_the_first_usable_window_counts(tmp_path):
    several = radiograph(tmp_path / "a", WindowCenter=[200, 150], WindowWidth=[0, 101])
    piece, single = pydicom.dcmread(several), tmp_path / "single.dcm"
    piece.WindowCenter, piece.WindowWidth = 150, 101
    piece.save_as(single)
    assert torch.equal(load_picture(several, "case a").as_tensor(), load_picture(single, "case a").as_tensor())


@pytest.mark.parametrize("width", ["0.5", "1"])
def test_a_narrow_window_is_not_the_negative(tmp_path, width):
    file = radiograph(tmp_path, WindowCenter=205, WindowWidth=width)
    picture = load_picture(file, "case a", grey=True)[0].numpy()
    assert (picture[stored(file) > 210] == 1).all() and (picture[stored(file) < 200] == 0).all()


def test_jpeg_lossless_is_decoded():
    file = FILES / "SC_rgb_jpeg_gdcm.dcm"
    picture = load_picture(file, "case a")
    assert np.array_equal(shown(picture), pydicom.dcmread(FILES / "SC_rgb_rle.dcm").pixel_array)


def test_a_compression_that_cannot_be_decoded_names_the_remedy(monkeypatch):
    class Missing:
        is_available = False

    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda _: Missing)
    line = input_error(load_picture, FILES / "SC_rgb_jpeg_gdcm.dcm", "case a")
    assert "which cannot be decoded here: install python-gdcm" in line and line.endswith("gdcmconv --raw")
