"""Finding the optic disc: geometry of the two looks, the decision whole or cropped, and the way back of a mask.

A stand-in for the network sees discs in what is green, so that every place is known.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resized
from PIL import Image

from shared.core.errors import InputError
from shared.preparation import disc_crop
from shared.preparation.disc import SIDE, Disc, DiscProbability, find_disc, load_disc_network, view
from shared.preparation.disc_crop import CropToDiscd
from shared.preparation.load import META


class Green(torch.nn.Module):
    """Calls a pixel disc where it is green."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.gain * (image[:, 1:2] - image[:, :1] - 0.25)


def photograph(height: int, width: int, row: float, column: float, radius: float) -> torch.Tensor:
    """A grey picture with a green disc, (3, H, W)."""
    rows, columns = np.indices((height, width))
    picture = torch.full((3, height, width), 0.4)
    picture[:, torch.from_numpy(np.hypot(rows - row, columns - column) <= radius)] = torch.tensor([[0.1], [0.9], [0.1]])
    return picture


def meta(picture: torch.Tensor) -> MetaTensor:
    return MetaTensor(picture, meta={"filename_or_obj": "eye.png", "spatial_shape": np.array(picture.shape[1:])})


@pytest.fixture
def crop(monkeypatch):
    """Make the transform with the stand-in for the network."""
    monkeypatch.setattr(disc_crop, "load_disc_network", lambda weights: Green())
    return lambda keys="image", **options: CropToDiscd(keys, "disc.pt", **options)


