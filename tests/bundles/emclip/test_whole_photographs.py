"""Whole photographs of the eye through the shipped finder of the disc, beside crops and pictures of something else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from emclip.phantoms.dataset import make_fundus_case
from emclip.phantoms.whole_fundus import make_whole_fundus
from PIL import Image

from shared.datasets.datalist import expand_datalist
from shared.io.picture_files import load_picture
from shared.options.check import check
from shared.preparation.disc import find_disc, load_disc_network
from shared.serving.label_app import set_up
from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import finish, input_error, mask_of
from tests.serving.labelling import LabelInfer, with_sample_app

SHIPPED = BUNDLE.folder / "models"
SEEDS = (9_000_003, 9_000_004)  # apart from those of the recipe
QUICK = {"overlays": False, "report_page": False}
REAL = os.environ.get("BUNDLES_REAL_DATA", "")
OTHERS = ("astronaut.png", "coffee.png", "chelsea.png", "coins.png", "page.png", "rocket.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two whole photographs with a disc, one without, a crop, a picture of a cat, and their list."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, seed in enumerate(SEEDS):
        made = make_whole_fundus(seed, 700)
        Image.fromarray(made.image).save(folder / f"whole_{number}.jpg", quality=92)
        Image.fromarray(made.disc.astype(np.uint8)).save(folder / f"disc_{number}.png")
    Image.fromarray(make_whole_fundus(9_500_001, 700, with_disc=False).image).save(folder / "macula.jpg")
    Image.fromarray(make_fundus_case(9_600_001, "camera_b", size=400).image).save(folder / "crop.png")
    Image.fromarray(skimage.data.chelsea()).save(folder / "cat.png")
    names = ["whole_0.jpg", "macula.jpg", "whole_1.jpg", "cat.png", "crop.png"]
    (folder / "dataset.json").write_text(json.dumps({"testing": [{"image": name} for name in names]}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def find():
    network = load_disc_network(SHIPPED / "disc.pt")
    return lambda path: find_disc(load_picture(path, "case a"), network)


def true_disc(folder: Path, number: int) -> np.ndarray:
    return np.asarray(Image.open(folder / f"disc_{number}.png")) > 0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def infer(image: Path, output: Path, **options) -> np.ndarray:
    options = {"input": str(image), "output_dir": str(output), "ckpt_dir": str(SHIPPED), **QUICK, **options}
    finish(BUNDLE.workflow("inference", **options))
    return mask_of(output)


def test_masks_lie_in_the_photograph_and_one_without_disc_stops_no_other(folder, tmp_path, capsys):
    flow = BUNDLE.workflow(
        "inference", dataset_dir=str(folder), output_dir=str(tmp_path), ckpt_dir=str(SHIPPED), **QUICK
    )
    error = input_error(finish, flow)
    assert "2 of 5 cases failed" in error
    assert "macula: no optic disc was found" in error and "cat: no optic disc was found" in error
    entries = {entry["case_id"]: entry for entry in json.loads((tmp_path / "predictions.json").read_text("utf-8"))}
    assert set(entries) == {"whole_0", "whole_1", "crop"}
    for number in range(len(SEEDS)):
        found = np.asarray(Image.open(tmp_path / entries[f"whole_{number}"]["prediction"])) > 0
        disc = true_disc(folder, number)
        assert found.shape == disc.shape
        assert dice(found, disc) > 0.8
        record = json.loads((tmp_path / entries[f"whole_{number}"]["preparation"]).read_text(encoding="utf-8"))
        row, column = np.argwhere(disc).mean(0)
        assert np.hypot(record["disc"]["row"] - row, record["disc"]["column"] - column) < 8
        assert "Whole photograph" in str(entries[f"whole_{number}"]["warnings"])
    assert "warnings" not in entries["crop"] and "preparation" not in entries["crop"]
    assert not list(tmp_path.glob("macula*")) and not list(tmp_path.glob("cat*"))
    assert "case whole_0: whole photograph: cropped to" in capsys.readouterr().out


def test_the_check_names_what_the_run_leaves_out(folder, tmp_path):
    problems = check(str(BUNDLE.folder), ["inference"], dataset_dir=str(folder), output_dir=str(tmp_path))
    assert [problem.split(":")[0] for problem in problems] == ["case macula", "case cat"]
    assert all("no optic disc was found" in problem for problem in problems)


@pytest.mark.parametrize("name", ["macula.jpg", "cat.png"])
def test_a_single_photograph_without_disc_is_one_line(folder, tmp_path, name):
    assert "no optic disc was found" in input_error(infer, folder / name, tmp_path)


def test_the_mirrored_eye_gives_the_mirrored_mask(folder, tmp_path):
    Image.open(folder / "whole_0.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    mirrored = infer(tmp_path / "mirrored.png", tmp_path / "out")
    assert dice(mirrored[:, ::-1] > 0, true_disc(folder, 0)) > 0.8


def test_a_crop_is_segmented_as_without_the_search(folder, tmp_path):
    auto, off = (infer(folder / "crop.png", tmp_path / word, prepare=word) for word in ("auto", "off"))
    assert np.array_equal(auto, off)


def test_without_preparation_a_whole_photograph_is_warned_of(folder, tmp_path, capsys):
    mask = infer(folder / "whole_0.jpg", tmp_path, prepare="off")
    assert "case whole_0: warning: looks like a whole photograph" in capsys.readouterr().out
    assert dice(mask > 0, true_disc(folder, 0)) < 0.7


def test_other_structures_than_the_disc_are_never_searched_for():
    other = {"structures": {"polyp": [100]}, "structure_values": [1], "sentences": ["bowel", "polyp"]}
    for config in ("train", "inference"):
        for options, count in (({}, 2), (other, 1)):
            assert len(BUNDLE.workflow(config, **options).parser.get_parsed_content("fitting")) == count


def test_a_label_server_puts_the_mask_into_the_whole_photograph(folder, tmp_path, monkeypatch):
    with_sample_app(monkeypatch, tmp_path / "sample")
    served = set_up(tmp_path / "app", ["emclip"])["emclip"]
    assert [file.name for file in (served / "models").iterdir()] == ["model.pt"]
    mask = LabelInfer(served)(folder / "whole_0.jpg")
    assert dice(mask.T > 0, true_disc(folder, 0)) > 0.8


def test_the_evaluation_compares_on_the_grid_of_the_photograph(folder, tmp_path):
    """The label of a whole photograph is not cropped: the mask comes back to it."""
    data = {"image": "whole_0.jpg", "label": "label_0.png", "domain": "whole", "labelled": ["optic disc"]}
    disc = np.asarray(Image.open(folder / "disc_0.png"))
    Image.fromarray((disc > 0).astype(np.uint8) * 100).save(folder / "label_0.png")
    tested = tmp_path / "data"
    tested.mkdir()
    for name in ("whole_0.jpg", "label_0.png"):
        (tested / name).write_bytes((folder / name).read_bytes())
    (tested / "dataset.json").write_text(json.dumps({"testing": [data]}), encoding="utf-8")
    BUNDLE.evaluate(tested, tmp_path / "out", SHIPPED, image_size=[160, 160], overlays=0, report_page=False)
    rows = (tmp_path / "out" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    heading, first = (line.split(",") for line in rows[:2])
    assert float(first[next(i for i, name in enumerate(heading) if "dice" in name)]) > 0.8, rows[:2]


def test_training_crops_picture_and_label_alike(folder):
    flow = BUNDLE.workflow("train", prepare="auto")
    Image.fromarray(true_disc(folder, 0).astype(np.uint8) * 100).save(folder / "label_0.png")
    item = {"image": str(folder / "whole_0.jpg"), "label": str(folder / "label_0.png"), "case_id": "a"}
    for transform in flow.parser.get_parsed_content("train#deterministic_transforms"):
        item = transform(item)
    inside = item["label"][0] > 0
    assert 0.08 < inside.float().mean() < 0.25  # a crop of 2.4 disc diameters
    assert item["image"][:, inside].mean() > item["image"].mean()


@pytest.mark.parametrize("name", OTHERS)
def test_photographs_of_something_else_have_no_disc(find, name):
    assert find(Path(skimage.data.__file__).parent / name) is None


@pytest.mark.skipif(not REAL, reason="set BUNDLES_REAL_DATA to the folder of real images")
def test_real_crops_are_taken_for_crops(find):
    """Every photograph that was cropped round the disc is accepted, and none is cropped again."""
    for split in ("training", "testing"):
        for item in expand_datalist(Path(REAL) / "fundus" / "dataset.json", split)[::6]:
            disc = find(item["image"])
            assert disc is not None, item["image"]
            assert not disc.is_in_whole_photograph(*load_picture(item["image"], "case a").shape[1:]), item["image"]
