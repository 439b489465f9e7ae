from __future__ import annotations

import matplotlib
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from shared.core.errors import OutputError
from shared.results import slices
from shared.results.overlays import save_overlay

SHAPE = (40, 48, 24)
RAS = np.diag([1.0, 1, 3, 1])
GREEN, ORANGE = np.array([55, 224, 90]), np.array([255, 90, 31])


def head(affine: np.ndarray = RAS) -> MetaTensor:
    """A grey ellipsoid with a bright block on the patient's right front (large x and y of a RAS grid)."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    array = 100.0 * (x**2 + y**2 + z**2 < 0.9)
    array[26:30, 30:34, 8:16] = 400
    return MetaTensor(torch.from_numpy(array.astype(np.float32))[None], torch.from_numpy(affine))


def block(x: slice, y: slice, z: slice) -> np.ndarray:
    mask = np.zeros((1, *SHAPE), np.uint8)
    mask[0, x, y, z] = 1
    return mask


RIGHT_FRONT = (slice(26, 30), slice(30, 34), slice(8, 16))


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: np.ndarray, tolerance: int = 60) -> np.ndarray:
    """Return the mask of pixels of a colour, without the legend at the bottom."""
    mask = np.abs(picture - colour).sum(-1) < tolerance
    mask[-60:] = False
    return mask


def test_contours_truth_green_prediction_orange(tmp_path):
    path = save_overlay(tmp_path / "new" / "a.png", head(), block(slice(10, 14), *RIGHT_FRONT[1:]), block(*RIGHT_FRONT))
    picture = pixels(path)
    green, orange = near(picture, GREEN), near(picture, ORANGE)
    assert green.sum() > 100 and orange.sum() > 100
    assert not green[: len(picture) // 2].any(), "the upper row is plain"
    assert "matplotlib.pyplot" not in matplotlib.__dict__ or not matplotlib.pyplot.get_fignums()


def test_without_label_nothing_is_green(tmp_path):
    picture = pixels(save_overlay(tmp_path / "a.png", head(), block(*RIGHT_FRONT)))
    assert near(picture, ORANGE).any() and not near(picture, GREEN).any()


@pytest.mark.parametrize(
    "affine, axes, flips",
    [
        (np.diag([1.0, 1, 3, 1]), (0, 1, 2), ()),
        (np.diag([-1.0, 1, 3, 1]), (0, 1, 2), (0,)),
        (np.diag([-1.0, -1, -3, 1]), (0, 1, 2), (0, 1, 2)),
        (np.eye(4)[:, [1, 2, 0, 3]] * np.array([1.0, 3, 1, 1]), (1, 2, 0), ()),
    ],
    ids=["RAS", "LAS", "LPI", "sagittal"],
)
def test_any_storage_order_gives_the_radiological_picture(tmp_path, affine, axes, flips):
    reference = pixels(save_overlay(tmp_path / "a.png", head(), block(*RIGHT_FRONT)))
    orange = np.argwhere(near(reference, ORANGE))
    top_row = reference.shape[0] // 2
    first = orange[orange[:, 1] < reference.shape[1] // 3] - [top_row, 0]
    assert first[:, 1].mean() < reference.shape[1] / 6, "the patient's right is on the left of the picture"
    assert first[:, 0].mean() < reference.shape[0] / 4, "anterior is on top"

    def stored(array: torch.Tensor) -> torch.Tensor:
        return array.permute(0, *(axis + 1 for axis in axes)).flip([axis + 1 for axis in flips])

    image = MetaTensor(stored(head().as_tensor()), torch.from_numpy(affine))
    mask = stored(torch.from_numpy(block(*RIGHT_FRONT)))
    other = pixels(save_overlay(tmp_path / "b.png", image, mask))
    assert other.shape == reference.shape
    assert np.abs(other - reference).mean() < 0.5


def test_slices_with_most_lesion_are_shown(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, text, **kwargs: shown.append(text))
    label = block(slice(10, 12), slice(10, 12), slice(20, 21)) | block(slice(10, 20), slice(10, 20), slice(3, 4))
    label |= block(slice(10, 13), slice(10, 13), slice(11, 12))
    save_overlay(tmp_path / "a.png", head(), label * 0, label)
    assert shown == ["slice 4 of 24", "slice 12 of 24", "slice 21 of 24"]
    shown.clear()
    save_overlay(tmp_path / "a.png", head(), label * 0)
    assert "slice 12 of 24" in shown or "slice 13 of 24" in shown


def test_title_has_dice(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda self, text, **kwargs: titles.append(text))
    label = block(*RIGHT_FRONT)
    save_overlay(tmp_path / "a.png", head(), label, label, title="p01")
    save_overlay(tmp_path / "a.png", head(), label, title="p01")
    regions = np.concatenate([label, label * 0])
    save_overlay(tmp_path / "a.png", head(), regions, regions * 0, title="p01", names=["WT", "TC"], channel_wise=True)
    assert titles == ["p01   Dice 1.00", "p01", "p01   Dice WT 0.00, TC 1.00"]


def test_a_region_that_was_not_annotated_has_no_dice(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda self, text, **kwargs: titles.append(text))
    disc = np.zeros((1, 40, 60), np.float32)
    disc[:, 10:30, 20:40] = 1
    image, masks = np.random.default_rng(0).random((3, 40, 60)), np.concatenate([disc, disc])
    for label in (np.concatenate([disc, disc * 0 - 1]), np.concatenate([disc * 0, disc, disc * 0 - 1])):
        names = ["disc", "cup"]
        save_overlay(tmp_path / "a.png", image, masks, label, None, "p01", names, channel_wise=True)
    assert titles == ["p01   Dice disc 1.00, cup -"] * 2


@pytest.mark.parametrize("channels, channel", [(1, 0), (3, None)])
def test_picture(tmp_path, channels, channel):
    image = np.random.default_rng(0).integers(0, 255, (channels, 64, 48)).astype(np.float32)
    label = np.zeros((1, 64, 48), np.uint8)
    label[0, 10:30, 10:30] = 1
    label[0, 15:20, 15:20] = 2
    path = save_overlay(tmp_path / "a.png", image, label, label, channel=channel, names=["disc", "cup"])
    assert near(pixels(path), GREEN).any()


@pytest.mark.parametrize("channels, channel", [(1, 0), (3, None)])
def test_a_picture_stands_as_on_the_screen(tmp_path, channels, channel):
    """A bright patch at the top, right of the middle of a wide picture, and the contour round it."""
    image = np.random.default_rng(0).uniform(0.3, 0.5, (channels, 60, 120)).astype(np.float32)
    pred = np.zeros((1, 60, 120), np.uint8)
    image[:, 6:18, 66:78] = 1
    pred[:, 6:18, 66:78] = 1
    found = pixels(save_overlay(tmp_path / "a.png", image, pred, channel=channel))
    middle = found.shape[1] // 2
    rows, columns = np.nonzero(found[:-60, :middle].min(-1) > 240)
    contour_rows, contour_columns = np.nonzero(near(found, ORANGE)[:, middle:])
    assert abs(rows.mean() - contour_rows.mean()) < 3 and abs(columns.mean() - contour_columns.mean()) < 5
    inside = np.flatnonzero((found[:, :middle].sum(-1) > 20).mean(1) > 0.5)  # rows of the picture
    height = (rows.mean() - inside[0]) / (inside[-1] - inside[0])
    assert (columns.mean() / middle, height) == pytest.approx((72 / 120, 12 / 60), abs=0.04)


def test_a_long_caption_stands_in_lines_above_the_picture(tmp_path):
    image, heights = np.full((1, 30, 30), 0.5, np.float32), []
    for caption in ("", "the lower left lung", "the lower left lung and " * 10):
        found = pixels(save_overlay(tmp_path / "a.png", image, np.zeros((1, 30, 30)), caption=caption))
        heights.append(len(found))
        above = found[: 70 + heights[-1] - heights[0]]
        assert (above.min(-1) > 150).any() == bool(caption)
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 5, 1), (5, 5, 2)])
def test_few_slices_and_flat_images(tmp_path, shape):
    flat = np.zeros((1, *shape), np.float32)
    assert save_overlay(tmp_path / "a.png", flat, flat, flat).is_file()


def test_shapes_must_agree(tmp_path):
    with pytest.raises(ValueError, match="shape"):
        save_overlay(tmp_path / "a.png", head(), np.zeros((1, 5, 5, 5), np.uint8))


@pytest.mark.parametrize(
    ("axes", "spacing", "view"),
    [
        ("RAS", (1, 1, 4), ("LPS", "RL")),
        ("RAS", (1, 1, 1.2), ("LPS", "RL")),
        ("RAS", (4, 1, 1), ("PIL", "AP")),
        ("PIR", (1.4, 1.4, 6), ("PIL", "AP")),
        ("LSP", (1, 1, 5), ("LIA", "RL")),
    ],
)
def test_thick_slices_are_shown_as_they_are(tmp_path, axes, spacing, view):
    """Else a heart's short axis would be cut across into strips."""
    turn = nib.orientations.axcodes2ornt(axes)
    affine = np.linalg.inv(nib.orientations.inv_ornt_aff(turn, (8, 8, 8))) @ np.diag([*spacing, 1.0])
    assert "".join(nib.aff2axcodes(affine)) == axes and slices.view(affine) == view
    label = np.zeros((1, 8, 8, 8), np.uint8)
    label[0, 2:5, 3:6, 2:6] = 1
    image = MetaTensor(torch.rand(1, 8, 8, 8), torch.from_numpy(affine))
    assert save_overlay(tmp_path / "a.png", image, label).is_file()


