"""What a user can give wrongly to any bundle, and how a refusal has to look; `p1` of four tiny cases is spoilt.

The tables hold what is the same for every bundle, or for every bundle of pictures; each bundle's `bad_input.py` adds
its own. A row is a function that spoils a place, and words of the line that says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from shared.engine.run_folder import save_checkpoint
from tests.bundles.running import (
    PLAIN,
    Bundle,
    assert_lines,
    assert_one_line,
    files,
    finish,
    input_error,
    options,
    run_bundle,
)

Row = tuple[Callable[[Any], None], list[Any]]
CASE = "case p1"


@dataclass
class Place:
    """A copy of the data set to spoil, and the overrides of the run that meets it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    override: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def picture(self) -> Path:
        return self.data / "p1.png"

    @property
    def label(self) -> Path:
        return self.data / "p1_label.png"

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


def make_place(data_dir: Path, weights_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Copies of data and weights in `folder`, and an output folder with an earlier run to lose."""
    shutil.copytree(data_dir, folder / "data")
    shutil.copytree(weights_dir, folder / "weights")
    (folder / "output" / "models").mkdir(parents=True)
    for name in ("last.pt", "model.pt"):
        save_checkpoint({"epochs": torch.tensor(7)}, folder / "output" / "models" / name, "earlier training")
    return Place(folder, monkeypatch)


def assert_refused(spoil: Callable[[Place], None], parts: list[Any], place: Place, bundle: Bundle, config: str) -> None:
    """One line per problem, before the first step, and every file as it was."""
    spoil(place)
    before = files(place.folder)
    place.monkeypatch.setattr("monai.engines.SupervisedTrainer.run", lambda self: pytest.fail("training began"))
    training = config == "train"
    given = place.training(bundle.train_options) if training else place.inference(bundle.infer_options)
    assert_lines(input_error(lambda: finish(bundle.workflow(config, **given))), parts)
    after = {name: content for name, content in files(place.folder).items() if "tensorboard" not in name}
    assert after == before


def assert_command_refused(spoil: Callable[[Place], None], parts: list[str], place: Place, bundle: Bundle) -> None:
    """A real process: exit code 1, one line, no traceback. MONAI's own warning about trust may come before it."""
    spoil(place)
    settings = options(place.training({**bundle.train_options, **PLAIN}))
    done = run_bundle("--config_file", str(bundle.configs / "train.json"), *settings, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    assert_one_line(last, parts)


def table(bundle: Bundle, config: str) -> list[Row]:
    """What a training ("train") or an inference ("inference") of the bundle refuses."""
    own = import_module(f"tests.bundles.{bundle.name}.bad_input")
    if config == "train":
        return [*TRAINING, *(PICTURE_TRAINING if bundle.pictures else []), *own.TRAINING]
    return [*INFERENCE, *(PICTURE_INFERENCE if bundle.pictures else []), *own.INFERENCE]


def no_label(place):
    place.lists(lambda lists: lists["training"][1].pop("label"))


def empty_training(place):
    place.lists(lambda lists: lists.update(training=[]))


def no_dataset_json(place):
    (place.data / "dataset.json").unlink()


def broken_dataset_json(place):
    (place.data / "dataset.json").write_text('{"training": [', encoding="utf-8")


def no_such_folder(place):
    place.override["dataset_dir"] = str(place.folder / "nowhere")


def augmentation_by_word(place):
    place.override["augmentation"] = "lots"


def overlapping_wholly(place):
    place.override["overlap"] = 1.0


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


def label_of_another_size(place):
    Image.open(place.label).resize((50, 60), 0).save(place.label)


def no_input(place):
    place.override["input"] = str(place.data / "p9.png")


def a_volume_for_a_picture(place):
    (place.folder / "brain.nii.gz").write_bytes(b"\x1f\x8b\x08\x00 a volume")
    place.override["input"] = str(place.folder / "brain.nii.gz")


TRAINING: list[Row] = [
    (no_label, [CASE, "has no label", "add one"]),
    (empty_training, ["split 'training' is empty", "dataset.json", "validation, testing"]),
    (no_dataset_json, ["no dataset.json in", "write one"]),
    (broken_dataset_json, ["dataset.json", "is not JSON", "correct or rewrite"]),
    (no_such_folder, ["no dataset.json in", "nowhere"]),
    (mistyped, ["unknown override 'output_dirr'", "did you mean 'output_dir'?"]),
    (many_epochs, ["override 'epochs' is 'many' where a whole number is expected: e.g. --epochs "]),
    (augmentation_by_word, ["override 'augmentation' is 'lots' where a number is expected: e.g. --augmentation "]),
    (no_epochs, ["override 'epochs' is 0", "at least 1"]),
    (no_such_device, ["override 'device' is 'cuda:77', which cannot be used", "this machine has cpu"]),
    (overlapping_wholly, ["override 'overlap' is 1.0: it must be at least 0 and below 1"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
    (no_room, ["output folder", "has 1 MB free where 200 MB are needed", "give another --output_dir"]),
    (no_such_place, ["output folder /proc/run cannot be written", "give another --output_dir"]),
    (no_initial_weights, ["model_2.pt not found", "give --weights"]),
]
INFERENCE: list[Row] = [
    (no_weights, ["model.pt not found", "--ckpt_dir"]),
    (broken_weights, ["model.pt", "not a torch file of plain tensors, or cut short", "download it again"]),
    (unknown_split, ["split 'test' is missing", "splits with items: training, validation, testing"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
]
PICTURE_TRAINING: list[Row] = [
    (missing_picture, [CASE, "p1.png not found", "correct the path"]),
    (truncated_picture, [CASE, "p1.png cannot be read", "give a PNG"]),
    (no_picture, [CASE, "p1.png cannot be read", "give a PNG"]),
    (
        label_of_another_size,
        [CASE, "is 50 x 60 pixels where the picture is 48 x 40", "give the label of this picture", "own size"],
    ),
]
PICTURE_INFERENCE: list[Row] = [
    (no_input, ["p9.png not found", "correct the path"]),
    (a_volume_for_a_picture, ["brain.nii.gz cannot be read", "give a PNG"]),
]
