"""What a user can give wrongly to TMCA, and words of the line that says so; `p1` of the tiny data is spoilt."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.bundles import bad_input
from tests.bundles.bad_input import (
    empty_training,
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
from tests.bundles.tmca.helpers import SENTENCE

Place = bad_input.PicturePlace


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


def no_input(place):
    place.override |= {"input": str(place.data / "chest_9.png"), "text": SENTENCE}


def a_volume_for_a_picture(place):
    (place.folder / "chest.nii.gz").write_bytes(b"\x1f\x8b\x08\x00 a volume")
    place.override["input"] = str(place.folder / "chest.nii.gz")


def text_without_input(place):
    place.override["text"] = SENTENCE


def text_of_one_number(place):
    place.override |= {"input": str(place.picture), "text": 3}


def certain_flip(place):
    place.override["flip_prob"] = 3.0


def no_temperature(place):
    place.override["temperature"] = 0.0


def backbone_file_of_another_kind(place):
    (place.folder / "resnet.pth").write_text("no weights", encoding="utf-8")
    place.override["checkpoint"] = str(place.folder / "resnet.pth")


def unknown_text_tag(place):
    place.override |= {"text_encoder": "ViT-B-16", "text_pretrained": "openay"}


def several_at_once(place):
    missing_picture(place)
    mask_of_greys(place)
    (place.data / "p2.png").unlink()


CASE = "case p1"
TRAINING = [
    (missing_picture, [CASE, "p1.png not found", "correct the path"]),
    (truncated_picture, [CASE, "p1.png cannot be read", "give a PNG"]),
    (no_picture, [CASE, "p1.png cannot be read", "give a PNG"]),
    (no_label, [CASE, "has no label", "add one"]),
    (mask_of_greys, [CASE, "p1_label.png", "the values 7, 255 where 0, 1 are declared", "remap"]),
    (mask_of_another_size, [CASE, "is 50 x 60 pixels where the picture is 48 x 40", "in the picture's own size"]),
    (text_of_numbers, [CASE, "text is a list ([1, 2]) where a string is expected", "give a sentence"]),
    (empty_training, ["split 'training' is empty", "dataset.json", "validation, testing"]),
    (no_dataset_json, ["no dataset.json in", "write one"]),
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
    (no_temperature, ["override 'temperature' is 0.0: it must be above 0"]),
    (backbone_file_of_another_kind, ["backbone test_resnet cannot be built", "or other weights"]),
    (unknown_text_tag, ["unknown weights 'openay' of CLIP ViT-B-16", "did you mean openai?"]),
    (several_at_once, [["p1.png not found"], ["the values 7, 255"], ["p2.png not found"]]),
    (mistyped, ["unknown override 'output_dirr'", "did you mean 'output_dir'?"]),
    (two_image_sizes, ["override 'image_size' is [64, 64]", "a whole number"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
    (no_initial_weights, ["model_2.pt not found", "give --weights"]),
]
INFERENCE = [
    (no_weights, ["model.pt not found", "--ckpt_dir"]),
    (weights_of_an_ablation, ["model.pt belong to another network", "enhancements", "options they were trained with"]),
    (no_input, ["chest_9.png not found", "correct the path"]),
    (a_volume_for_a_picture, ["chest.nii.gz cannot be read", "give a PNG"]),
    (text_without_input, ["--text is the sentence of one picture", "--input"]),
    (text_of_one_number, ["override 'text' is 3 where a text is expected"]),
    (unknown_split, ["split 'test' is missing", "splits with items: training, validation, testing"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
]
