"""New weights take the place of the served ones only if they can be loaded; the earlier ones are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from shared.serving.publish import publish_upload, publish_weights
from tests.bundles.running import assert_one_line, files, input_error


def test_trained_weights_are_served_and_earlier_ones_kept(tmp_path, capsys):
    run, models = tmp_path / "run", tmp_path / "models"
    run.mkdir()
    kept = []
    for content in (b"one", b"two", b"three"):
        (run / "model.pt").write_bytes(content)
        kept.append(publish_weights(run, models))
        assert (models / "model.pt").read_bytes() == content
    assert kept[0] is None and [path.read_bytes() for path in kept[1:]] == [b"one", b"two"]
    assert str(models / "model.pt") in capsys.readouterr().out


@pytest.fixture
def network() -> torch.nn.Module:
    return torch.nn.Linear(3, 2)


@pytest.fixture
def served(tmp_path, network) -> Path:
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    return tmp_path / "models" / "model.pt"


def test_uploaded_weights_are_served_and_earlier_ones_kept(tmp_path, served, network):
    before = served.read_bytes()
    other = torch.nn.Linear(3, 2).state_dict()
    torch.save({"network": other, "epoch": 3}, tmp_path / "upload.pt")
    kept = publish_upload(tmp_path / "upload.pt", served, network.state_dict())
    assert kept is not None and kept.read_bytes() == before
    stored = torch.load(served, weights_only=True)
    assert stored.keys() == other.keys() and all(torch.equal(stored[key], other[key]) for key in other)


class Attack:
    """A pickle of it would create a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def cut_short(path: Path, network: torch.nn.Module) -> None:
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])


def not_finite(path: Path, network: torch.nn.Module) -> None:
    torch.save({**network.state_dict(), "bias": torch.tensor([1, float("nan")])}, path)


@pytest.mark.parametrize(
    "write, parts",
    [
        (cut_short, ["cut short"]),
        (not_finite, ["NaN", "bias"]),
        (lambda path, network: torch.save(torch.nn.Linear(3, 4).state_dict(), path), ["another network", "weight"]),
        (lambda path, network: torch.save({"weight": Attack(path.parent / "attacked")}, path), ["plain tensors"]),
        (lambda path, network: path.write_text("weights", encoding="utf-8"), ["plain tensors"]),
        (lambda path, network: path.write_bytes(b""), ["empty"]),
    ],
)
def test_upload_that_cannot_be_loaded_changes_nothing(tmp_path, served, network, write, parts):
    before = files(served.parent)
    write(tmp_path / "upload.pt", network)
    assert_one_line(input_error(publish_upload, tmp_path / "upload.pt", served, network.state_dict()), parts)
    assert files(served.parent) == before and not (tmp_path / "attacked").exists()
