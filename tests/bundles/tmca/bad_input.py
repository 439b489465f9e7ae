"""What a user can give wrongly to TMCA, and words of the line that says so; `p1` of the tiny data is spoilt."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.bundles.bad_input import CASE, Row, missing_picture
from tests.bundles.tmca.facts import SENTENCE


def mask_of_greys(place):
    array = 255 * np.asarray(Image.open(place.label))
    array[:9, :9] = 7
    Image.fromarray(array).save(place.label)


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
    (place.folder / "bert" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
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


def text_without_input(place):
    place.override["text"] = SENTENCE


def text_of_one_number(place):
    place.override |= {"input": str(place.picture), "text": 3}


def certain_flip(place):
    place.override["flip_prob"] = 3.0


def no_temperature(place):
    place.override["similarity_temperature"] = 0.0


def backbone_file_of_another_kind(place):
    (place.folder / "resnet.pth").write_text("no weights", encoding="utf-8")
    place.override["checkpoint"] = str(place.folder / "resnet.pth")


def unknown_text_tag(place):
    place.override |= {"text_encoder": "ViT-B-16", "text_pretrained": "openay"}


def several_at_once(place):
    missing_picture(place)
    mask_of_greys(place)
    (place.data / "p2.png").unlink()


TRAINING: list[Row] = [
    (mask_of_greys, [CASE, "p1_label.png", "the values 7, 255 where 0, 1 are declared", "remap"]),
    (text_of_numbers, [CASE, "text is a list ([1, 2]) where a string is expected", "give a sentence"]),
    (unknown_backbone, ["unknown backbone 'resnet19'", "did you mean resnet18"]),
    (backbone_of_one_stride, ["backbone vit_tiny_patch16_224", "choose a convolutional one"]),
    (no_backbone_file, ["resnet.pth", "there is no file", "give the path"]),
    (unknown_text_encoder, ["unknown text encoder 'clip_tinny'", "did you mean clip_tiny", "Hugging Face"]),
    (no_text_folder, ["bert", "no such folder"]),
    (text_folder_without_weights, ["bert", "the folder has no weights", "model.safetensors"]),
    (unknown_alignment, ["'alignment' is 'multi-level'", "multilevel, global, off"]),
    (unknown_targets, ["'targets' is 'smooth'", "soft, hard"]),
    (unknown_tuning, ["'freeze'", "frozen"]),
    (certain_flip, ["override 'flip_prob' is 3.0: it must lie between 0 and 1"]),
    (no_temperature, ["override 'similarity_temperature' is 0.0: it must be above 0"]),
    (backbone_file_of_another_kind, ["backbone test_resnet cannot be built", "or other weights"]),
    (unknown_text_tag, ["unknown weights 'openay' of CLIP ViT-B-16", "did you mean openai?"]),
    (several_at_once, [["p1.png not found"], ["the values 7, 255"], ["p2.png not found"]]),
    (two_image_sizes, ["override 'image_size' is [64, 64]", "a whole number"]),
]
INFERENCE: list[Row] = [
    (weights_of_an_ablation, ["model.pt belong to another network", "enhancements", "options they were trained with"]),
    (text_without_input, ["--text is the sentence of one picture", "--input"]),
    (text_of_one_number, ["override 'text' is 3 where a text is expected"]),
]
