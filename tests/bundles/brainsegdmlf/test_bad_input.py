"""Whatever a user gives wrongly: one clear line before anything begins, and nothing is lost on disk."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.bundles.brainsegdmlf.helpers import CONFIGS, INFER, TRAIN, workflow
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

    def lists(self, change: Callable[[dict], Any]) -> None:
        file = self.data / "dataset.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

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


def empty_training(place):
    place.lists(lambda lists: lists.update(training=[]))


def undeclared_label(place):
    place.volume("train_b_seg", lambda a: 3 * a)


def no_label(place):
    place.lists(lambda lists: lists["training"][1].pop("label"))


def truncated(place):
    file = place.data / "train_b_t1.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def not_nifti(place):
    (place.data / "train_b_t1.nii.gz").write_bytes(gzip.compress(b"PATIENT,AGE\n"))


def mistyped(place):
    place.override["output_dirr"] = "x"


def many_epochs(place):
    place.override["epochs"] = "many"


def augmentation_by_word(place):
    place.override["augmentation"] = "lots"


def output_under_a_file(place):
    (place.folder / "file").write_text("")
    place.override["output_dir"] = str(place.folder / "file" / "run")


def no_dataset_json(place):
    (place.data / "dataset.json").unlink()


def broken_dataset_json(place):
    (place.data / "dataset.json").write_text('{"training": [')


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


def no_initial_weights(place):
    place.override["weights"] = str(place.weights / "model_2.pt")


def unknown_encoder(place):
    place.override["encoder"] = "vit_s"


def no_weights(place):
    (place.weights / "model.pt").unlink()


def other_weights(place):
    place.override["dmif"] = False


def broken_weights(place):
    (place.weights / "model.pt").write_bytes(b"not a checkpoint")


def no_input(place):
    place.override["input"] = [str(place.data / f"test_a_{name}.nii.gz") for name in ("flair", "t1", "t1ce", "t3")]


def input_of_nothing(place):
    place.override["input"] = "[None,None,None,None]"


def input_of_too_few(place):
    place.override["input"] = str(place.data / "test_a_flair.nii.gz")


def input_with_nan(place):
    place.volume("test_a_t2", lambda a: np.where(a > 500, np.nan, a))


def unknown_split(place):
    place.override["split"] = "test"


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
    line = input_error(lambda: finish(workflow("train", "train", **settings)))
    assert_one_line(line, parts)
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
    missing_file(place)
    undeclared_label(place)
    (place.data / "val_a_flair.nii.gz").unlink()
    settings = {"dataset_dir": str(place.data), "output_dir": str(place.output), **TRAIN}
    assert len(input_error(lambda: finish(workflow("train", "train", **settings))).splitlines()) == 3


@pytest.mark.slow
@table([row for row in TRAINING if row[0] in (nan_voxels, mistyped, many_epochs)])
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
