"""Whatever a user gives wrongly: one clear line before anything begins, and nothing is lost on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.bundles import bad_input
from tests.bundles.bad_input import (
    assert_command_refused,
    assert_inference_refused,
    assert_training_refused,
    broken_dataset_json,
    broken_weights,
    empty_training,
    many_epochs,
    missing_picture,
    mistyped,
    no_dataset_json,
    no_initial_weights,
    no_label,
    no_picture,
    no_weights,
    output_under_a_file,
    truncated_picture,
    unknown_split,
)
from tests.bundles.running import assert_one_line, finish, input_error, table
from tests.bundles.tmca.helpers import CONFIGS, INFER, NETWORK, QUIET, SENTENCE, TRAIN, train, workflow


class Place(bad_input.Place):
    """The X-ray to spoil."""

    @property
    def picture(self) -> Path:
        return self.data / "training" / "chest_001.png"

    @property
    def label(self) -> Path:
        return self.data / "training" / "chest_001_mask.png"


def mask_of_greys(place):
    array = 255 * np.asarray(Image.open(place.label))
    array[:9, :9] = 7
    Image.fromarray(array).save(place.label)


def mask_of_another_size(place):
    Image.open(place.label).resize((50, 60), 0).save(place.label)


def text_of_numbers(place):
    place.lists(lambda lists: lists["training"][1].update(text=[1, 2]))


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


def two_image_sizes(place):
    place.override["image_size"] = [64, 64]


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
    return bad_input.make_place(Place, data_dir, weights_dir, tmp_path)


@table(TRAINING)
def test_training(spoil, parts, place, monkeypatch):
    assert_training_refused(spoil, parts, place, workflow, TRAIN, monkeypatch)


@table(INFERENCE)
def test_inference(spoil, parts, place):
    assert_inference_refused(spoil, parts, place, workflow, INFER)


def test_several_problems_come_at_once(place):
    missing_picture(place)
    (place.data / "training" / "chest_002_mask.png").unlink()
    (place.data / "validation" / "chest_006.png").unlink()
    flow = workflow("train", "train", **place.training(TRAIN))
    assert len(input_error(finish, flow).splitlines()) == 3


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
    line = input_error(lambda: finish(workflow("infer", "inference", **place.inference(INFER))))
    assert_one_line(line, ["belong to another network", "missing"])
    finish(workflow("infer", ["inference", "image_only"], **place.inference({**INFER, "overlays": False})))


@pytest.mark.slow
@table([row for row in TRAINING if row[0] is unknown_backbone])
def test_command_line(spoil, parts, place):
    assert_command_refused(spoil, parts, place, CONFIGS, TRAIN)
