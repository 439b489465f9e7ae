"""What a user can give wrongly to BrainSegDMLF, and words of the line that says so; `p1` of the tiny data is spoilt."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import nibabel as nib
import numpy as np
import torch

from tests.bundles.bad_input import CASE, Place, Row
from tests.making import save_series


def change(place: Place, name: str, function: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    """Change a volume's voxels, and move it along x by `shift` mm."""
    file = place.data / f"{name}.nii.gz"
    image = nib.load(file)
    affine = image.affine.copy()
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(function(np.asanyarray(image.dataobj).astype(np.float32)), affine), file)


def missing_file(place):
    (place.data / "p1_t1.nii.gz").unlink()


def three_channels(place):
    place.lists(lambda lists: lists["training"][1]["image"].pop())


def other_shape(place):
    change(place, "p1_t2", lambda a: a[:, :, :-1])
    place.override["prepare"] = "off"


def other_affine(place):
    change(place, "p1_t2", lambda a: a, shift=4.0)
    place.override["prepare"] = "off"


def nan_voxels(place):
    change(place, "p1_t2", lambda a: np.where(a > 500, np.nan, a))


def all_missing(place):
    place.lists(lambda lists: lists["training"][1].update(image=[None] * 4))


def all_zero(place):
    for name in ("flair", "t1", "t1ce", "t2"):
        change(place, f"p1_{name}", np.zeros_like)


def undeclared_label(place):
    change(place, "p1_seg", lambda a: 3 * a)


def truncated(place):
    file = place.data / "p1_t1.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def not_nifti(place):
    (place.data / "p1_t1.nii.gz").write_bytes(gzip.compress(b"PATIENT,AGE\n"))


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
    place.override["input"] = [str(place.data / f"p3_{name}.nii.gz") for name in ("flair", "t1", "t1ce", "t3")]


def input_of_nothing(place):
    place.override["input"] = "[None,None,None,None]"


def input_of_too_few(place):
    place.override["input"] = str(place.data / "p3_flair.nii.gz")


def input_with_nan(place):
    change(place, "p3_t2", lambda a: np.where(a > 500, np.nan, a))


def region_of_an_unknown_label(place):
    place.override["regions"] = {"lesion": [1, 7]}


def one_side_of_a_patch(place):
    place.override["patch_size"] = [32]


def unknown_tuning(place):
    place.override["tuning"] = "lra"


def no_rank(place):
    place.override |= {"tuning": "lora", "lora_rank": 0}


def odd_stride(place):
    place.override["feature_stride"] = 3


def unknown_planes(place):
    place.override["planes"] = "oblique"


def page_for_a_checkpoint(place):
    (place.folder / "sam.pth").write_text("<!DOCTYPE html><title>Sign in</title>", encoding="utf-8")
    place.override["checkpoint"] = str(place.folder / "sam.pth")


def sam_for_lite_medsam(place):
    other_sam(place)
    place.override["encoder"] = "lite_medsam"


def three_names_for_four_sequences(place):
    place.override["channels"] = ["flair", "t1", "t2"]


def several_at_once(place):
    missing_file(place)
    undeclared_label(place)
    (place.data / "p2_flair.nii.gz").unlink()


def folder_without_dicom(place):
    (place.folder / "series").mkdir()
    (place.folder / "series" / "notes.txt").write_text("no slices", encoding="utf-8")
    place.override["input"] = [str(place.folder / "series"), None, None, None]


def dicom_that_breaks_off(place):
    folder = place.folder / "series"
    save_series(folder, np.ones((6, 5, 4)), np.eye(4))
    slice_ = sorted(folder.iterdir())[2]
    slice_.write_bytes(slice_.read_bytes()[:200])
    place.override["input"] = [str(folder), None, None, None]


def dicom_with_a_gap(place):
    save_series(place.folder / "series", np.ones((6, 5, 6)), np.eye(4), skip=(2,))
    place.override["input"] = [str(place.folder / "series"), None, None, None]


