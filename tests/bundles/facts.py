"""What differs between the bundles for a test: short options, channels, what training prints."""

from __future__ import annotations

from typing import Any

from tests.bundles.running import ROOT

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
