"""What the tests of this bundle share: where it is, how to run it, and how small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow

from tests.bundles import running
from tests.bundles.running import ROOT, finish

BUNDLE = ROOT / "bundles" / "brainsegdmlf"
CONFIGS = BUNDLE / "configs"
TRAIN: dict[str, Any] = {"patch_size": [32, 32], "epochs": 1, "val_interval": 1, "patches_per_volume": 2}
INFER: dict[str, Any] = {"patch_size": [32, 32]}


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