def test_a_picture_that_cannot_be_written_leaves_no_part_of_it(tmp_path, monkeypatch):
    def half(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OutputError, match="a.png cannot be written: the disk is full"):
        save_overlay(tmp_path / "a.png", head(), block(*RIGHT_FRONT))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("caption", ["word " * 200_000, "x" * 1_000_000, "\n" * 1_000_000])
def test_a_sentence_of_a_megabyte_takes_six_lines(tmp_path, caption):
    image, mask = np.ones((1, 30, 40)), np.zeros((1, 30, 40))
    long = Image.open(save_overlay(tmp_path / "a.png", image, mask, caption=caption)).size
    six = Image.open(save_overlay(tmp_path / "b.png", image, mask, caption="x" * 95 * 6)).size
    assert long[0] == six[0] and long[1] <= six[1]


@pytest.mark.parametrize("text", ["costs $5 or $6", r"$\frac$", "50 % #2 @left_lung^2"])
def test_text_of_users_is_shown_as_it_is(tmp_path, monkeypatch, text):
    shown = []
    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", lambda *_, **__: shown.append("mathematics"))
    image, mask = np.ones((1, 30, 40)), np.zeros((1, 30, 40))
    save_overlay(tmp_path / "a.png", image, mask, title=text, names=[text], caption=text)
    assert shown == []
