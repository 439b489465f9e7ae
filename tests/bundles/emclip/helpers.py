"""What the tests of this bundle share: where it is, how to run it, and how small; photographs and hearts to run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from emclip.phantoms.dataset import make_fundus_phantoms
from monai.bundle import ConfigWorkflow

from tests.bundles import running
from tests.bundles.running import ROOT, finish

BUNDLE = ROOT / "bundles" / "emclip"
CONFIGS = BUNDLE / "configs"
CONFIG = json.loads((CONFIGS / "train.json").read_text(encoding="utf-8"))
SENTENCES: list[str] = CONFIG["sentences"]
STRUCTURES: list[str] = list(CONFIG["structures"])
UNSEEN = ["camera_b", "camera_c", "camera_d"]
INFER: dict[str, Any] = {"image_size": [32, 32]}
QUIET: dict[str, Any] = {"overlays": 0, "cluster_pictures": 0}
TRAIN: dict[str, Any] = {**INFER, "epochs": 1, "val_interval": 1, "batch_size": 2, "overlays": 1, "num_workers": 0}


def workflow(kind: str, names: str | list[str], configs: Path = CONFIGS, **override: Any) -> ConfigWorkflow:
    """A MONAI workflow of this bundle from its configs' names; `kind` is "train" or "infer"."""
    return running.workflow(configs, kind, names, **override)


def train(data: Path, output: Path, names: str | list[str] = "train", **override: Any) -> ConfigWorkflow:
    """Train on a data set, in this process."""
    return finish(workflow("train", names, dataset_dir=str(data), output_dir=str(output), **{**TRAIN, **override}))


def infer(output: Path, weights: Path, names: str | list[str] = "inference", **override: Any) -> ConfigWorkflow:
    """Segment, in this process."""
    return finish(workflow("infer", names, output_dir=str(output), ckpt_dir=str(weights), **{**INFER, **override}))


def make_data(folder: Path) -> Path:
    """Write photographs of four cameras; return their folder."""
    return make_fundus_phantoms(folder, num_training=4, num_validation=2, num_testing=1, progress=False).parent


def save_weights(file: Path) -> None:
    """Save untrained weights whose masks are neither empty nor full."""
    torch.manual_seed(0)
    network = workflow("infer", "inference", text_tower=True).parser.get_parsed_content("network_def")
    with torch.no_grad():
        last = network.queries.project[-1]
        last.weight.normal_()
        last.bias[-1] -= network.eval()(torch.rand(2, 3, 48, 32)).median()
    torch.save(network.state_dict(), file)
