"""Pictures come as they look on the screen, label pictures with the values of the file, bad files as one line."""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from emclip.phantoms.dataset import LABELS, make_fundus_case
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch
from monai.transforms import Compose, Invertd, Resized
from PIL import ExifTags, Image

from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist
from shared.io import picture_files
from shared.io.picture_files import load_picture, load_picture_label, picture_size
from shared.io.pictures import LoadPictured, LoadPictureLabeld

REAL = os.environ.get("BUNDLES_REAL_DATA")
SIZE = (10, 14)  # rows, columns


def colours(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> str:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return str(path)


def shown(picture: torch.Tensor, white: int = 255) -> np.ndarray:
    """Rows, columns, channels, as in a file."""
    return (picture.numpy() * white).round().transpose(1, 2, 0)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_rows_run_down_and_columns_to_the_right(tmp_path, suffix):
    array = colours()
    path = save(tmp_path / f"a.{suffix}", array)
    item = LoadPictured("image")({"image": path, "case_id": "a", "domain": "x"})
    picture = item["image"]
    assert isinstance(picture, MetaTensor) and picture.dtype == torch.float32 and picture.shape == (3, *SIZE)
    assert picture.is_contiguous() and picture.min() >= 0 and picture.max() <= 1 and item["domain"] == "x"
    assert np.array_equal(shown(picture), array)
    assert torch.equal(picture.affine, torch.eye(4, dtype=torch.float64))
    assert picture.meta["filename_or_obj"] == path and tuple(picture.meta["spatial_shape"]) == SIZE


STORED = {  # how a picture lies in a file of each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path, suffix, orientation):
    array = np.kron(colours(size=(5, 7)), np.ones((16, 16, 1), np.uint8))  # whole blocks survive JPG nearly unchanged
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    path = save(tmp_path / f"a.{suffix}", np.ascontiguousarray(STORED[orientation](array)), exif=exif, **options)
    assert np.abs(shown(load_picture(path, "case a")) - array).max() <= (4 if suffix == "jpg" else 0)
    assert picture_size(path, "case a") == array.shape[:2]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(tmp_path, suffix):
    grey = np.random.default_rng(0).integers(0, 65536, SIZE).astype(np.uint16)
    picture = load_picture(save(tmp_path / f"a.{suffix}", grey), "case a")
    assert np.array_equal(shown(picture, 65535), np.repeat(grey[..., None], 3, axis=2))
    assert picture.max() <= 1


def deep_png(path: Path, array: np.ndarray) -> Path:
    """Write a PNG of 16 bits per channel, which Pillow can read but not write."""
    rows, columns, _ = array.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", columns, rows, 16, 2, 0, 0, 0), b"IDAT" + zlib.compress(lines), b"IEND")
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


def test_other_byte_order_and_colour_of_sixteen_bits(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3)).astype(np.uint16)
    Image.frombytes("I;16B", SIZE[::-1], deep[..., 0].astype(">u2").tobytes()).save(tmp_path / "grey.tif")
    assert np.array_equal(shown(load_picture(tmp_path / "grey.tif", "x"), 65535)[..., 0], deep[..., 0])
    colour = load_picture(deep_png(tmp_path / "colour.png", deep), "x")
    assert np.abs(shown(colour, 65535) - deep).max() < 2 * 256, "Pillow keeps eight bits of sixteen"


def test_alpha_is_dropped_and_a_palette_is_colour(tmp_path):
    array = colours()
    alpha = np.dstack([array, np.zeros(SIZE, np.uint8)])
    assert np.array_equal(shown(load_picture(save(tmp_path / "a.png", alpha), "x")), array)
    few = array // 128 * 255
    assert np.array_equal(shown(load_picture(save(tmp_path / "p.png", few, "P"), "x")), few)


def test_grey_is_repeated_and_that_is_said_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(picture_files, "FIRST_GREY", threading.Lock())
    grey = colours()[..., 0]
    items = [{"image": save(tmp_path / f"{n}.png", grey, mode), "case_id": n} for n, mode in enumerate(("L", "LA"))]
    with caplog.at_level(logging.WARNING):
        load_picture(save(tmp_path / "c.png", colours()), "case c")
        assert caplog.messages == []
        loaded = [LoadPictured("image")(item)["image"] for item in items]
    for picture in loaded:
        assert np.array_equal(shown(picture), np.repeat(grey[..., None], 3, axis=2))
    line = "case 0: a grey picture where colour is expected: repeated to three channels (logged once)"
    assert caplog.messages == [line]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_one_channel_where_grey_is_wanted(tmp_path, caplog, mode):
    """A picture in colour gives its luma; no warning is logged."""
    grey = colours()[..., 0]
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        picture = LoadPictured("image", grey=True)({"image": str(tmp_path / "a.png")})["image"]
    assert np.array_equal(shown(picture)[..., 0], grey) and len(picture) == 1 and caplog.messages == []
    luma = load_picture(save(tmp_path / "c.png", colours()), "x", grey=True)
    assert np.array_equal(shown(luma)[..., 0], np.asarray(Image.fromarray(colours()).convert("L")))


def pages(path: Path) -> str:
    Image.fromarray(colours()).save(path, save_all=True, append_images=[Image.fromarray(colours(1))])
    return str(path)


def cut(path: Path) -> str:
    save(path, colours(size=(64, 64)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)


def text(path: Path) -> str:
    path.write_text("no picture", encoding="utf-8")
    return str(path)


def huge(path: Path) -> str:
    """Small on disk, 169 million pixels."""
    path.write_bytes(Path(save(path, np.zeros((1, 1), np.uint8))).read_bytes())
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 13000, 13000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return str(path)


BAD = {
    "absent": (lambda d: str(d / "a.png"), "a.png not found: correct the path"),
    "text": (lambda d: text(d / "a.png"), "a.png cannot be read (no picture in it): give a PNG"),
    "empty": (lambda d: str((d / "a.png").write_bytes(b"") or d / "a.png"), "cannot be read"),
    "folder": (lambda d: str(d), "cannot be read (a folder without a DICOM image): give a PNG"),
    "other format": (lambda d: save(d / "a.webp", colours()), "a.webp cannot be read (.webp is not supported)"),
    "GIF": (lambda d: save(d / "a.gif", colours()[..., 0]), "a.gif cannot be read (.gif is not supported): give a PNG"),
    "cut PNG": (lambda d: cut(d / "a.png"), "a.png cannot be read"),
    "cut JPG": (lambda d: cut(d / "a.jpg"), "a.jpg cannot be read"),
    "cut TIFF": (lambda d: cut(d / "a.tif"), "a.tif cannot be read"),
    "huge": (lambda d: huge(d / "a.png"), "13000 x 13000 pixels where at most 89 million are read"),
    "pages": (lambda d: pages(d / "a.tif"), "a.tif holds 2 pictures: save one picture per file"),
    "moving PNG": (lambda d: pages(d / "a.png"), "a.png holds 2 pictures"),
    "floats": (lambda d: save(d / "a.tif", np.ones(SIZE, np.float32)), "floating-point numbers"),
    "32 bits": (lambda d: save(d / "a.tif", np.full(SIZE, 70000, np.int32)), "70000"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_one_line(tmp_path, name):
    make, part = BAD[name]
    path = make(tmp_path)
    for load in (
        lambda: LoadPictured("image")({"image": path, "case_id": "p1"}),
        lambda: LoadPictureLabeld("label", [0, 1])({"label": path, "case_id": "p1"}),
    ):
        with pytest.raises(InputError) as caught:
            load()
        assert str(caught.value).startswith("case p1: ") and "\n" not in str(caught.value)
        assert part in str(caught.value)


def test_a_camera_preview_behind_the_photograph_is_left_alone(tmp_path):
    first, second = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (200, 10))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.abs(shown(load_picture(tmp_path / "a.jpg", "x")) - 200).max() <= 1


LABEL_FILES = {
    "L": lambda path, label: save(path, label),
    "16 bits": lambda path, label: save(path, label.astype(np.uint16)),
    "equal channels": lambda path, label: save(path, np.dstack([label] * 3)),
    "with alpha": lambda path, label: save(path, np.dstack([label, label, label, label // 2])),
    "grey with alpha": lambda path, label: save(path, label, "LA"),
}


@pytest.mark.parametrize("kind", LABEL_FILES)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_labels_have_the_values_of_the_file(tmp_path, kind, suffix):
    label = np.random.default_rng(0).choice([0, 100, 200], SIZE).astype(np.uint8)
    path = LABEL_FILES[kind](tmp_path / f"l.{suffix}", label)
    loaded = LoadPictureLabeld("label", [0, 100, 200])({"label": path})["label"]
    assert isinstance(loaded, MetaTensor) and loaded.dtype == torch.uint8 and loaded.shape == (1, *SIZE)
    assert np.array_equal(loaded.numpy()[0], label) and loaded.meta["filename_or_obj"] == path
    assert torch.equal(loaded.affine, torch.eye(4, dtype=torch.float64))


def test_a_palette_counts_as_its_indices_and_one_bit_as_0_and_1(tmp_path):
    label = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8)
    image = Image.fromarray(label)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "p.png")
    assert np.array_equal(load_picture_label(tmp_path / "p.png", [0, 1, 2], "x").numpy()[0], label)
    path = save(tmp_path / "b.png", label > 1)
    assert np.array_equal(load_picture_label(path, [0, 1], "x").numpy()[0], label > 1)


def test_values_above_255(tmp_path):
    label = np.random.default_rng(0).choice([0, 1000], SIZE).astype(np.uint16)
    loaded = load_picture_label(save(tmp_path / "l.png", label), [0, 1000], "x")
    assert loaded.dtype == torch.int32 and np.array_equal(loaded.numpy()[0], label)


def test_undeclared_values_and_colours(tmp_path):
    load = LoadPictureLabeld("label", [0, 100])
    label = np.random.default_rng(0).choice([0, 100, 200, 7], SIZE).astype(np.uint8)
    with pytest.raises(InputError, match=r"^case p1: label: .*l.png: holds the values 7, 200 where 0, 100 are decl"):
        load({"label": save(tmp_path / "l.png", label), "case_id": "p1"})
    with pytest.raises(InputError, match=r"^case p1: label: .*c.png is in colour: save one value per pixel"):
        load({"label": save(tmp_path / "c.png", colours()), "case_id": "p1"})


@pytest.mark.parametrize("image", ["path", "loaded", "resized", "none"])
def test_a_label_has_the_size_of_the_file_of_its_picture(tmp_path, image):
    right = save(tmp_path / "r.png", np.zeros(SIZE, np.uint8))
    wrong = save(tmp_path / "w.png", np.zeros(SIZE[::-1], np.uint8))
    item = {"image": save(tmp_path / "i.png", colours()), "case_id": "p1"}
    if image != "path":
        item = LoadPictured("image")(item)
    if image == "resized":
        item = Resized("image", (8, 8))(item)
    if image == "none":
        del item["image"]
    load = LoadPictureLabeld("label", [0])
    assert load({**item, "label": right})["label"].shape == (1, *SIZE)
    if image == "none":
        assert load({**item, "label": wrong})["label"].shape == (1, 14, 10)
        return
    with pytest.raises(InputError, match=r"^case p1: label: .*w.png: is 10 x 14 pixels where the picture is 14 x 10: "):
        load({**item, "label": wrong})


def test_missing_keys():
    for transform in (LoadPictured, lambda keys, **more: LoadPictureLabeld(keys, [0], **more)):
        with pytest.raises(KeyError):
            transform("other")({"image": 1})
        assert transform("other", allow_missing_keys=True)({"image": 1}) == {"image": 1}


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(20, 70), columns=st.integers(20, 70))
def test_resized_and_inverted_gives_the_picture_back(tmp_path_factory, rows, columns):
    """The network sees a square; its output comes back in the size of the file, pixel on pixel."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[:rows, :columns]
    smooth = np.stack([255 * x / columns, 255 * y / rows, 255 * (x / columns) * (y / rows)], -1).astype(np.uint8)
    items = [{"image": save(folder / f"{n}.png", smooth), "case_id": str(n)} for n in range(2)]
    before = Compose([LoadPictured("image"), Resized("image", (48, 48), mode="bilinear")])
    (batch,) = DataLoader(CacheDataset(items, before, progress=False), batch_size=2)
    assert batch["image"].shape == (2, 3, 48, 48)
    batch["pred"] = batch["image"].clone()
    back = [Invertd("pred", before, orig_keys="image", nearest_interp=False)(one) for one in decollate_batch(batch)]
    for one in back:
        assert one["pred"].shape == (3, rows, columns)
        assert np.abs(shown(one["pred"]) - smooth).max() < 24  # the border is blurred by a pixel's step
        assert np.abs(shown(one["pred"]) - smooth)[3:-3, 3:-3].max() < 6


def test_a_fundus_phantom_keeps_its_classes(tmp_path):
    case = make_fundus_case(0, size=64)
    values = list(LABELS.values())
    item = {"image": save(tmp_path / "i.png", case.image), "label": save(tmp_path / "l.png", case.label)}
    loaded = LoadPictureLabeld("label", values)(LoadPictured("image")(item))
    assert np.array_equal(loaded["label"].numpy()[0], case.label)
    assert sorted(loaded["label"].unique().tolist()) == values


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
@pytest.mark.parametrize("split", ["training", "testing"])
def test_real_photographs(split):
    load = Compose([LoadPictured("image"), LoadPictureLabeld("label", [0, 100, 200])])
    for item in expand_datalist(Path(REAL) / "fundus" / "dataset.json", split)[:5]:
        loaded = load(item)
        assert loaded["image"].shape[1:] == loaded["label"].shape[1:]
        disc = loaded["label"][0] > 0
        assert loaded["image"][0][disc].mean() > loaded["image"][0][~disc].mean(), "a disc is brighter than the rest"
