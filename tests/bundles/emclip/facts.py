"""EM-CLIP in the tests of all bundles: synthetic photographs of four cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from emclip.phantoms.dataset import make_fundus_phantoms
from torch import nn

from tests.bundles.running import Bundle
from tests.making import write_pictures

UNSEEN = ["camera_b", "camera_c", "camera_d"]


def make_data(folder: Path) -> None:
    make_fundus_phantoms(folder, num_training=4, num_validation=2, num_testing=1, progress=False)


def write_cases(folder: Path) -> None:
    write_pictures(folder, disc=100, cup=200, text=None)


def one_case(folder: Path) -> dict[str, Any]:
    return {"input": str(folder / "camera_b" / "eye_006.png")}


def stir(network: nn.Module) -> None:
    last = network.queries.project[-1]
    last.weight.normal_()
    last.bias[-1] -= network(torch.rand(2, 3, 48, 32)).median()


BUNDLE = Bundle(
    name="emclip",
    make_data=make_data,
    write_cases=write_cases,
    one_case=one_case,
    stir=stir,
    size={"image_size": [32, 32]},
    training={"batch_size": 2, "overlays": 1},
    whole={"text_tower": True},
    quiet={"overlays": 0, "cluster_pictures": 0},
    steady={"augmentation": 0},
    switches={"em": "em", "anchors": "anchors"},
    classes="structures",
    differing=frozenset({"window_overlap", "prepare"}),
    training_only=frozenset({"deep_supervision", "token_norm"}),  # the weights say what the latter was
    channels=3,
    script={"use_trace": True},  # open_clip's image tower cannot be scripted
    script_sizes=((1, 160, 160), (3, 160, 160)),  # the size that the metadata name
    moving=("em.bases",),  # an exponential average of features
    tolerance=1e-6,
    predictions=3,
    cases="EM-CLIP  9 cases (4 train, 2 validation, 3 unseen domains)",
    evaluated="EM-CLIP  5 cases (2 source, 3 unseen domains)",
    best="mean of unseen",
    next_words=("pictures", "tables", "weights", "next", "clusters"),
)
SENTENCES: list[str] = BUNDLE.config("train")["sentences"]
STRUCTURES: list[str] = list(BUNDLE.config("train")["structures"])
