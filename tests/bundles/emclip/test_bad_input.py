"""Whatever a user gives wrongly: one clear line before anything begins, and nothing is lost on disk."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data import pictures
from tests.bundles.emclip.helpers import CONFIGS, INFER, QUIET, SENTENCES, TRAIN, train, workflow
from tests.bundles.running import PLAIN, assert_one_line, files, finish, input_error, options, run_bundle, table


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
        return self.data / "camera_a" / "eye_001.png"

    @property
    def label(self) -> Path:
        return self.data / "camera_a" / "eye_001_label.png"

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


def undeclared_label(place):
    array = np.asarray(Image.open(place.label)).copy()
    array[:9, :9] = 7
    Image.fromarray(array).save(place.label)


def label_of_another_size(place):
    Image.open(place.label).resize((50, 60), 0).save(place.label)


def unknown_labelled(place):
    place.lists(lambda lists: lists["training"][1].update(labelled=["optic disk"]))


def empty_training(place):
    place.lists(lambda lists: lists.update(training=[]))


def no_dataset_json(place):
    (place.data / "dataset.json").unlink()


def broken_dataset_json(place):
    (place.data / "dataset.json").write_text('{"training": [')


def source_without_a_picture(place):
    place.override["source"] = "camera_x"


def domain_without_a_picture(place):
    place.override["domains"] = ["camera_b", "camera_x"]


def unknown_clip(place):
    place.override["encoder"] = "ViT-B-17"


def clip_that_is_no_vit(place):
    place.override["encoder"] = "RN50"


def unknown_tag(place):
    place.override |= {"encoder": "ViT-B-16", "pretrained": "openay"}


def other_clip(place):
    """The names of a ViT-B-32's weights and what tells them apart, without their 600 MB."""

    def shape(*sizes):
        return torch.zeros(1).expand(*sizes)

    names = {"visual.conv1.weight": shape(768, 3, 32, 32), "token_embedding.weight": shape(49408, 512)}
    names |= {f"visual.transformer.resblocks.{i}.ln_1.weight": shape(768) for i in range(12)}
    names |= {f"transformer.resblocks.{i}.ln_1.weight": shape(512) for i in range(12)}
    torch.save(names, place.folder / "clip.pt")
    place.override["checkpoint"] = str(place.folder / "clip.pt")


def no_clip(place):
    place.override["checkpoint"] = str(place.folder / "clip.pt")


def not_a_clip(place):
    torch.save({"conv.weight": torch.zeros(1)}, place.folder / "unet.pt")
    place.override["checkpoint"] = str(place.folder / "unet.pt")


def empty_sentence(place):
    place.override["sentences"] = [SENTENCES[0], "", SENTENCES[2]]


def long_sentence(place):
    place.override["sentences"] = [*SENTENCES[:2], "the optic cup, " * 30]


def long_sentence_without_context(place):
    long_sentence(place)
    place.override["num_context"] = 0


def two_sentences_for_two_structures(place):
    place.override["sentences"] = SENTENCES[1:]


def unknown_guidance(place):
    place.override["text_guidance"] = "deep"


def mistyped(place):
    place.override["output_dirr"] = "x"


def many_epochs(place):
    place.override["epochs"] = "many"


def one_image_size(place):
    place.override["image_size"] = 128


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
    place.override["em"] = False


def new_class_without_the_tower(place):
    place.override["sentences"] = [*SENTENCES[:2], "a drusen, a small yellow spot"]


def no_input(place):
    place.override["input"] = str(place.data / "camera_b" / "eye_9.png")


def a_volume_for_a_picture(place):
    (place.folder / "brain.nii.gz").write_bytes(b"\x1f\x8b\x08\x00 a volume")
    place.override["input"] = str(place.folder / "brain.nii.gz")


def unknown_split(place):
    place.override["split"] = "test"


