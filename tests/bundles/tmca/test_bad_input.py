"""Whatever a user gives wrongly: one clear line before anything begins, and nothing is lost on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.bundles.running import PLAIN, assert_one_line, files, finish, input_error, options, run_bundle, table
from tests.bundles.tmca.helpers import CONFIGS, INFER, NETWORK, QUIET, SENTENCE, TRAIN, train, workflow


@dataclass
class Place:
    """A copy of the data set to spoil, and the overrides of the run that meets it."""

    folder: Path
    output: Path
    weights: Path
    override: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def picture(self) -> Path:
        return self.data / "training" / "chest_001.png"

    @property
    def label(self) -> Path:
        return self.data / "training" / "chest_001_mask.png"

    def lists(self, change: Callable[[dict], Any]) -> None:
        file = self.data / "dataset.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))


def missing_picture(place):
    place.picture.unlink()


def truncated_picture(place):
    place.picture.write_bytes(place.picture.read_bytes()[:40])


def no_picture(place):
    place.picture.write_bytes(b"PATIENT,AGE\n")


def no_label(place):
    place.lists(lambda lists: lists["training"][1].pop("label"))


def mask_of_greys(place):
    array = 255 * np.asarray(Image.open(place.label))
    array[:9, :9] = 7
    Image.fromarray(array).save(place.label)


def mask_of_another_size(place):
    Image.open(place.label).resize((50, 60), 0).save(place.label)


def text_of_numbers(place):
    place.lists(lambda lists: lists["training"][1].update(text=[1, 2]))


def empty_training(place):
    place.lists(lambda lists: lists.update(training=[]))


def no_dataset_json(place):
    (place.data / "dataset.json").unlink()


def broken_dataset_json(place):
    (place.data / "dataset.json").write_text('{"training": [')


def unknown_backbone(place):
    place.override["backbone"] = "resnet19"


def backbone_of_one_stride(place):
    place.override["backbone"] = "vit_tiny_patch16_224"


def no_backbone_file(place):
    place.override["checkpoint"] = str(place.folder / "resnet.pth")


def unknown_text_encoder(place):
    place.override["text_encoder"] = "clip_tinny"


def no_text_folder(place):
    place.override["text_encoder"] = str(place.folder / "bert")


def text_folder_without_weights(place):
    (place.folder / "bert").mkdir()
    (place.folder / "bert" / "config.json").write_text('{"model_type": "bert"}')
    place.override["text_encoder"] = str(place.folder / "bert")


def unknown_alignment(place):
    place.override["alignment"] = "multi-level"


def unknown_targets(place):
    place.override["targets"] = "smooth"


def unknown_tuning(place):
    place.override["text_tuning"] = "freeze"


def mistyped(place):
    place.override["output_dirr"] = "x"


def many_epochs(place):
    place.override["epochs"] = "many"


def two_image_sizes(place):
    place.override["image_size"] = [64, 64]


def output_under_a_file(place):
    (place.folder / "file").write_text("")
    place.override["output_dir"] = str(place.folder / "file" / "run")


def no_initial_weights(place):
    place.override["weights"] = str(place.weights / "model_2.pt")


def no_weights(place):
    (place.weights / "model.pt").unlink()


def broken_weights(place):
    (place.weights / "model.pt").write_bytes(b"not a checkpoint")


def weights_of_an_ablation(place):
    place.override["enhancement"] = False


def no_input(place):
    place.override |= {"input": str(place.data / "testing" / "chest_9.png"), "text": SENTENCE}


def a_volume_for_a_picture(place):
    (place.folder / "chest.nii.gz").write_bytes(b"\x1f\x8b\x08\x00 a volume")
    place.override["input"] = str(place.folder / "chest.nii.gz")


def text_without_input(place):
    place.override["text"] = SENTENCE


def text_of_one_number(place):
    place.override |= {"input": str(place.picture), "text": 3}


def unknown_split(place):
    place.override["split"] = "test"


CASE = "case chest_001"
TRAINING = [
    (missing_picture, [CASE, "chest_001.png not found", "correct the path"]),
    (truncated_picture, [CASE, "chest_001.png cannot be read", "give a PNG"]),
    (no_picture, [CASE, "chest_001.png cannot be read", "give a PNG"]),
    (no_label, [CASE, "has no label", "add one"]),
    (mask_of_greys, [CASE, "chest_001_mask.png", "the values 7, 255 where 0, 1 are declared", "remap"]),
    (mask_of_another_size, [CASE, "is 50 x 60 pixels where the picture is 224 x 224", "in the picture's own size"]),
    (text_of_numbers, [CASE, "text is no string but a list ([1, 2])", "give a sentence"]),
    (empty_training, ["split 'training' is empty", "dataset.json", "validation, testing"]),
    (no_dataset_json, ["no dataset.json in", "write one"]),
    (broken_dataset_json, ["dataset.json", "is not JSON", "correct or rewrite"]),
    (unknown_backbone, ["unknown backbone 'resnet19'", "did you mean resnet18"]),
    (backbone_of_one_stride, ["backbone vit_tiny_patch16_224", "choose a convolutional one"]),
    (no_backbone_file, ["resnet.pth", "there is no file", "give the path"]),
    (unknown_text_encoder, ["unknown text encoder 'clip_tinny'", "did you mean clip_tiny", "Hugging Face"]),
    (no_text_folder, ["bert", "no such folder"]),
    (text_folder_without_weights, ["bert", "the folder has no weights", "model.safetensors"]),
    (unknown_alignment, ["unknown alignment 'multi-level'", "off, global, multilevel"]),
    (unknown_targets, ["unknown targets 'smooth'", "soft, hard"]),
    (unknown_tuning, ["'freeze'", "frozen"]),
    (mistyped, ["unknown override 'output_dirr'", "did you mean 'output_dir'?"]),
    (many_epochs, ["override 'epochs' is 'many' where a whole number is expected"]),
    (two_image_sizes, ["override 'image_size' is [64, 64]", "a whole number"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
    (no_initial_weights, ["model_2.pt not found"]),
]
INFERENCE = [
    (no_weights, ["model.pt not found", "--ckpt_dir"]),
    (broken_weights, ["model.pt cannot be read", "download or train again"]),
    (weights_of_an_ablation, ["model.pt belong to another network", "enhancements", "options they were trained with"]),
    (no_input, ["chest_9.png not found", "correct the path"]),
    (a_volume_for_a_picture, ["chest.nii.gz cannot be read", "give a PNG"]),
    (text_without_input, ["--text is the sentence of one picture", "--input"]),
    (text_of_one_number, ["text is no string but a int (3)"]),
    (unknown_split, ["split 'test' is missing", "splits with items: training, validation, testing"]),
    (mistyped, ["unknown override 'output_dirr'", "did you mean 'output_dir'?"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
]


@pytest.fixture
def place(data_dir, weights_dir, tmp_path) -> Place:
    shutil.copytree(data_dir, tmp_path / "data")
    shutil.copytree(weights_dir, tmp_path / "weights")
    (tmp_path / "output" / "models").mkdir(parents=True)
    for name in ("last.pt", "model.pt"):
        (tmp_path / "output" / "models" / name).write_bytes(b"hours of an earlier run")
    return Place(tmp_path, tmp_path / "output", tmp_path / "weights")


@table(TRAINING)
def test_training(spoil, parts, place, monkeypatch):
    spoil(place)
    before = files(place.folder)
    monkeypatch.setattr("monai.engines.SupervisedTrainer.run", lambda self: pytest.fail("training began"))
    settings = {"dataset_dir": str(place.data), "output_dir": str(place.output), **TRAIN, **place.override}
    assert_one_line(input_error(lambda: finish(workflow("train", "train", **settings))), parts)
    after = {name: content for name, content in files(place.folder).items() if "tensorboard" not in name}
    assert after == before


@table(INFERENCE)
def test_inference(spoil, parts, place):
    spoil(place)
    before = files(place.folder)
    settings = {"dataset_dir": str(place.data), "output_dir": str(place.output), "ckpt_dir": str(place.weights)}
    line = input_error(lambda: finish(workflow("infer", "inference", **{**settings, **INFER, **place.override})))
    assert_one_line(line, parts)
    assert files(place.folder) == before


def test_several_problems_come_at_once(place):
    missing_picture(place)
    (place.data / "training" / "chest_002_mask.png").unlink()
    (place.data / "validation" / "chest_006.png").unlink()
    settings = {"dataset_dir": str(place.data), "output_dir": str(place.output), **TRAIN}
    assert len(input_error(lambda: finish(workflow("train", "train", **settings))).splitlines()) == 3


def test_masks_of_0_and_255(place):
    """As QaTa's own files are: said in an option, they train as masks of 0 and 1."""
    for file in place.data.glob("*/*_mask.png"):
        Image.fromarray(255 * np.asarray(Image.open(file))).save(file)
    train(place.data, place.folder / "run", labels=[0, 255], **QUIET)
    assert pd.read_csv(place.folder / "run" / "metrics.csv")["share"].between(0.001, 0.5).all()


