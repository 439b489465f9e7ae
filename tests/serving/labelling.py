"""MONAI Label's way with a bundle, without MONAI Label, and folders of synthetic images as it serves them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from emclip.phantoms.dataset import make_fundus_case
from monai.bundle import ConfigParser
from monai.transforms import Compose
from PIL import Image
from scipy.ndimage import gaussian_filter
from tmca.phantoms.dataset import make_chest_case

from shared.serving import label_app
from tests.making import HEART_SPACING, brain_image, make_brain

SENTENCES = ("unilateral pulmonary infection, one infected area, upper right lung.", "")
KINDS = {"brainsegdmlf": "brain", "emclip": "eye", "emclip_cardiac": "heart", "tmca": "chest"}


def with_sample_app(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Stand in for MONAI Label, which is not in this environment: its sample app is one file in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text("app = 1\n", encoding="utf-8")
    patch.setattr(label_app, "_sample_app", lambda: {"main.py": folder / "main.py"})


class LabelInfer:
    """The steps of `monailabel.tasks.infer.bundle.BundleInferTask`: the same keys, in the same order."""

    def __init__(self, bundle: Path) -> None:
        self.parser = ConfigParser()
        self.parser.read_config(str(bundle / "configs" / "inference.json"))
        self.parser.get()["bundle_root"] = str(bundle)
        self.network = self.parser.get_parsed_content("network_def")
        self.network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True), strict=False)
        self.network.eval()
        self.result: dict[str, Any] = {}  # what the server would send with the last label map
        self.options = dict(self.parser.get_parsed_content("displayable_configs"))

    def __call__(self, image: Path, **request: Any) -> np.ndarray:
        """Return the label map that the writer would get."""
        data: dict[str, Any] = {**copy.deepcopy(self.options), **request, "image": str(image), "device": "cpu"}
        data["image_path"] = data["image"]
        self.parser.get()["displayable_configs"].update({key: data[key] for key in self.options})
        self.parser.parse()
        self.parser.get()["device"] = "cpu"
        self.parser.ref_resolver.items["device"].config = "cpu"
        for step in self._transforms("preprocessing", "pre_transforms"):
            data = step(data)
        with torch.no_grad():
            data["pred"] = self.parser.get_parsed_content("inferer")(data["image"][None], self.network)[0]
        for step in self._transforms("postprocessing", "post_transforms"):
            data = step(data)
        self.result = data.get("result", {})
        return self._restored(data)

    def _transforms(self, *keys: str) -> list:
        """Return the transforms of the last key that the config has."""
        found: list = []
        for key in keys:
            if self.parser.get(key):
                made = self.parser.get_parsed_content(key)
                found = list(made.transforms) if isinstance(made, Compose) else made
        return found

    @staticmethod
    def _restored(data: dict) -> np.ndarray:
        """Return the label map; MONAI Label would resample one of another shape than the image's."""
        pred = data["pred"]
        shape = tuple(data["image"].meta["spatial_shape"])
        assert tuple(pred.shape[1:]) == shape[-(pred.ndim - 1) :]
        return np.asarray(pred if pred.ndim <= 3 else pred[0])


def train_like_label(bundle: Path, datalist: list[dict[str, str]], validation: int, **override: Any) -> None:
    """Train as `BundleTrainTask` does: split the list, and load the served weights before the other handlers."""
    import monai.bundle

    config = json.loads((bundle / "configs" / "train.json").read_text(encoding="utf-8"))
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": str(bundle / "models" / "model.pt"),
        "load_dict": {"model": "$@network"},
        "strict": False,
    }
    monai.bundle.run(
        run_id="run",
        init_id=None,
        final_id=None,
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "train.json"),
        **{
            "bundle_root": str(bundle),
            "train#trainer#max_epochs": 1,
            "train#dataset#data": datalist[validation:],
            "device": "cpu",
            "train#handlers": [loader, *config["train"]["handlers"]],
            "validate#dataset#data": datalist[:validation],
            **override,
        },
    )


def lies_on(pred: np.ndarray, truth: np.ndarray) -> bool:
    """Tell whether a mask overlaps the truth, and overlaps it better than the truth mirrored in the plane."""
    places = (truth, truth[::-1], truth[:, ::-1])
    right, *wrong = (2 * ((pred > 0) & (t > 0)).sum() / ((pred > 0).sum() + (t > 0).sum()) for t in places)
    return bool(right > max(0.4, *wrong))