CASE = "case eye_001_camera_a"
TRAINING = [
    (missing_picture, [CASE, "eye_001.png not found", "correct the path"]),
    (truncated_picture, [CASE, "eye_001.png cannot be read", "give a PNG"]),
    (no_picture, [CASE, "eye_001.png cannot be read", "give a PNG"]),
    (no_label, [CASE, "has no label", "add one"]),
    (undeclared_label, [CASE, "eye_001_label.png", "the value 7 where 0, 100, 200 are declared", "remap"]),
    (label_of_another_size, [CASE, "is 50 x 60 pixels where the picture is", "give the label of this picture"]),
    (unknown_labelled, [CASE, "labelled names 'optic disk'", "choose from optic disc, optic cup"]),
    (empty_training, ["split 'training' is empty", "dataset.json", "validation, testing"]),
    (no_dataset_json, ["no dataset.json in", "write one"]),
    (broken_dataset_json, ["dataset.json", "is not JSON", "correct or rewrite"]),
    (source_without_a_picture, ["domain 'camera_x' has no case in training of", "it has camera_a"]),
    (domain_without_a_picture, ["domain 'camera_x' has no case in testing of", "it has camera_b, camera_c, camera_d"]),
    (unknown_clip, ["unknown CLIP model 'ViT-B-17'", "did you mean ViT-B-16"]),
    (clip_that_is_no_vit, ["only open_clip's ViTs", "choose one, such as ViT-B-16"]),
    (unknown_tag, ["unknown weights 'openay' of CLIP ViT-B-16", "did you mean openai"]),
    (other_clip, ["clip.pt", "768 wide, 12 deep, patch 32", "given for clip_tiny", "or ViT-B-32"]),
    (no_clip, ["clip.pt", "no such file"]),
    (not_a_clip, ["unet.pt", "not an open_clip model", "conv.weight"]),
    (empty_sentence, ["sentence 2 of 3 is empty", "in words"]),
    (long_sentence, ["class sentence 'the optic cup, the optic", "vectors of context", "shorten it"]),
    (long_sentence_without_context, ["class sentence 'the optic cup, the optic", "longer than the 77", "shorten it"]),
    (two_sentences_for_two_structures, ["2 sentences for 2 structures (optic disc, optic cup)", "background"]),
    (unknown_guidance, ["unknown text_guidance 'deep'", "choose one of none, deepest, all"]),
    (mistyped, ["unknown override 'output_dirr'", "did you mean 'output_dir'?"]),
    (many_epochs, ["override 'epochs' is 'many' where a whole number is expected"]),
    (one_image_size, ["override 'image_size' is 128 where a list of numbers is expected"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
    (no_initial_weights, ["model_2.pt not found"]),
]
INFERENCE = [
    (no_weights, ["model.pt not found", "--ckpt_dir"]),
    (broken_weights, ["model.pt cannot be read", "download or train again"]),
    (weights_of_an_ablation, ["model.pt belong to another network", "em.bases", "options they were trained with"]),
    (new_class_without_the_tower, ["class 'a drusen, a small yellow spot'", "no text features", "text_tower to true"]),
    (two_sentences_for_two_structures, ["2 sentences for 2 structures (optic disc, optic cup)", "background"]),
    (no_input, ["eye_9.png not found", "correct the path"]),
    (a_volume_for_a_picture, ["brain.nii.gz cannot be read", "give a PNG"]),
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
    (place.data / "camera_a" / "eye_002_label.png").unlink()
    (place.data / "camera_c" / "eye_006.png").unlink()
    settings = {"dataset_dir": str(place.data), "output_dir": str(place.output), **TRAIN}
    assert len(input_error(lambda: finish(workflow("train", "train", **settings))).splitlines()) == 3


def test_grey_pictures_are_accepted_and_said_once(place, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "FIRST_GREY", threading.Lock())
    for file in place.data.glob("camera_[abcd]/eye_00?.png"):
        Image.open(file).convert("L").save(file)
    train(place.data, place.folder / "grey", domains=["camera_b"], **{**QUIET, "overlays": 1})
    said = [line for line in capsys.readouterr().err.splitlines() if "a grey picture" in line]
    assert len(said) == 1 and "where colour is expected: repeated to three channels" in said[0]
    assert (place.folder / "grey" / "domains.csv").is_file()


@pytest.mark.slow
@table([row for row in TRAINING if row[0] is domain_without_a_picture])
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
