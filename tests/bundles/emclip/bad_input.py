"""What a user can give wrongly to EM-CLIP, and words of the line that says so; `p1` of the tiny data is spoilt."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from tests.bundles.bad_input import CASE, Row, missing_picture
from tests.bundles.emclip.facts import SENTENCES


def undeclared_label(place):
    array = np.asarray(Image.open(place.label)).copy()
    array[:9, :9] = 7
    Image.fromarray(array).save(place.label)


def unknown_labelled(place):
    place.lists(lambda lists: lists["training"][1].update(labelled=["optic disk"]))


def source_without_a_picture(place):
    place.override["source"] = "camera_x"


def domain_without_a_picture(place):
    place.override["domains"] = ["b", "camera_x"]


def unknown_clip(place):
    place.override["encoder"] = "ViT-B-17"


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


def no_list_of_another_set(place):
    place.override["test_dirs"] = [str(place.folder / "nowhere")]


def sentence_of_a_number(place):
    place.override["sentences"] = [SENTENCES[0], 3, SENTENCES[2]]


def context_below_zero(place):
    place.override["num_context"] = -1


def structure_of_an_unknown_label(place):
    place.override["structures"] = {"optic disc": [100, 200], "optic cup": [220]}


def several_at_once(place):
    missing_picture(place)
    place.label.unlink()
    (place.data / "p3.png").unlink()


TRAINING: list[Row] = [
    (undeclared_label, [CASE, "p1_label.png", "the value 7 where 0, 100, 200 are declared", "remap"]),
    (unknown_labelled, [CASE, "labelled names 'optic disk'", "choose from optic disc, optic cup"]),
    (source_without_a_picture, ["domain 'camera_x' has no case in training of", "it has a"]),
    (domain_without_a_picture, ["domain 'camera_x' has no case in testing of", "it has b"]),
    (unknown_clip, ["unknown CLIP model 'ViT-B-17'", "did you mean ViT-B-16"]),
    (unknown_tag, ["unknown weights 'openay' of CLIP ViT-B-16", "did you mean openai"]),
    (other_clip, ["clip.pt", "768 wide, 12 deep, patch 32", "given for clip_tiny", "or ViT-B-32"]),
    (no_clip, ["clip.pt", "no such file"]),
    (not_a_clip, ["unet.pt", "not an open_clip model", "conv.weight"]),
    (empty_sentence, ["sentence 2 of 3 is empty", "in words"]),
    (long_sentence, ["class sentence 'the optic cup, the optic", "vectors of context", "shorten it"]),
    (long_sentence_without_context, ["class sentence 'the optic cup, the optic", "longer than the 77", "shorten it"]),
    (two_sentences_for_two_structures, ["2 sentences for 2 structures (optic disc, optic cup)", "background"]),
    (unknown_guidance, ["'text_guidance' is 'deep'", "choose one of none, deepest, all"]),
    (no_list_of_another_set, ["no dataset.json in", "nowhere", "write one"]),
    (sentence_of_a_number, ["override 'sentences' is ", "where a list of texts is expected: e.g. --sentences"]),
    (context_below_zero, ["override 'num_context' is -1: it must be at least 0"]),
    (structure_of_an_unknown_label, ["'optic cup' made of 220, which is not a label (0, 100, 200)", "add it"]),
    (several_at_once, [["p1.png not found"], ["p1_label.png not found"], ["p3.png not found"]]),
    (one_image_size, ["override 'image_size' is 128 where a list of numbers is expected"]),
]
INFERENCE: list[Row] = [
    (weights_of_an_ablation, ["model.pt belong to another network", "em.bases", "options they were trained with"]),
    (new_class_without_the_tower, ["class 'a drusen, a small yellow spot'", "no text features", "text_tower to true"]),
    (two_sentences_for_two_structures, ["2 sentences for 2 structures (optic disc, optic cup)", "background"]),
]
