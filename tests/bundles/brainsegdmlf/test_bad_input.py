"""Whatever a user gives wrongly: one clear line before anything begins, and nothing is lost on disk."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.bundles import bad_input
from tests.bundles.bad_input import (
    assert_command_refused,
    assert_inference_refused,
    assert_training_refused,
    broken_dataset_json,
    broken_weights,
    empty_training,
    many_epochs,
    mistyped,
    no_dataset_json,
    no_initial_weights,
    no_label,
    no_weights,
    output_under_a_file,
    unknown_split,
)
from tests.bundles.brainsegdmlf.helpers import CONFIGS, INFER, TRAIN, workflow
from tests.bundles.running import finish, input_error, table


class Place(bad_input.Place):
    """Volumes to spoil."""

    def volume(self, name: str, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
        file = self.data / f"{name}.nii.gz"
        image = nib.load(file)
        affine = image.affine.copy()
        affine[0, 3] += shift
        nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj).astype(np.float32)), affine), file)


def missing_file(place):
    (place.data / "train_b_t1.nii.gz").unlink()


def three_channels(place):
    place.lists(lambda lists: lists["training"][1]["image"].pop())


def other_shape(place):
    place.volume("train_b_t2", lambda a: a[:, :, :-1])


def other_affine(place):
    place.volume("train_b_t2", lambda a: a, shift=4.0)


def nan_voxels(place):
    place.volume("train_b_t2", lambda a: np.where(a > 500, np.nan, a))


def all_missing(place):
    place.lists(lambda lists: lists["training"][1].update(image=[None] * 4))


def all_zero(place):
    for name in ("flair", "t1", "t1ce", "t2"):
        place.volume(f"train_b_{name}", np.zeros_like)


def undeclared_label(place):
    place.volume("train_b_seg", lambda a: 3 * a)


def truncated(place):
    file = place.data / "train_b_t1.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def not_nifti(place):
    (place.data / "train_b_t1.nii.gz").write_bytes(gzip.compress(b"PATIENT,AGE\n"))


def augmentation_by_word(place):
    place.override["augmentation"] = "lots"


def no_such_folder(place):
    place.override["dataset_dir"] = str(place.folder / "nowhere")


def other_sam(place):
    """The names of a SAM ViT-B's weights and its width and depth, without their 375 MB."""
    names = {"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 1, 1)}
    names |= {f"image_encoder.blocks.{i}.attn.rel_pos_h": torch.zeros(1) for i in range(12)}
    torch.save(names, place.folder / "sam_vit_b_01ec64.pth")
    place.override["checkpoint"] = str(place.folder / "sam_vit_b_01ec64.pth")


def no_sam(place):
    place.override["checkpoint"] = str(place.folder / "sam.pth")


def unknown_encoder(place):
    place.override["encoder"] = "vit_s"


def other_weights(place):
    place.override["dmif"] = False


def no_input(place):
    place.override["input"] = [str(place.data / f"test_a_{name}.nii.gz") for name in ("flair", "t1", "t1ce", "t3")]


def input_of_nothing(place):
    place.override["input"] = "[None,None,None,None]"


def input_of_too_few(place):
    place.override["input"] = str(place.data / "test_a_flair.nii.gz")


def input_with_nan(place):
    place.volume("test_a_t2", lambda a: np.where(a > 500, np.nan, a))


CASE = "case train_b"
TRAINING = [
    (missing_file, [CASE, "t1", "train_b_t1.nii.gz not found", "null"]),
    (three_channels, [CASE, "3 channels where 4 are declared (flair, t1, t1ce, t2)", "null"]),
    (other_shape, [CASE, "t2 has shape 40 x 48 x 5, flair has 40 x 48 x 6", "resample t2"]),
    (other_affine, [CASE, "t2 and flair lie differently in space", "4 mm", "register t2 to flair"]),
    (nan_voxels, [CASE, "train_b_t2.nii.gz", "NaN", "replace them"]),
    (all_missing, ["training[1]", "dataset.json", "names no image", "give a path"]),
    (all_zero, [CASE, "every sequence is missing or all zero", "give at least one of flair, t1, t1ce, t2"]),
    (empty_training, ["split 'training' is empty", "dataset.json", "validation, testing"]),
    (undeclared_label, [CASE, "train_b_seg.nii.gz", "values 0, 3 where 0, 1 are declared", "remap"]),
    (no_label, [CASE, "has no label", "add one"]),
    (truncated, [CASE, "train_b_t1.nii.gz cannot be read", "give NIfTI"]),
    (not_nifti, [CASE, "train_b_t1.nii.gz cannot be read", "give NIfTI"]),
    (mistyped, ["unknown override 'output_dirr'", "did you mean 'output_dir'?"]),
    (many_epochs, ["override 'epochs' is 'many' where a whole number is expected: e.g. --epochs 22"]),
    (augmentation_by_word, ["override 'augmentation' is 'lots' where a number is expected: e.g. --augmentation 1"]),
    (output_under_a_file, ["output folder", "is a file", "give another --output_dir"]),
    (no_dataset_json, ["no dataset.json in", "write one"]),
    (broken_dataset_json, ["dataset.json", "is not JSON", "correct or rewrite"]),
    (no_such_folder, ["no dataset.json in", "nowhere"]),
    (other_sam, ["sam_vit_b_01ec64.pth", "sam_vit_b checkpoint", "given for encoder vit_tiny", "use --encoder vit_b"]),
    (no_sam, ["sam.pth", "no such file"]),
    (no_initial_weights, ["model_2.pt not found"]),
    (unknown_encoder, ["unknown encoder 'vit_s'", "choose one of vit_tiny"]),
]
INFERENCE = [
    (no_weights, ["model.pt not found", "--ckpt_dir"]),
    (other_weights, ["model.pt belong to another network", "mix.bias", "options they were trained with"]),
    (broken_weights, ["model.pt cannot be read", "download or train again"]),
    (no_input, ["test_a_t3.nii.gz not found", "correct the path"]),
    (input_of_nothing, ["--input", "names no file", "give a path"]),
    (input_of_too_few, ["1 channel where 4 are declared", "null"]),
    (input_with_nan, ["case test_a", "test_a_t2.nii.gz", "NaN"]),
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
    missing_file(place)
    undeclared_label(place)
    (place.data / "val_a_flair.nii.gz").unlink()
    flow = workflow("train", "train", **place.training(TRAIN))
    assert len(input_error(finish, flow).splitlines()) == 3


@pytest.mark.slow
@table([row for row in TRAINING if row[0] in (nan_voxels, mistyped, many_epochs)])
def test_command_line(spoil, parts, place):
    assert_command_refused(spoil, parts, place, CONFIGS, TRAIN)
