"""What the tests of this bundle share: where it is, how to run it, and how small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from tmca.network import TMCA
from tmca.phantoms.dataset import make_chest_phantoms

from tests.bundles import running
from tests.bundles.running import ROOT, finish

BUNDLE = ROOT / "bundles" / "tmca"
CONFIGS = BUNDLE / "configs"
CONFIG = json.loads((CONFIGS / "train.json").read_text(encoding="utf-8"))
NETWORK: dict[str, Any] = {"backbone": "test_resnet", "channels": 16, "detail_channels": [4, 8, 16]}
INFER: dict[str, Any] = {**NETWORK, "image_size": 64}
QUIET: dict[str, Any] = {"overlays": 0, "attention_pictures": 0}
TRAIN: dict[str, Any] = {
    **INFER,
    "epochs": 1,
    "val_interval": 1,
    "batch_size": 3,
    "overlays": 1,
    "attention_pictures": 1,
    "num_workers": 0,
}
LEFT = "bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
RIGHT = "bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
ONE = "unilateral pulmonary infection, one infected area, middle left lung."
SMALL = {"backbone": "test_resnet", "channels": 16, "detail_channels": (4, 8, 16), "dropout": 0.0, "null_share": 0.0}
SENTENCE = "unilateral pulmonary infection, one infected area, lower left lung."


def workflow(kind: str, names: str | list[str], configs: Path = CONFIGS, **override: Any) -> ConfigWorkflow:
    """A MONAI workflow of this bundle from its configs' names; `kind` is "train" or "infer"."""
    return running.workflow(configs, kind, names, **override)


def train(data: Path, output: Path, names: str | list[str] = "train", **override: Any) -> ConfigWorkflow:
    """Train on a data set, in this process."""
    return finish(workflow("train", names, dataset_dir=str(data), output_dir=str(output), **{**TRAIN, **override}))


def evaluate(data: Path, output: Path, weights: Path, names: tuple[str, ...] = (), **override: Any) -> ConfigWorkflow:
    """Evaluate on a data set, in this process."""
    places = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(weights)}
    settings = {**{key: value for key, value in TRAIN.items() if key != "epochs"}, **override}
    return finish(workflow("train", ["train", "evaluate", *names], **places, **settings))


def infer(output: Path, weights: Path, names: str | list[str] = "inference", **override: Any) -> ConfigWorkflow:
    """Segment, in this process."""
    return finish(workflow("infer", names, output_dir=str(output), ckpt_dir=str(weights), **{**INFER, **override}))


def build(seed=0, stir=False, **options):
    """A small network; stirred, every parameter that learns is random, so that nothing hides behind a gate at zero."""
    torch.manual_seed(seed)
    network = TMCA(**SMALL | options)
    if stir:
        with torch.no_grad():
            for parameter in filter(lambda p: p.requires_grad, network.parameters()):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def pictures(batch=2, height=64, width=64, seed=0):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed))


def make_data(folder: Path) -> Path:
    """Write synthetic X-rays with sentences; return their folder."""
    return make_chest_phantoms(folder, 6, 3, 2, progress=False, workers=1).parent


def save_weights(file: Path) -> None:
    """Save untrained weights that listen to the sentence, and whose masks are neither empty nor full."""
    network = workflow("infer", "inference", **NETWORK).parser.get_parsed_content("network_def").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        masks = network.decoder.heads[-1]
        masks.bias -= network(torch.rand(2, 1, 64, 64)).median()
    torch.save(network.state_dict(), file)
