"""What a user can give wrongly to any bundle, and how a refusal has to look; the bundles' tables add their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from monai.bundle import ConfigWorkflow

from shared.engine.run_folder import save_checkpoint
from tests.bundles.running import PLAIN, assert_lines, assert_one_line, files, finish, input_error, options, run_bundle

Workflow = Callable[..., ConfigWorkflow]  # `workflow` of a bundle's helpers


@dataclass
class Place:
    """A copy of the data set to spoil, and the overrides of the run that meets it."""

    folder: Path
    output: Path
    weights: Path
    monkeypatch: pytest.MonkeyPatch
    override: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def lists(self, change: Callable[[dict], Any]) -> None:
        file = self.data / "dataset.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        change(content)
        file.write_text(json.dumps(content), encoding="utf-8")

    def training(self, options: dict[str, Any]) -> dict[str, Any]:
        """The overrides of a training."""
        return {"dataset_dir": str(self.data), "output_dir": str(self.output), **options, **self.override}

    def inference(self, options: dict[str, Any]) -> dict[str, Any]:
        """The overrides of an inference."""
        return self.training({"ckpt_dir": str(self.weights), **options})


Kind = TypeVar("Kind", bound=Place)


class PicturePlace(Place):
    """A place with pictures: the one to spoil, and its label."""

    @property
    def picture(self) -> Path:
        return self.data / "p1.png"

    @property
    def label(self) -> Path:
        return self.data / "p1_label.png"


def make_place(
    kind: type[Kind], data_dir: Path, weights_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Kind:
    """Copies of data and weights in `folder`, and an output folder with an earlier run to lose."""
    shutil.copytree(data_dir, folder / "data")
    shutil.copytree(weights_dir, folder / "weights")
    (folder / "output" / "models").mkdir(parents=True)
    for name in ("last.pt", "model.pt"):
        save_checkpoint({"epochs": torch.tensor(7)}, folder / "output" / "models" / name, "earlier training")
    return kind(folder, folder / "output", folder / "weights", monkeypatch)


def assert_refused(
    spoil: Callable[[Any], None], parts: list[Any], place: Place, workflow: Workflow, kind: str, options: dict[str, Any]
) -> None:
    """One line a problem, before the first step, and every file as it was."""
    spoil(place)
    before = files(place.folder)
    place.monkeypatch.setattr("monai.engines.SupervisedTrainer.run", lambda self: pytest.fail("training began"))
    names, given = ("train", place.training(options)) if kind == "train" else ("inference", place.inference(options))
    assert_lines(input_error(lambda: finish(workflow(kind, names, **given))), parts)
    after = {name: content for name, content in files(place.folder).items() if "tensorboard" not in name}
    assert after == before


def assert_command_refused(
    spoil: Callable[[Any], None], parts: list[str], place: Place, configs: Path, train: dict[str, Any]
) -> None:
    """A real process: exit code 1, one line, no traceback. MONAI's own warning about trust may come before it."""
    spoil(place)
    settings = options(place.training({**train, **PLAIN}))
    done = run_bundle("--config_file", str(configs / "train.json"), *settings, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    assert_one_line(last, parts)


def no_label(place):
    place.lists(lambda lists: lists["training"][1].pop("label"))


def empty_training(place):
    place.lists(lambda lists: lists.update(training=[]))


def no_dataset_json(place):
    (place.data / "dataset.json").unlink()


def broken_dataset_json(place):
    (place.data / "dataset.json").write_text('{"training": [', encoding="utf-8")


def mistyped(place):
    place.override["output_dirr"] = "x"


def many_epochs(place):
    place.override["epochs"] = "many"


def output_under_a_file(place):
    (place.folder / "file").write_text("", encoding="utf-8")
    place.override["output_dir"] = str(place.folder / "file" / "run")


def unknown_split(place):
    place.override["split"] = "test"


def no_initial_weights(place):
    place.override["weights"] = str(place.weights / "model_2.pt")


def no_weights(place):
    (place.weights / "model.pt").unlink()


def broken_weights(place):
    (place.weights / "model.pt").write_bytes(b"not a checkpoint")


def missing_picture(place):
    place.picture.unlink()


def truncated_picture(place):
    place.picture.write_bytes(place.picture.read_bytes()[:40])


def no_picture(place):
    place.picture.write_bytes(b"PATIENT,AGE\n")


def no_room(place):
    usage = shutil.disk_usage(place.folder)._replace(free=1e6)
    place.monkeypatch.setattr("shutil.disk_usage", lambda path: usage)


def no_such_place(place):
    """Where nobody, root included, may write."""
    place.override["output_dir"] = "/proc/run"


def no_epochs(place):
    place.override["epochs"] = 0


def no_such_device(place):
    place.override["device"] = "cuda:77"
