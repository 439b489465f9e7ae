"""BrainSegDMLF in the tests of all bundles: eight small brains, stored with several axes and tilts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.bundles.running import Bundle
from tests.making import SEQUENCES, write_brain, write_brains

STORED = {  # how each case lies in its file: axes, tilt in degrees
    "train_a": ("RAS", 0),
    "train_b": ("LPS", 0),
    "train_c": ("LAS", 9),
    "train_d": ("PSR", 0),
    "val_a": ("RAS", 0),
    "val_b": ("LPI", 14),
    "test_a": ("LPS", 17),
    "test_b": ("SRA", 0),
}


def make_data(folder: Path) -> None:
    """Write eight tiny cases; one testing case has no T1."""
    folder.mkdir()
    items = {name: write_brain(folder, name, seed, *place) for seed, (name, place) in enumerate(STORED.items())}
    items["test_b"]["image"][1] = None
    splits = {"training": "train", "validation": "val", "testing": "test"}
    lists = {
        split: [{"case_id": name, **item} for name, item in items.items() if name.startswith(start)]
        for split, start in splits.items()
    }
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")


def one_case(folder: Path) -> dict[str, Any]:
    """A case without T1, as the command line gives it: one text."""
    files = ["None" if name == "t1" else f"'{folder / f'test_a_{name}.nii.gz'}'" for name in SEQUENCES]
    return {"input": f"[{','.join(files)}]"}


def stir(network: nn.Module) -> None:
    head = network.decoder.heads[-1]
    torch.nn.init.normal_(head.weight, std=1.0)
    head.bias -= network(torch.randn(2, 4, 40, 48)).median()


BUNDLE = Bundle(
    name="brainsegdmlf",
    make_data=make_data,
    write_cases=write_brains,
    one_case=one_case,
    stir=stir,
    size={"patch_size": [32, 32]},
    training={"patches_per_volume": 2, "overlays": 2},
    steady={"modality_drop": 0},
    switches={"dmif": "dmif"},
    sides="patch_size",
    differing=frozenset({"overlap", "planes", "prepare"}),
    training_only=frozenset({"modality_drop", "deep_supervision", "checkpoint"}),
    channels=4,
    script_sizes=((1, 128, 128), (2, 72, 51)),
    rate=0.005,
    pictures=False,
    missing=1,
    cases="BrainSegDMLF  6 cases (4 train, 2 validation)",
    evaluated="BrainSegDMLF  2 cases (2 validation)",
    best="mean of 2",
)
