"""Photographs of four cameras, weights and a trained run, each made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from emclip.phantoms.dataset import make_fundus_phantoms

from tests.bundles.emclip.helpers import TRAIN, workflow
from tests.bundles.running import Run, recorded


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fundus") / "data"
    return make_fundus_phantoms(folder, num_training=4, num_validation=2, num_testing=1, progress=False).parent


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory) -> Path:
    """Untrained weights whose masks are neither empty nor full."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = workflow("infer", "inference", text_tower=True).parser.get_parsed_content("network_def")
    with torch.no_grad():
        last = network.queries.project[-1]
        last.weight.normal_()
        last.bias[-1] -= network.eval()(torch.rand(2, 3, 48, 32)).median()
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir) -> Run:
    """Two epochs, `bundle_root` left to the config."""
    output = tmp_path_factory.mktemp("trained")
    places = {"dataset_dir": str(data_dir), "output_dir": str(output)}
    return recorded(workflow("train", "train", **places, **{**TRAIN, "epochs": 2}), output)
