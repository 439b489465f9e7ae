"""Recipes of weights: lists that load, trainings that run once and are resumed."""

from __future__ import annotations

import pytest
import torch

from shared.backbones.checkpoint import load_weights
from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist
from shared.engine import recipes
from shared.engine.recipes import between, kept, repeated, ship, train_once, write_lists


def test_written_lists_are_read_again(tmp_path):
    item = {"image": str(tmp_path / "a.png"), "case_id": "a"}
    folder = write_lists(tmp_path / "new" / "lists", training=repeated([item], 3), validation=[item])
    assert [case["case_id"] for case in expand_datalist(folder / "dataset.json", "training")] == ["a_0", "a_1", "a_2"]
    assert expand_datalist(folder / "dataset.json", "validation")[0]["image"] == item["image"]
    assert item["case_id"] == "a"


def test_a_complete_training_is_not_repeated(tmp_path, monkeypatch):
    trained = []

    def train(output_dir, **options):
        trained.append(options)
        (tmp_path / "metrics.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr(recipes, "run", train)
    for _ in range(2):
        assert train_once("train.json", tmp_path, epochs=3) == tmp_path / "models" / "model.pt"
    assert trained == [{"config_file": "train.json", "resume": True, "epochs": 3}]


def test_a_stopped_training_is_resumed(tmp_path, monkeypatch):
    def die(resume, **options):
        assert resume
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "run", die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_once("train.json", tmp_path)


def test_shipped_weights_are_half_as_large_and_load_as_float32(tmp_path):
    torch.manual_seed(0)
    network, other = (torch.nn.Sequential(torch.nn.Conv2d(8, 64, 5), torch.nn.BatchNorm2d(64)) for _ in range(2))
    torch.save(network.state_dict(), tmp_path / "trained.pt")
    ship(tmp_path / "trained.pt", tmp_path / "models" / "model.pt")
    sizes = [path.stat().st_size for path in (tmp_path / "models" / "model.pt", tmp_path / "trained.pt")]
    assert sizes[0] < 0.6 * sizes[1]
    load_weights(other, tmp_path / "models" / "model.pt")
    for (name, ours), theirs in zip(network.state_dict().items(), other.state_dict().values()):
        assert ours.dtype == theirs.dtype, name
        assert torch.allclose(ours.float(), theirs.float(), rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("share", [0, 0.75, 1])
def test_interpolation_between_two_trainings(tmp_path, share):
    torch.manual_seed(0)
    old = {"kept": torch.randn(99).half(), "moved": torch.randn(9).half(), "count": torch.tensor(3)}
    new = {"kept": old["kept"].float(), "moved": torch.randn(9), "count": torch.tensor(5)}
    torch.save(old, tmp_path / "old.pt")
    torch.save(new, tmp_path / "new.pt")
    path = between(tmp_path / "old.pt", tmp_path / "new.pt", share, tmp_path / "models" / "model.pt")
    mixed = torch.load(path, weights_only=True)
    torch.testing.assert_close(mixed["moved"], (1 - share) * old["moved"].float() + share * new["moved"])
    assert mixed["count"] == 5
    ship(path, tmp_path / "shipped.pt")  # frozen weights are the same to the bit, so git stores nothing new
    assert torch.equal(torch.load(tmp_path / "shipped.pt", weights_only=True)["kept"], old["kept"])


def test_a_recipe_keeps_the_file_of_its_first_run(tmp_path):
    file, copy = tmp_path / "model.pt", tmp_path / "work" / "begin.pt"
    with pytest.raises(InputError, match="model.pt not found"):
        kept(file, copy)
    for content in ("old", "new"):
        file.write_text(content, encoding="utf-8")
        assert kept(file, copy).read_text(encoding="utf-8") == "old"
