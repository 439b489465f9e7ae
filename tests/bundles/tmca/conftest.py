"""Made X-rays with sentences, weights and a trained run, each made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tmca.phantoms.dataset import make_chest_phantoms

from tests.bundles.running import Run, recorded
from tests.bundles.tmca.helpers import NETWORK, TRAIN, workflow


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chest") / "data"
    return make_chest_phantoms(folder, 6, 3, 2, progress=False, workers=1).parent


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory) -> Path:
    """Untrained weights that listen to the sentence, and whose masks are neither empty nor full."""
    folder = tmp_path_factory.mktemp("weights")
    network = workflow("infer", "inference", **NETWORK).parser.get_parsed_content("network_def").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        masks = network.decoder.heads[-1]
        masks.bias -= network(torch.rand(2, 1, 64, 64)).median()
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir) -> Run:
    """Two epochs, `bundle_root` left to the config."""
    output = tmp_path_factory.mktemp("trained")
    places = {"dataset_dir": str(data_dir), "output_dir": str(output)}
    return recorded(workflow("train", "train", **places, **{**TRAIN, "epochs": 2}), output)
