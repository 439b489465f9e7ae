"""What the tests of this bundle share: where it is, how to run it, and how small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow
from scipy.ndimage import binary_dilation

from tests.bundles import running
from tests.bundles.running import ROOT, finish

BUNDLE = ROOT / "bundles" / "brainsegdmlf"
CONFIGS = BUNDLE / "configs"
CHANNELS = ("flair", "t1", "t1ce", "t2")
SHAPE = (40, 48, 6)  # of the tiny cases, in RAS
SPACING = (1.0, 1.0, 3.0)  # mm: what `pixdim` asks for, so that nothing is resampled
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


def make_case(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Four sequences (int16) and a label map in RAS: an ellipsoid in air, with two balls that are bright in FLAIR."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    head = (grid**2).sum(0) < 0.9
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    label = np.zeros(SHAPE, np.int16)
    for centre in ((12 + seed % 3, 18, 2), (27, 30 - seed % 4, 3)):
        away = (voxels - np.array(centre).reshape(3, 1, 1, 1)) * np.array([1, 1, 2.5]).reshape(3, 1, 1, 1)
        label[(away**2).sum(0) < 20] = 1
    rim = binary_dilation(label) & (label == 0)
    contrast = {"flair": 300, "t1": -80, "t1ce": -40, "t2": 200}
    images = {}
    for number, (name, lesion) in enumerate(contrast.items()):
        smooth = 30 * np.sin(3 * grid[0] + number) + 20 * np.cos(2 * grid[1] + seed)
        image = 400 + 50 * number + smooth + lesion * label + 0.3 * lesion * rim + random.normal(0, 8, SHAPE)
        images[name] = np.where(head, image, 0).astype(np.int16)
    return images, (label * head).astype(np.uint8)


def affine(angle: float = 0.0) -> np.ndarray:
    """RAS mm of a grid with `SPACING`, tilted about the left-right axis by `angle` degrees."""
    turn = np.deg2rad(angle)
    tilt = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    result = np.eye(4)
    result[:3, :3] = tilt @ np.diag(SPACING)
    result[:3, 3] = [-18.5, -25, -7]
    return result


def stored(array: np.ndarray, codes: str = "RAS", angle: float = 0.0) -> nib.Nifti1Image:
    """An array in RAS as a file with the axes `codes`; the same place in space."""
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    image = nib.Nifti1Image(array, affine(angle))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted))
    return nib.Nifti1Image(np.asanyarray(turned.dataobj), turned.affine)


def write_case(folder: Path, name: str, seed: int, codes: str = "RAS", angle: float = 0.0) -> dict[str, Any]:
    """Write one case; return its item with paths relative to `folder`."""
    images, label = make_case(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for sequence, array in [*images.items(), ("seg", label)]:
        nib.save(stored(array, codes, angle), folder / f"{name}_{sequence}.nii.gz")
    return {"image": [f"{name}_{sequence}.nii.gz" for sequence in CHANNELS], "label": f"{name}_seg.nii.gz"}


def in_ras(path: Path) -> np.ndarray:
    """A file's voxels with the axes turned to RAS."""
    return np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())