def two_series_in_a_folder(place):
    for _ in range(2):
        save_series(place.folder / "series", np.ones((6, 5, 4)), np.eye(4))
    place.override["input"] = [str(place.folder / "series"), None, None, None]


def two_values_for_a_region(place):
    place.override["region_values"] = [1, 2]


TRAINING: list[Row] = [
    (missing_file, [CASE, "t1", "p1_t1.nii.gz not found", "null"]),
    (three_channels, [CASE, "3 channels where 4 are declared (flair, t1, t1ce, t2)", "null"]),
    (other_shape, [CASE, "40 x 48 x 5", "40 x 48 x 6", "different grids", "run with --prepare auto"]),
    (other_affine, [CASE, "t2", "flair", "different grids", "run with --prepare auto"]),
    (nan_voxels, [CASE, "p1_t2.nii.gz", "NaN", "replace them"]),
    (all_missing, ["training[1]", "dataset.json", "names no image", "give a path"]),
    (all_zero, [CASE, "every sequence is missing or all zero", "give at least one of flair, t1, t1ce, t2"]),
    (undeclared_label, [CASE, "p1_seg.nii.gz", "values 0, 3 where 0, 1 are declared", "remap"]),
    (truncated, [CASE, "p1_t1.nii.gz cannot be read", "give NIfTI"]),
    (not_nifti, [CASE, "p1_t1.nii.gz cannot be read", "give NIfTI"]),
    (other_sam, ["sam_vit_b_01ec64.pth", "sam_vit_b checkpoint", "given for encoder vit_tiny", "use --encoder vit_b"]),
    (no_sam, ["sam.pth", "no such file"]),
    (region_of_an_unknown_label, ["override 'regions'", "'lesion' made of 7", "not a label (0, 1)", "add it"]),
    (one_side_of_a_patch, ["override 'patch_size' is [32]: it takes 2 numbers"]),
    (unknown_tuning, ["'tuning' is 'lra'", "choose one of full, lora, frozen"]),
    (no_rank, ["override 'lora_rank' is 0: it must be at least 1"]),
    (page_for_a_checkpoint, ["sam.pth", "an HTML page, not weights", "download the file itself"]),
    (sam_for_lite_medsam, ["sam_vit_b_01ec64.pth", "not a LiteMedSAM checkpoint"]),
    (three_names_for_four_sequences, 3 * [["4 channels where 3 are declared (flair, t1, t2)", "null"]]),
    (several_at_once, [["p1_t1.nii.gz not found"], ["values 0, 3"], ["p2_flair.nii.gz not found"]]),
    (odd_stride, ["feature_stride 3 is not a power of two", "choose 4, 8 or 16"]),
    (unknown_planes, ["'planes' is 'oblique'", "choose one of axial, all, auto"]),
    (unknown_encoder, ["unknown encoder 'vit_s'", "choose one of vit_tiny"]),
]
INFERENCE: list[Row] = [
    (other_weights, ["model.pt belong to another network", "mix.bias", "options they were trained with"]),
    (no_input, ["p3_t3.nii.gz not found", "correct the path"]),
    (input_of_nothing, ["--input", "names no file", "give a path"]),
    (input_of_too_few, ["1 channel where 4 are declared", "null"]),
    (input_with_nan, ["case p3", "p3_t2.nii.gz", "NaN"]),
    (folder_without_dicom, ["no DICOM file in this folder", "the folder of one DICOM series"]),
    (dicom_that_breaks_off, ["flair", "series cannot be read", "a file cut short? copy the series again"]),
    (dicom_with_a_gap, ["flair", "slice distances from 1.00 to 2.00 mm", "slices missing or doubled"]),
    (two_series_in_a_folder, ["flair", "the folder holds 2 series", "own folder"]),
    (
        two_values_for_a_region,
        ["override 'region_values' has 2 values for 1 classes (lesion)", "give one value per class"],
    ),
]
