"""Requests that name one file of a case: its other sequences are found, and those that are asked for are used."""

from __future__ import annotations

from pathlib import Path

import torch
from brainsegdmlf.served import FindSequencesd, KeepSequencesd, find_sequences, with_sequences
from monai.data import MetaTensor

from tests.bundles.running import assert_one_line, input_error
from tests.making import SEQUENCES, save, volume


def touch(folder: Path, *names: str) -> list[str]:
    """Write empty files; return their paths."""
    for name in names:
        (folder / name).touch()
    return [str(folder / name) for name in names]


def test_sequences_are_found_beside_one(tmp_path):
    flair, t1ce, *_ = touch(tmp_path, "p1_flair.nii.gz", "p1_T1CE.nii.gz", "p2_t1.nii.gz", "p1_t2.nii")
    assert find_sequences(flair, SEQUENCES) == [flair, None, t1ce, None]
    assert find_sequences(t1ce, SEQUENCES) == [flair, None, t1ce, None]
    assert find_sequences(tmp_path / "whole.nii.gz", SEQUENCES) == str(tmp_path / "whole.nii.gz")
    assert find_sequences(tmp_path / "flair.nii.gz", SEQUENCES) == str(tmp_path / "flair.nii.gz")  # of which case?


def test_named_sequences_alone_are_used(tmp_path):
    flair, _, t2 = touch(tmp_path, "p1_flair.nii.gz", "p1_t1.nii.gz", "p1_t2.nii.gz")
    find = FindSequencesd("image", SEQUENCES, "T2, flair")
    assert find({"image": flair})["image"] == [flair, None, None, t2]
    assert find({"image": "whole.nii.gz"})["image"] == "whole.nii.gz"
    assert FindSequencesd("image", SEQUENCES, "t1")({"image": "x.nii.gz"})["image"] == [None, "x.nii.gz", None, None]
    assert_one_line(input_error(FindSequencesd("image", SEQUENCES, "flare"), {"image": flair}), ["'flare'", "flair"])
    assert_one_line(input_error(FindSequencesd("image", SEQUENCES, " ,"), {"image": flair}), ["empty", "t1ce"])


def test_the_mask_lies_on_the_image_that_is_asked_for(tmp_path):
    flair = save(tmp_path / "p1_flair.nii.gz", volume(0))
    t1 = save(tmp_path / "p1_t1.nii.gz", volume(0, (6, 5, 3)))
    found = FindSequencesd("image", SEQUENCES, SEQUENCES)({"image": flair})
    assert found == {"image": [flair, t1, None, None], "case_id": "p1_flair"}
    line = input_error(FindSequencesd("image", SEQUENCES, SEQUENCES), {"image": t1})
    assert_one_line(line, ["p1_t1.nii.gz lies on another grid than p1_flair.nii.gz", "ask for p1_flair.nii.gz"])
    assert FindSequencesd("image", SEQUENCES, "t1")({"image": t1})["image"] == [None, t1, None, None]


def test_channels_not_named_become_zero():
    image = MetaTensor(torch.ones(4, 2, 2, 2))
    image[1] = 0
    kept = KeepSequencesd("image", SEQUENCES, ["flair", "t1"])({"image": image})["image"]
    assert kept.flatten(1).sum(1).tolist() == [8, 0, 0, 0] and image.sum() == 24
    line = input_error(KeepSequencesd("image", SEQUENCES, "t1"), {"image": image})
    assert_one_line(line, ["nothing in t1"])


def test_labelled_cases_get_all_their_sequences(tmp_path):
    flair, t1 = touch(tmp_path, "p1_flair.nii.gz", "p1_t1.nii.gz")
    cases = with_sequences([{"image": flair, "label": "l", "case_id": "p1_flair"}], SEQUENCES)
    assert cases == [{"image": [flair, t1, None, None], "label": "l", "case_id": "p1_flair"}]