def write_studies(folder: Path, kind: str, count: int = 3) -> list[dict[str, str]]:
    """Write images of one kind with labels where the server keeps them; return its list of them."""
    labels = folder / "labels" / "final"
    labels.mkdir(parents=True, exist_ok=True)
    return [WRITERS[kind](folder, labels, number) for number in range(count)]


def _larger(array: np.ndarray, times: int) -> np.ndarray:
    return array.repeat(times, axis=0).repeat(times, axis=1)


def _item(image: Path, label: Path) -> dict[str, str]:
    return {"image": str(image), "label": str(label)}


def _brain(folder: Path, labels: Path, number: int) -> dict[str, str]:
    """Four sequences per case, one file each, in oblique PSR orientation and larger than a window."""
    images, label = make_brain(number)
    for name, array in images.items():
        nib.save(brain_image(_larger(array, 3), "PSR", 9), folder / f"brain{number}_{name}.nii.gz")
    nib.save(brain_image(_larger(label, 3), "PSR", 9), labels / f"brain{number}_flair.nii.gz")
    return _item(folder / f"brain{number}_flair.nii.gz", labels / f"brain{number}_flair.nii.gz")


def _heart(folder: Path, labels: Path, number: int) -> dict[str, str]:
    """A heart between lungs, larger than a window; its size falls from slice to slice, noise rises with `number`."""
    x, y, z = np.meshgrid(np.arange(-16, 176), np.arange(-16, 160), np.arange(6), indexing="ij")
    nearness, shift = 1 - 0.06 * z, 2 * number  # to the base of the heart
    left = np.hypot(x - 88 - shift, y - 74) / nearness
    right = np.hypot((x - 60 - shift) / 1.1, (y - 70) / 1.5) / nearness
    label = np.select([left < 14, left < 21, right < 15], [1, 2, 3], 0).astype(np.uint8)
    body = np.hypot((x - 80) / 76, (y - 72) / 66)
    lungs = (np.hypot((x - 124) / 26, (y - 70) / 44) < 1) | (np.hypot((x - 28) / 20, (y - 76) / 42) < 1)
    around = np.select([body > 1, body > 0.9, right < 17, lungs], [10, 600, 180, 60], 260)
    image = np.where(label > 0, np.array([0, 700, 150, 650])[label], around).astype(float)
    noise = np.random.default_rng(number).normal(0, 25 + 150 * number, image.shape)
    image = gaussian_filter(image, (0.8, 0.8, 0)) + noise
    affine = np.diag([-HEART_SPACING[0], HEART_SPACING[1], HEART_SPACING[2], 1])
    for place, array in ((folder, image.astype(np.int16)), (labels, label)):
        nib.save(nib.Nifti1Image(array, affine), place / f"heart{number}.nii.gz")
    return _item(folder / f"heart{number}.nii.gz", labels / f"heart{number}.nii.gz")


def _eye(folder: Path, labels: Path, number: int) -> dict[str, str]:
    case = make_fundus_case(number, size=160)
    wide = slice(10, 150)  # 140 rows, 160 columns: a transposed label map has another shape
    Image.fromarray(case.image[wide]).save(folder / f"eye{number}.png")
    painted = np.select([case.label == 200, case.label == 100], [2, 1], 0).astype(np.uint8)[wide]
    Image.fromarray(painted).save(labels / f"eye{number}.png")
    return _item(folder / f"eye{number}.png", labels / f"eye{number}.png")


def _chest(folder: Path, labels: Path, number: int) -> dict[str, str]:
    case = make_chest_case(number)
    tall = slice(8, case.image.shape[1] - 8)
    for place, array in ((folder, case.image), (labels, case.label)):  # larger than a window
        Image.fromarray(_larger(array[:, tall], 2)).save(place / f"chest{number}.png")
    (folder / f"chest{number}.txt").write_text(case.text + "\n", encoding="utf-8")
    return _item(folder / f"chest{number}.png", labels / f"chest{number}.png")


WRITERS = {"brain": _brain, "heart": _heart, "eye": _eye, "chest": _chest}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return array and affine of a volume; of a picture, the array (H, W) and the identity."""
    if path.name.endswith(".png"):
        with Image.open(path) as image:
            return np.asarray(image), np.eye(4)
    volume: Any = nib.load(path)
    return np.asarray(volume.dataobj), volume.affine
