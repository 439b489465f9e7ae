"""What the tests of this bundle share: where it is, how to run it, and how small; photographs and hearts to run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow

from tests.bundles import running
from tests.bundles.running import ROOT, finish

BUNDLE = ROOT / "bundles" / "emclip"
CONFIGS = BUNDLE / "configs"
CONFIG = json.loads((CONFIGS / "train.json").read_text())
SENTENCES: list[str] = CONFIG["sentences"]
STRUCTURES: list[str] = list(CONFIG["structures"])
UNSEEN = ["camera_b", "camera_c", "camera_d"]
INFER: dict[str, Any] = {"image_size": [32, 32]}
QUIET: dict[str, Any] = {"overlays": 0, "cluster_pictures": 0}
TRAIN: dict[str, Any] = {**INFER, "epochs": 1, "val_interval": 1, "batch_size": 2, "overlays": 1, "num_workers": 0}
HEART = (44, 36, 4)  # of the cardiac volumes: rows, columns, slices
SPACING = (1.5, 1.5, 8.0)  # mm: what `pixdim` asks for, so that nothing is resampled


def workflow(kind: str, names: str | list[str], configs: Path = CONFIGS, **override: Any) -> ConfigWorkflow:
    """A MONAI workflow of this bundle from its configs' names; `kind` is "train" or "infer"."""
    return running.workflow(configs, kind, names, **override)


def train(data: Path, output: Path, names: str | list[str] = "train", **override: Any) -> ConfigWorkflow:
    """Train on a data set, in this process."""
    return finish(workflow("train", names, dataset_dir=str(data), output_dir=str(output), **{**TRAIN, **override}))


def infer(output: Path, weights: Path, names: str | list[str] = "inference", **override: Any) -> ConfigWorkflow:
    """Segment, in this process."""
    return finish(workflow("infer", names, output_dir=str(output), ckpt_dir=str(weights), **{**INFER, **override}))


def make_heart(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume (int16) and its label map: a bright pool in a dark ring, a second pool beside it, and noise."""
    random = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.arange(n) for n in HEART), indexing="ij")
    left = np.hypot(x - 24 - seed % 3, y - 20 + 0.3 * z)
    right = np.hypot(x - 11 - seed % 3, y - 18)
    label = np.select([left < 5, left < 8, right < 5], [1, 2, 3], 0).astype(np.uint8)
    image = np.array([200, 700, 100, 650])[label] + random.normal(0, 30, HEART)
    return image.astype(np.int16), label


def write_hearts(folder: Path) -> Path:
    """Four cases of a source vendor and one of each of two others, as NIfTI with a data list; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "testing": []}
    places = [("training", "A"), ("training", "A"), ("training", "A"), ("validation", "A")]
    places += [("testing", "B"), ("testing", "C")]
    for seed, (split, vendor) in enumerate(places):
        for name, array in zip(("image", "label"), make_heart(seed)):
            nib.save(nib.Nifti1Image(array, np.diag([*SPACING, 1])), folder / f"p{seed}_{name}.nii.gz")
        item = {"image": f"p{seed}_image.nii.gz", "label": f"p{seed}_label.nii.gz", "domain": vendor}
        lists[split].append({**item, "case_id": f"p{seed}"})
    (folder / "dataset.json").write_text(json.dumps(lists))
    return folder
