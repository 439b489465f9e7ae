"""A folder is all that a new bundle needs: a fourth one is checked, trained, used and packed."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import shared
from tests.bundles.running import ROOT, environment
from tests.warm import run_module

NAME = "toy"
MODEL = "tmca"  # the bundle whose prepare.py and start of a config are copied, as CONTRIBUTING.md says
CODE = {
    "__init__.py": '"""A bundle of the tests: bright squares."""\n',
    "network.py": '''"""A threshold that is learnt."""

from torch import Tensor, nn


class Threshold(nn.Conv2d):
    """One logit per position from its grey value."""

    def __init__(self) -> None:
        super().__init__(1, 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image - 0.5)
''',
    "data.py": '''"""Squares, and their list."""

import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from shared.datasets import cases
from shared.datasets.preflight import preflight as preflight


def make_squares(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"s{number}" for number in range(8)]
    for number, name in enumerate(names):
        mask = np.zeros((32, 32), np.uint8)
        mask[number : number + 16, 8:24] = 1
        Image.fromarray(mask * 180 + 40).save(folder / f"{name}.png")
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
    pairs = [{"image": f"{name}.png", "label": f"{name}_mask.png"} for name in names]
    lists = {"training": pairs[:4], "validation": pairs[4:6], "testing": [{"image": p["image"]} for p in pairs[6:]]}
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder / "dataset.json"


load_split = partial(cases.load_split, maker=make_squares)
load_input = partial(cases.load_input, maker=make_squares)
''',
}
SETTINGS = {
    "dataset_dir": "@builtin_dir",
    "builtin_dir": "$@bundle_root + '/data/phantoms'",
    "device": "cpu",
    "network_def": {"_target_": "toy.network.Threshold", "_requires_": "@code"},
    "network": "$@network_def.to(@device)",
}
IMAGE = {"_target_": "shared.io.pictures.LoadPictured", "_requires_": "@code", "keys": "image", "grey": True}
LABEL = {"_target_": "shared.io.pictures.LoadPictureLabeld", "_requires_": "@code", "keys": "label", "labels": [0, 1]}
MASK = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]
MASK += [{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]


def loader(items: str, *loading: dict[str, Any], batch_size: int = 1) -> dict[str, Any]:
    steps = {"_target_": "Compose", "transforms": list(loading)}
    dataset = {"_target_": "Dataset", "data": items, "transform": steps}
    return {"_target_": "DataLoader", "dataset": dataset, "batch_size": batch_size}


def items(split: str) -> dict[str, Any]:
    places = {"dataset_dir": "@dataset_dir", "builtin_dir": "@builtin_dir"}
    return {"_target_": "toy.data.load_split", "_requires_": "@code", "split": split, **places}


TRAIN = {
    **SETTINGS,
    "output_dir": "$@bundle_root + '/output/train'",
    "ckpt_dir": "$@output_dir + '/models'",
    "epochs": 60,
    "training_items": items("training"),
    "validation_items": items("validation"),
    "preflight": {
        "_target_": "toy.data.preflight",
        "_mode_": "callable",
        "items": ["@training_items", "@validation_items"],
        "channels": ["image"],
        "output_dir": "@output_dir",
        "labels": [0, 1],
        "pictures": True,
    },
    "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": 0.3},
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": loader("@validation_items", IMAGE, LABEL),
        "network": "@network",
        "postprocessing": {"_target_": "Compose", "transforms": MASK},
        "key_val_metric": {"val_mean_dice": {"_target_": "shared.results.validation_dice.MeanCaseDice"}},
    },
    "checkpoints": {
        "_target_": "shared.engine.checkpoints.RunCheckpoint",
        "ckpt_dir": "@ckpt_dir",
        "network": "@network",
        "optimizer": "@optimizer",
        "lr_scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR", "optimizer": "@optimizer", "factor": 1},
        "evaluator": "@evaluator",
    },
    "validation": {"_target_": "shared.engine.validation.Validation", "validator": "@evaluator", "interval": "@epochs"},
    "trainer": {
        "_target_": "SupervisedTrainer",
        "device": "@device",
        "max_epochs": "@epochs",
        "train_data_loader": loader("@training_items", IMAGE, LABEL, batch_size=4),
        "network": "@network",
        "optimizer": "@optimizer",
        "loss_function": {"_target_": "DiceCELoss", "sigmoid": True},
        "train_handlers": ["@validation", "@checkpoints"],
    },
    "initialize": ["$@start()"],
    "run": ["$@preflight()", "$@trainer.run()"],
}
INFERENCE = {
    **SETTINGS,
    "input": None,
    "split": "testing",
    "output_dir": "$@bundle_root + '/output/inference'",
    "ckpt_dir": "$@bundle_root + '/output/train/models'",
    "items": {**items("@split"), "_target_": "toy.data.load_input", "input": "@input"},
    "load_weights": {
        "_target_": "shared.backbones.checkpoint.load_weights",
        "_mode_": "callable",
        "network": "@network",
        "path": "$@ckpt_dir + '/model.pt'",
    },
    "predictions": {
        "_target_": "shared.results.predictions.PredictionHandler",
        "output_dir": "@output_dir",
        "items": "@items",
        "channels": ["image"],
        "class_names": ["square"],
        "grey": True,
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": loader("@items", IMAGE),
        "network": "@network",
        "postprocessing": {"_target_": "Compose", "transforms": MASK},
        "val_handlers": ["@predictions"],
    },
    "initialize": ["$@start()", "$@load_weights()"],
    "run": ["$@evaluator.run()", "$@predictions.summary()"],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout whose only bundle is the new one."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    bundle, model = folder / "bundles" / NAME, ROOT / "bundles" / MODEL
    (bundle / "configs").mkdir(parents=True)
    (bundle / NAME).mkdir()
    shutil.copy(model / "LICENSE", bundle / "LICENSE")
    shutil.copy(model / MODEL / "prepare.py", bundle / NAME / "prepare.py")
    for file, text in CODE.items():
        (bundle / NAME / file).write_text(text, encoding="utf-8")
    metadata = {"version": shared.__version__, "changelog": {shared.__version__: "squares"}}
    write(bundle / "configs" / "metadata.json", metadata)
    for config, content in (("train", TRAIN), ("inference", INFERENCE)):
        text = (model / "configs" / f"{config}.json").read_text(encoding="utf-8").replace(MODEL, NAME)
        beginning = {key: json.loads(text)[key] for key in ("imports", "reader", "bundle_root", "code", "start")}
        write(bundle / "configs" / f"{config}.json", {**beginning, **content})
    epochs = {"type": "integer", "minimum": 1, "description": "Number of passes over the training cases."}
    write(bundle / "configs" / "options.schema.json", {"type": "object", "properties": {"epochs": epochs}})
    return folder


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")


def python(checkout: Path, *words: str, status: int = 0) -> str:
    """Run ``python -m`` in the checkout; return what it printed."""
    done = run_module(*words, cwd=checkout, environment=environment())
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(checkout: Path, config: str, *words: str) -> str:
    return python(checkout, "monai.bundle", "run", "--config_file", f"bundles/{NAME}/configs/{config}.json", *words)


@pytest.mark.slow
def test_a_new_folder_is_a_bundle(checkout):
    assert "toy train: ready" in python(checkout, "shared", "check", NAME)
    assert "'epochs' is 0: it must be at least 1" in python(
        checkout, "shared", "check", NAME, "--epochs", "0", status=1
    )
    assert "Number of passes" in python(checkout, "shared", "options", NAME)

    run(checkout, "train")
    run(checkout, "inference")
    results = checkout / "bundles" / NAME / "output" / "inference"
    for entry in json.loads((results / "predictions.json").read_text(encoding="utf-8")):
        with Image.open(entry["image"][0]) as image, Image.open(results / entry["prediction"]) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, np.asarray(image) > 128)

    python(checkout, "shared", "package")
    with zipfile.ZipFile(checkout / "dist" / f"{NAME}_v{shared.__version__}.zip") as archive:
        assert {"toy/toy/network.py", "toy/configs/train.json", "toy/shared/__init__.py"} <= set(archive.namelist())
