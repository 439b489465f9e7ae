"""The recipe of the finder of the disc: its samples are what the finder sees, and a stopped training goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from emclip import make_disc_weights as recipe
from emclip.phantoms.dataset import make_fundus_case
from PIL import Image

from shared.preparation.disc import SIDE, load_disc_network

FEW = {"whole": 3, "without": 1, "phantom": 1, "other": 1, "photographs": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:
    """A data set of two cropped discs."""
    monkeypatch.setattr(recipe, "COUNTS", FEW)
    monkeypatch.setattr(recipe, "BATCH", 4)
    items = []
    for number in range(2):
        case = make_fundus_case(number)
        Image.fromarray(case.image).save(tmp_path / f"{number}.png")
        Image.fromarray(case.label).save(tmp_path / f"{number}_label.png")
        items.append({"image": f"{number}.png", "label": f"{number}_label.png"})
    lists = {"training": items[:1], "validation": items[1:]}
    (tmp_path / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return str(tmp_path)


def test_a_batch_shows_discs_where_the_labels_are(folder):
    images, discs = recipe.draw_batch(np.random.default_rng(0), recipe.make_samples(folder, folder))
    assert images.shape == (4, 3, SIDE, SIDE)
    assert discs.shape == (4, 1, SIDE, SIDE)
    assert 0 <= images.min() <= images.max() <= 1
    assert set(discs.unique().tolist()) <= {0.0, 1.0}


def test_the_label_keeps_its_place_in_the_stored_square():
    image, disc = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), bool)
    image[10:20, 30:44], disc[10:20, 30:44] = 255, True
    stored, label, where = recipe.stored(image, disc, side=100)
    assert torch.equal(stored[0] > 0, label[0] > 0)
    assert (where["row"], where["column"]) == (44.5, 56.5)
    small, label, _ = recipe.stored(image, disc, side=30)
    assert torch.equal(small[0] > 127, label[0] > 0)


def test_the_loss_falls_towards_the_truth_and_without_disc_is_finite():
    disc = torch.zeros(2, 1, 8, 8)
    disc[0, :, 2:5, 2:5] = 1
    right, wrong = (20 * sign * (2 * disc - 1) for sign in (1, -1))
    assert recipe.disc_loss(right, disc) < 0.01 < 1 < recipe.disc_loss(wrong, disc)
    assert torch.isfinite(recipe.disc_loss(right[1:], disc[1:]))


def test_a_stopped_training_gives_the_weights_of_one_that_was_not(folder, monkeypatch):
    monkeypatch.setattr(recipe, "fast_dtype", lambda device: None)
    monkeypatch.setattr(recipe, "SAVE_EVERY", 1)
    samples = recipe.make_samples(folder, folder)
    monkeypatch.setattr(recipe, "STEPS", 2)
    monkeypatch.setattr(recipe, "learning_rate", lambda step: 1e-3)
    at_once = recipe.train(samples, Path(folder) / "once.pt").state_dict()
    for steps in (1, 2):
        monkeypatch.setattr(recipe, "STEPS", steps)
        in_parts = recipe.train(samples, Path(folder) / "parts.pt").state_dict()
    for name, tensor in at_once.items():
        assert torch.allclose(tensor, in_parts[name], atol=1e-6), name


def test_the_file_is_small_and_loads(folder, monkeypatch):
    monkeypatch.setattr(recipe, "STEPS", 1)
    output = Path(folder) / "disc.pt"
    recipe.main(folder, folder, str(Path(folder) / "work"), str(output))
    assert output.stat().st_size < 1_000_000
    assert not load_disc_network(output).training