def test_no_sentences_are_said_once(place, capsys):
    """Training goes on by the images alone."""

    def without(lists):
        for split in ("training", "validation"):
            for item in lists[split]:
                del item["text"]

    place.lists(without)
    (place.folder / "own").mkdir()
    lists = json.loads((place.data / "dataset.json").read_text())
    lists = {k: [{x: str(place.data / y) for x, y in i.items()} for i in lists[k]] for k in ("training", "validation")}
    for item in [*lists["training"], *lists["validation"]]:
        del item["case_id"]
    (place.folder / "own" / "dataset.json").write_text(json.dumps(lists))
    train(place.folder / "own", place.folder / "run", **QUIET)
    said = [line for line in capsys.readouterr().err.splitlines() if "no sentence" in line]
    assert len(said) == 1 and '9 of 9 cases have no sentence (key "text")' in said[0]
    assert pd.read_csv(place.folder / "run" / "sentences.csv")["sentence"].unique().tolist() == ["none"]


def test_weights_of_the_image_only_twin_need_its_file(place):
    network = workflow("infer", ["inference", "image_only"], **NETWORK).parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), place.weights / "model.pt")
    settings = {"dataset_dir": str(place.data), "output_dir": str(place.output), "ckpt_dir": str(place.weights)}
    line = input_error(lambda: finish(workflow("infer", "inference", **settings, **INFER)))
    assert_one_line(line, ["belong to another network", "missing"])
    finish(workflow("infer", ["inference", "image_only"], **settings, **INFER, overlays=False))


@pytest.mark.slow
@table([row for row in TRAINING if row[0] is unknown_backbone])
def test_command_line(spoil, parts, place):
    """A real process: exit code 1, one line, no traceback. MONAI's own warning about trust may come before it."""
    spoil(place)
    settings = {"dataset_dir": place.data, "output_dir": place.output, **TRAIN, **PLAIN, **place.override}
    done = run_bundle("--config_file", str(CONFIGS / "train.json"), *options(settings), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    assert_one_line(last, parts)
