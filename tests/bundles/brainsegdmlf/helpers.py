"""What the tests of this bundle share: where it is, how to run it, and how small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from tests.bundles import running
from tests.bundles.running import ROOT, finish
from tests.making import write_brain

BUNDLE = ROOT / "bundles" / "brainsegdmlf"
CONFIGS = BUNDLE / "configs"
TRAIN: dict[str, Any] = {"patch_size": [32, 32], "epochs": 1, "val_interval": 1, "patches_per_volume": 2}
INFER: dict[str, Any] = {"patch_size": [32, 32]}
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


def workflow(kind: str, names: str | list[str], configs: Path = CONFIGS, **override: Any) -> ConfigWorkflow:
    """A MONAI workflow of this bundle from its configs' names; `kind` is "train" or "infer"."""
    return running.workflow(configs, kind, names, **override)


def train(data: Path, output: Path, **override: Any) -> ConfigWorkflow:
    """Train on a data set, in this process."""
    flow = workflow("train", "train", dataset_dir=str(data), output_dir=str(output), **{**TRAIN, **override})
    return finish(flow)


def infer(output: Path, weights: Path, **override: Any) -> ConfigWorkflow:
    """Segment, in this process."""
    return finish(
        workflow("infer", "inference", output_dir=str(output), ckpt_dir=str(weights), **{**INFER, **override})
    )


def in_ras(path: Path) -> np.ndarray:
    """A file's voxels with the axes turned to RAS."""
    return np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())


def make_data(folder: Path) -> Path:
    """Write eight tiny cases, stored with several axes and tilts; return their folder."""
    folder.mkdir()
    items = {name: write_brain(folder, name, seed, *place) for seed, (name, place) in enumerate(STORED.items())}
    items["test_b"]["image"][1] = None
    splits = {"training": "train", "validation": "val", "testing": "test"}
    lists = {
        split: [{"case_id": name, **item} for name, item in items.items() if name.startswith(start)]
        for split, start in splits.items()
    }
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


def save_weights(file: Path) -> None:
    """Save untrained weights whose masks are neither empty nor full."""
    torch.manual_seed(0)
    network = workflow("infer", "inference", **{"patch_size": [32, 32]}).parser.get_parsed_content("network_def")
    with torch.no_grad():
        torch.nn.init.normal_(network.decoder.heads[-1].weight, std=1.0)
        head = network.decoder.heads[-1]
        image = torch.randn(2, 4, 40, 48)
        head.bias -= network.eval()(image).median()
    torch.save(network.state_dict(), file)