PLACES = [
    (701, 1000, 300, 640, 55),
    (1000, 701, 128, 90, 40),
    (640, 640, 590, 580, 45),
    (333, 287, 150, 140, 80),
    (2001, 3007, 900, 300, 130),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_known_disc_is_found_at_its_place_in_pictures_of_any_shape(place):
    height, width, row, column, radius = place
    disc = find_disc(photograph(*place), Green())
    assert np.hypot(disc.row - row, disc.column - column) < 0.06 * radius
    assert disc.radius == pytest.approx(radius, rel=0.12)
    assert disc.score > 0.9


def test_a_disc_cut_off_by_the_edge_is_found():
    disc = find_disc(photograph(500, 500, 250, 10, 60), Green())
    assert abs(disc.row - 250) < 6
    assert 0 < disc.column < 60


def test_the_larger_of_two_likely_places_is_taken():
    picture = torch.minimum(photograph(600, 800, 200, 200, 20), photograph(600, 800, 300, 600, 60))
    picture[1] = torch.maximum(photograph(600, 800, 200, 200, 20), photograph(600, 800, 300, 600, 60))[1]
    disc = find_disc(picture, Green())
    assert disc.column == pytest.approx(600, abs=6)


@pytest.mark.parametrize("picture", [torch.zeros(3, 90, 70), torch.rand(3, 40, 300), torch.ones(3, 1, 1)])
def test_no_green_no_disc(picture):
    assert find_disc(picture * torch.tensor([1.0, 0.9, 1.0])[:, None, None], Green()) is None


@pytest.mark.parametrize(("side", "whole"), [(200, False), (300, False), (355, False), (370, True), (1000, True)])
def test_the_longer_side_in_disc_diameters_tells_whole_from_cropped(side, whole):
    assert Disc(100, 100, 50, 1.0).is_in_whole_photograph(side, side // 2) is whole


def test_the_box_is_a_square_within_the_picture_that_holds_the_disc():
    for row, column in ((0, 0), (500, 3), (250, 999), (499, 500)):
        rows, columns = Disc(row, column, 40, 1.0).box(500, 1000)
        assert rows.stop - rows.start == columns.stop - columns.start == 192
        assert 0 <= rows.start <= min(row, 499) < rows.stop <= 500
        assert 0 <= columns.start <= min(column, 999) < columns.stop <= 1000


def test_a_view_beyond_the_picture_is_black_there():
    seen, first, scale = view(torch.ones(3, 100, 100), 0, 0, 80)
    assert first == (-40, -40)
    assert scale == 0.5
    assert seen[:, : SIDE // 2 - 2].max() == seen[:, :, : SIDE // 2 - 2].max() == 0
    assert seen[:, SIDE // 2 + 2 :, SIDE // 2 + 2 :].min() > 0.99


@pytest.mark.parametrize("place", PLACES[:3])
def test_a_mask_of_the_crop_comes_back_to_the_pixels_of_the_photograph(crop, place):
    chain = Compose([crop(), Resized("image", (160, 160))])
    data = chain({"image": meta(photograph(*place)), "case_id": "p1"})
    assert data["image"].shape == (3, 160, 160)
    data["pred"] = MetaTensor((data["image"].as_tensor()[1:2] > 0.65).float(), meta=data["image"].meta)
    back = Invertd("pred", chain, "image", nearest_interp=False)(data)["pred"]
    known = photograph(*place)[1:2] > 0.65
    found = back.as_tensor() > 0.5
    assert found.shape == known.shape
    assert 2 * (found & known).sum() / (found.sum() + known.sum()) > 0.98


def test_picture_and_label_are_cropped_to_the_same_place(crop):
    place = PLACES[0]
    data = {"image": meta(photograph(*place)), "label": meta((photograph(*place)[1:2] > 0.65).float())}
    result = crop(["image", "label"])(data)
    height, width = result["image"].shape[1:]
    assert height == width == pytest.approx(264, abs=6)
    assert result["label"].shape == (1, height, width)
    assert torch.equal(result["label"].as_tensor() > 0, result["image"].as_tensor()[1:2] > 0.65)


def test_a_cropped_photograph_stays_as_it_is(crop, capsys):
    picture = photograph(333, 287, 150, 140, 80)
    chain = Compose([crop()])
    result = chain({"image": meta(picture)})
    assert torch.equal(result["image"].as_tensor(), picture)
    assert META not in result["image"].meta
    assert torch.equal(chain.inverse(result)["image"].as_tensor(), picture)
    assert capsys.readouterr().out == ""


def test_a_whole_photograph_is_said_in_one_line_and_kept_as_a_note(crop, capsys):
    result = crop()({"image": meta(photograph(*PLACES[0])), "case_id": "p1"})
    line = capsys.readouterr().out
    assert re.fullmatch(
        r"case p1: whole photograph: cropped to (\d+) x \1 pixels round the optic disc at column 640, row 300\n", line
    )
    record = json.loads(result["image"].meta[META])
    assert "row 300" in record["warnings"][0]
    assert record["disc"]["column"] == pytest.approx(640, abs=4)
    assert record["crop"]["rows"][0] < 300 < record["crop"]["rows"][1]


@pytest.mark.parametrize("prepare", ["auto", "always"])
def test_a_picture_without_disc_is_refused_in_one_line(crop, prepare):
    with pytest.raises(InputError, match=r"^case p1: no optic disc was found: .*--prepare off"):
        crop(prepare=prepare)({"image": meta(torch.full((3, 50, 60), 0.5)), "case_id": "p1"})


@pytest.mark.parametrize(("radius", "score", "sure"), [(40, 0.79, False), (40, 0.8, True), (120, 0.5, True)])
def test_the_disc_of_a_whole_photograph_must_be_surer_than_that_of_a_crop(radius, score, sure):
    assert Disc(300, 300, radius, score).is_plausible(600, 600) == sure


def test_a_crop_with_an_unsure_disc_is_not_cropped_again():
    assert Disc(128, 160, 37, 0.6).is_plausible(254, 320)
    assert not Disc(128, 160, 37, 0.6).is_in_whole_photograph(254, 320)


@pytest.mark.parametrize(("height", "width"), [(600, 600), (600, 2000), (2000, 600)])
def test_a_speck_is_no_disc_however_sure_the_network_is(height, width):
    assert Disc(300, 300, 22, 1.0).is_plausible(height, width)
    assert not Disc(300, 300, 21, 1.0).is_plausible(height, width)


def test_always_also_crops_what_seems_cropped(crop):
    picture = photograph(333, 287, 150, 140, 50)
    chain = Compose([crop(prepare="always")])
    result = chain({"image": meta(picture)})
    height, width = result["image"].shape[1:]
    assert height == width == pytest.approx(2.4 * 100, rel=0.12)
    assert json.loads(result["image"].meta[META])["steps"][0].startswith("photograph: cropped to")
    assert chain.inverse(result)["image"].shape == picture.shape


@pytest.mark.parametrize(("place", "lines"), [(PLACES[0], 1), (PLACES[3], 0)])
def test_off_leaves_the_picture_and_warns_of_a_whole_one(crop, capsys, place, lines):
    picture = photograph(*place)
    result = crop(prepare="off")({"image": meta(picture)})
    assert torch.equal(result["image"].as_tensor(), picture)
    assert capsys.readouterr().out.count("--prepare auto") == lines
    crop(prepare="off", warn=False)({"image": meta(picture)})
    assert capsys.readouterr().out == ""


def test_an_unknown_word_names_the_nearest_one():
    with pytest.raises(InputError, match="auto"):
        CropToDiscd("image", "disc.pt", prepare="aut")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "disc.pt")
    with pytest.raises(InputError, match="finder of the optic disc"):
        load_disc_network(tmp_path / "disc.pt")
    assert sum(p.numel() for p in DiscProbability().parameters()) < 400_000


def test_the_check_before_a_run_finds_what_the_run_refuses(crop, tmp_path):
    for name, picture in (("eye", photograph(*PLACES[3])), ("other", torch.full((3, 50, 60), 0.5))):
        pixels = (255 * picture.numpy()).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    assert crop().problems(tmp_path / "eye.png", "case eye") == []
    (line,) = crop().problems(tmp_path / "other.png", "case other")
    assert line.startswith("case other: no optic disc was found")
    assert crop(prepare="off").problems(tmp_path / "other.png", "case other") == []
    assert crop().problems(tmp_path / "absent.png", "case absent") == []
