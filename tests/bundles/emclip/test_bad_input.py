"""Whatever a user gives wrongly: one clear line before anything begins, and nothing is lost on disk."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data import pictures
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
from tests.bundles.emclip.helpers import CONFIGS, INFER, QUIET, SENTENCES, TRAIN, train, workflow
from tests.bundles.running import finish, input_error, table


class Place(bad_input.Place):
    """The photograph to spoil."""

    @property
    def picture(self) -> Path:
        return self.data / "camera_a" / "eye_001.png"

    @property
    def label(self) -> Path:
        return self.data / "camera_a" / "eye_001_label.png"


def undeclared_label(place):
    array = np.asarray(Image.open(place.label)).copy()
    array[:9, :9] = 7
    Image.fromarray(array).save(place.label)


def label_of_another_size(place):
    Image.open(place.label).resize((50, 60), 0).save(place.label)


def unknown_labelled(place):
    place.lists(lambda lists: lists["training"][1].update(labelled=["optic disk"]))


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


def one_image_size(place):
    place.override["image_size"] = 128


def weights_of_an_ablation(place):
    place.override["em"] = False


def new_class_without_the_tower(place):
    place.override["sentences"] = [*SENTENCES[:2], "a drusen, a small yellow spot"]


def no_input(place):
    place.override["input"] = str(place.data / "camera_b" / "eye_9.png")


def a_volume_for_a_picture(place):
    (place.folder / "brain.nii.gz").write_bytes(b"\x1f\x8b\x08\x00 a volume")
    place.override["input"] = str(place.folder / "brain.nii.gz")


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
    return bad_input.make_place(Place, data_dir, weights_dir, tmp_path)


@table(TRAINING)
def test_training(spoil, parts, place, monkeypatch):
    assert_training_refused(spoil, parts, place, workflow, TRAIN, monkeypatch)


@table(INFERENCE)
def test_inference(spoil, parts, place):
    assert_inference_refused(spoil, parts, place, workflow, INFER)


def test_several_problems_come_at_once(place):
    missing_picture(place)
    (place.data / "camera_a" / "eye_002_label.png").unlink()
    (place.data / "camera_c" / "eye_006.png").unlink()
    flow = workflow("train", "train", **place.training(TRAIN))
    assert len(input_error(finish, flow).splitlines()) == 3


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
    assert_command_refused(spoil, parts, place, CONFIGS, TRAIN)
