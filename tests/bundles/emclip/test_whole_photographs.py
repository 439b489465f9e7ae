"""Whole photographs of the eye through the shipped finder of the disc, beside crops and pictures of something else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from emclip.phantoms.dataset import make_fundus_case
from emclip.phantoms.whole_fundus import make_whole_fundus
from PIL import Image

from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import finish, input_error

SHIPPED = BUNDLE.folder / "models"
SEEDS = (9_000_003, 9_000_004)  # apart from those of the recipe
QUICK = {"overlays": False, "report_page": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two whole photographs with a disc, one without, a crop, a picture of a street, and their list."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, seed in enumerate(SEEDS):
        made = make_whole_fundus(seed, 700)
        Image.fromarray(made.image).save(folder / f"whole_{number}.jpg", quality=92)
        Image.fromarray(made.disc.astype(np.uint8)).save(folder / f"disc_{number}.png")
    Image.fromarray(make_whole_fundus(9_500_001, 700, with_disc=False).image).save(folder / "macula.jpg")
    Image.fromarray(make_fundus_case(9_600_001, "camera_b", size=400).image).save(folder / "crop.png")
    names = ["whole_0.jpg", "macula.jpg", "whole_1.jpg", "crop.png"]
    (folder / "dataset.json").write_text(json.dumps({"testing": [{"image": name} for name in names]}), encoding="utf-8")
    return folder


def test_masks_lie_in_the_photograph_and_one_without_disc_stops_no_other(folder, tmp_path, capsys):
    flow = BUNDLE.workflow(
        "inference", dataset_dir=str(folder), output_dir=str(tmp_path), ckpt_dir=str(SHIPPED), **QUICK
    )
    error = input_error(finish, flow)
    assert "1 of 4 cases failed" in error and "macula: no optic disc was found" in error
    entries = {entry["case_id"]: entry for entry in json.loads((tmp_path / "predictions.json").read_text("utf-8"))}
    assert set(entries) == {"whole_0", "whole_1", "crop"}
    for number in range(len(SEEDS)):
        found = np.asarray(Image.open(tmp_path / entries[f"whole_{number}"]["prediction"])) > 0
        disc = np.asarray(Image.open(folder / f"disc_{number}.png")) > 0
        assert found.shape == disc.shape
        assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.8
        assert "Whole photograph" in str(entries[f"whole_{number}"]["warnings"])
    assert "warnings" not in entries["crop"]
    assert "case whole_0: whole photograph: cropped to" in capsys.readouterr().out


def test_without_preparation_a_whole_photograph_is_warned_of(folder, tmp_path, capsys):
    options = {"input": str(folder / "whole_0.jpg"), "ckpt_dir": str(SHIPPED), "prepare": "off", **QUICK}
    finish(BUNDLE.workflow("inference", output_dir=str(tmp_path), **options))
    assert "case whole_0: warning: looks like a whole photograph" in capsys.readouterr().out


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
