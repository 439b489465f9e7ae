"""A data set of eight tiny cases, weights and a trained run, each made once a session."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.bundles.brainsegdmlf.helpers import BUNDLE, TRAIN, workflow
from tests.bundles.running import Run, recorded
from tests.making import write_brain

STORED = {  # how each case lies in its file: axes, tilt in degrees
    "train_a": ("RAS", 0),
    "train_b": ("LPS", 0),
    "train_c": ("LAS", 9),
    "train_d": ("PSR", 0),
    "val_a": ("RAS", 0),
    "val_b": ("LPI", 14),
    "test_a": ("LPS", 17),
    "test_b": ("SRA", 0),
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    items = {name: write_brain(folder, name, seed, *place) for seed, (name, place) in enumerate(STORED.items())}
    items["test_b"]["image"][1] = None
    splits = {"training": "train", "validation": "val", "testing": "test"}
    lists = {
        split: [{"case_id": name, **item} for name, item in items.items() if name.startswith(start)]
        for split, start in splits.items()
    }
    (folder / "dataset.json").write_text(json.dumps(lists))
    return folder


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory) -> Path:
    """Untrained weights whose masks are neither empty nor full."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = workflow("infer", "inference", **{"patch_size": [32, 32]}).parser.get_parsed_content("network_def")
    with torch.no_grad():
        torch.nn.init.normal_(network.decoder.heads[-1].weight, std=1.0)
        head = network.decoder.heads[-1]
        image = torch.randn(2, 4, 40, 48)
        head.bias -= network.eval()(image).median()
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


@dataclass
class ShippedRun(Run):
    """A training that is over, and the shipped weights before and after it."""

    shipped: tuple[str | None, str | None]


def shipped_weights() -> str | None:
    path = BUNDLE / "models" / "model.pt"
    return hashlib.sha1(path.read_bytes()).hexdigest() if path.exists() else None


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir) -> ShippedRun:
    """Two epochs, `bundle_root` left to the config."""
    output = tmp_path_factory.mktemp("trained")
    before = shipped_weights()
    places = {"dataset_dir": str(data_dir), "output_dir": str(output)}
    flow = workflow("train", "train", **places, **{**TRAIN, "epochs": 2, "overlays": 2})
    return ShippedRun(**vars(recorded(flow, output)), shipped=(before, shipped_weights()))
