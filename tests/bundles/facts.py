"""What differs between the bundles for a test: short options, channels, what training prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tests.bundles.brainsegdmlf import helpers as brain
from tests.bundles.emclip import helpers as emclip
from tests.bundles.running import ROOT
from tests.bundles.tmca import helpers as tmca

NAMES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/train.json"))
SMALL: dict[str, dict[str, Any]] = {
    "brainsegdmlf": {"patch_size": [32, 32]},
    "emclip": {"image_size": [32, 32]},
    "tmca": {"image_size": 64},
}
SHORT: dict[str, dict[str, Any]] = {
    "brainsegdmlf": {"patches_per_volume": 1},
    "emclip": {"batch_size": 2, "cluster_pictures": 0},
    "tmca": {"batch_size": 2},
}
TRAIN: dict[str, Any] = {"epochs": 1, "val_interval": 1, "overlays": 0, "num_workers": 0}


@dataclass(frozen=True)
class Facts:
    """One bundle: its helpers, its words on the screen, and the sizes that the common tests use."""

    name: str
    helpers: ModuleType
    cases: str  # first line of a training on the data of `make_data`
    best: str  # words of the last table, printed once
    next_words: tuple[str, ...]  # first words of the last lines
    predictions: int  # cases of the testing split
    channels: int  # of an image
    masks: int  # channels of the output
    inputs: tuple[str, ...] = ("image",)  # keys of a batch that the network takes
    network: dict[str, Any] = field(default_factory=dict)  # options that give the network of `save_weights`
    trained: dict[str, Any] = field(default_factory=dict)  # further options of the trained run
    steady: dict[str, Any] = field(default_factory=dict)  # options that turn off what is random in training
    rate: float = 0.002  # at which the loss on one batch falls
    tolerance: float = 0.0  # of weights that a checkpoint restores

    def __str__(self) -> str:
        return self.name


FACTS = {
    "brainsegdmlf": Facts(
        name="brainsegdmlf",
        helpers=brain,
        cases="BrainSegDMLF  6 cases (4 train, 2 validation)",
        best="mean of 2",
        next_words=("pictures", "tables", "weights", "next"),
        predictions=2,
        channels=4,
        masks=1,
        trained={"overlays": 2},
        steady={"modality_drop": 0},
        rate=0.005,
    ),
    "emclip": Facts(
        name="emclip",
        helpers=emclip,
        cases="EM-CLIP  9 cases (4 train, 2 validation, 3 unseen domains)",
        best="mean of unseen",
        next_words=("pictures", "tables", "weights", "next", "clusters"),
        predictions=3,
        channels=3,
        masks=2,
        steady={"augmentation": 0},
        tolerance=1e-6,
    ),
    "tmca": Facts(
        name="tmca",
        helpers=tmca,
        cases="TMCA  9 cases (6 train, 3 validation)",
        best="Dice right",
        next_words=("pictures", "tables", "weights", "next", "attention"),
        predictions=2,
        channels=1,
        masks=1,
        inputs=("image", "text"),
        network=tmca.NETWORK,
        steady={"augmentation": 0, "null_share": 0.0, "dropout": 0.0},
    ),
}
