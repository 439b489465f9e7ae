"""How the tests use a released bundle: tiny data, and every verb in a process that knows nothing of the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import shared
from tests.bundles.brainsegdmlf.helpers import write_case
from tests.bundles.running import ROOT, environment

NAMES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/train.json"))
SMALL: dict[str, dict[str, Any]] = {
    "brainsegdmlf": {"patch_size": [32, 32]},
    "emclip": {"image_size": [32, 32]},
    "tmca": {"image_size": 64},
}
SHORT: dict[str, dict[str, Any]] = {
    "brainsegdmlf": {"patches_per_volume": 1},
    "emclip": {"batch_size": 2, "cluster_pictures": 0},
    "tmca": {"batch_size": 2},
}
TRAIN: dict[str, Any] = {"epochs": 1, "val_interval": 1, "overlays": 0, "num_workers": 0}
SPLITS = ("training", "training", "validation", "testing")


def write_pictures(folder: Path, disc: int, cup: int, text: str | None) -> None:
    """Four pictures of 48 x 40 with a disc, and a cup in it where that has a value of its own."""
    folder.mkdir()
    lists: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    rows, columns = np.mgrid[:40, :48]
    for number, split in enumerate(SPLITS):
        away = np.hypot(rows - 18 - number, columns - 24 + number)
        label = np.select([away < 5, away < 11], [cup, disc], 0).astype(np.uint8)
        noise = np.random.default_rng(number).integers(0, 40, (40, 48, 3))
        picture = (noise + 60 + 100 * (label > 0)[..., None] + 50 * (label == cup)[..., None]).astype(np.uint8)
        Image.fromarray(picture if text is None else picture[..., 0]).save(folder / f"p{number}.png")
        Image.fromarray(label).save(folder / f"p{number}_label.png")
        item = {"image": f"p{number}.png", "label": f"p{number}_label.png", "domain": "ab"[split == "testing"]}
        lists[split].append({**item, **({} if text is None else {"text": text})})
    (folder / "dataset.json").write_text(json.dumps(lists))


def write_volumes(folder: Path) -> None:
    """Four brains of four sequences."""
    lists: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for number, split in enumerate(SPLITS):
        lists[split].append({"case_id": f"p{number}", **write_case(folder, f"p{number}", number)})
    (folder / "dataset.json").write_text(json.dumps(lists))


WRITE: dict[str, Callable[[Path], None]] = {
    "brainsegdmlf": write_volumes,
    "emclip": lambda folder: write_pictures(folder, 100, 200, None),
    "tmca": lambda folder: write_pictures(folder, 1, 1, "one infected area, lower left lung."),
}


@dataclass
class Release:
    """Files of a release, and what a user does with them."""

    folder: Path
    cache: Callable[[str], Any]

    @property
    def zips(self) -> dict[str, Path]:
        """The zip of each bundle."""
        return {name: self.folder / "dist" / f"{name}_v{shared.__version__}.zip" for name in NAMES}

    def data(self, name: str) -> Path:
        """A tiny data set for a bundle; made once."""
        folder = self.folder / "data" / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            WRITE[name](folder)
        return folder

    def used(self, name: str) -> dict[str, Any]:
        """What became of a bundle that was used from its zip alone, see `VERBS`; done once."""
        return self.cache(name)


VERBS = """
import json, os, shutil, sys
from pathlib import Path
from monai.bundle import ConfigWorkflow, load, run
name, bundle, data, small, short = json.loads(sys.argv[1])
configs, here = Path(bundle) / "configs", Path.cwd()
places = {"device": "cpu", "amp": False, **small}
run(config_file=str(configs / "train.json"), dataset_dir=data, output_dir="trained", **places, **short)
import shared
found = {"shared": shared.__file__, "package": sys.modules[name].__file__}
weights = {"dataset_dir": data, "ckpt_dir": str(here / "trained" / "models")}
if (configs / "evaluate.json").is_file():
    both = [str(configs / f"{verb}.json") for verb in ("train", "evaluate")]
    run(config_file=both, output_dir="evaluated", **weights, **places)
if (configs / "inference.json").is_file():
    run(config_file=str(configs / "inference.json"), output_dir="segmented", **weights, **places)
    os.chdir("/")
    config = str(configs / "inference.json")
    flow = ConfigWorkflow(config, workflow_type="infer", output_dir=str(here / "flow"), **weights, **places)
    flow.initialize()
    found["missing"] = flow.check_properties()
    flow.run()
    flow.finalize()
if not (Path(bundle) / "models" / "model.pt").is_file():  # none is shipped yet
    (Path(bundle) / "models").mkdir(exist_ok=True)
    shutil.copy(here / "trained" / "models" / "model.pt", Path(bundle) / "models")
os.chdir("/")
found["parameters"] = sum(p.numel() for p in load(name, bundle_dir=str(Path(bundle).parent)).parameters())
(here / "found.json").write_text(json.dumps(found))
"""


SEVERAL = """
import json, sys
from pathlib import Path
sys.path = [folder for folder in sys.path if folder]
from monai.bundle import ConfigWorkflow
(bundles, later), found = json.loads(sys.argv[1]), {}
for name, (bundle, data, weights, small) in bundles.items():
    config = Path(bundle) / "configs" / "inference.json"
    places = {"dataset_dir": data, "ckpt_dir": weights, "output_dir": name, "device": "cpu", "amp": False}
    flow = ConfigWorkflow(str(config), workflow_type="infer", **places, **small)
    flow.initialize()
    flow.run()
    flow.finalize()
    found[name] = type(flow.network_def).__module__, sys.modules[name].__file__
Path("found.json").write_text(json.dumps(found))
if later:
    ConfigWorkflow(later, workflow_type="infer").initialize()
"""


def python(script: str, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess:
    """Run a script in a process that knows nothing of the repository; arguments as one JSON text."""
    cwd.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", script, json.dumps(arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
