"""TMCA in the tests of all bundles: synthetic chest X-rays with sentences, and a small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tmca.phantoms.dataset import make_chest_phantoms
from torch import nn

from tests.bundles.running import Bundle
from tests.making import write_pictures

SENTENCE = "unilateral pulmonary infection, one infected area, lower left lung."


def make_data(folder: Path) -> None:
    make_chest_phantoms(folder, 6, 3, 2, progress=False, workers=1)


def write_cases(folder: Path) -> None:
    write_pictures(folder, disc=1, cup=1, text="one infected area, lower left lung.")


def one_case(folder: Path) -> dict[str, Any]:
    return {"input": str(folder / "testing" / "chest_009.png"), "text": SENTENCE}


def stir(network: nn.Module) -> None:
    """Let every gate in, so that the masks depend on the sentence."""
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    network.decoder.heads[-1].bias -= network(torch.rand(2, 1, 64, 64)).median()


BUNDLE = Bundle(
    name="tmca",
    make_data=make_data,
    write_cases=write_cases,
    one_case=one_case,
    stir=stir,
    size={"image_size": 64},
    network={"backbone": "test_resnet", "channels": 16, "detail_channels": [4, 8, 16]},
    training={"batch_size": 2, "overlays": 1, "attention_pictures": 1},
    quiet={"overlays": 0, "attention_pictures": 0},
    steady={"augmentation": 0, "null_share": 0.0, "dropout": 0.0},
    switches={"enhancement": "enhancements"},
    sides="size",
    classes="target",
    differing=frozenset({"image_size"}),
    training_only=frozenset(
        {"pretrained", "checkpoint", "text_pretrained", "text_checkpoint"}
        | {"null_share", "deep_supervision", "dropout"}
    ),
    inputs=("image", "text"),
    script={"use_trace": True, "input_shape": [1, 1, 64, 96]},
    script_sizes=((1, 64, 96), (3, 64, 96)),
    moving=("running", "num_batches"),  # statistics of batch norm
    cases="TMCA  9 cases (6 train, 3 validation)",
    evaluated="TMCA  3 cases (3 validation)",
    best="Dice right",
    next_words=("pictures", "tables", "weights", "next", "attention"),
)
