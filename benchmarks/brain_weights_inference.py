"""The inference of BrainSegDMLF with any file of weights, and the scores of its masks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from record import ROOT
from scipy import ndimage

from shared.backbones.checkpoint import load_weights
from shared.results.metrics import dice, lesion_wise

BUNDLE = ROOT / "bundles" / "brainsegdmlf"


class Inference:
    """The transforms, network and inferer of ``inference.json``.

    Args:
        weights: file of the network's weights.
        threshold: of the probability; None takes that of ``inference.json``.
        scratch: folder for prepared cases.
    """

    def __init__(self, weights: Path, threshold: float | None, scratch: str) -> None:
        config = ConfigParser()
        config.read_config(str(BUNDLE / "configs" / "inference.json"))
        config.update({"bundle_root": str(BUNDLE), "output_dir": scratch})
        if threshold is not None:
            config.update({"threshold": threshold})
        config.get_parsed_content("code")
        self.weights = weights
        self.channels: list[str] = config.get_parsed_content("channels")
        self.network = config.get_parsed_content("network").eval()
        load_weights(self.network, weights, "give --weights the path of a file")
        self.inferer = config.get_parsed_content("inferer")
        steps = config.get_parsed_content("preprocessing").transforms
        first = len(config["loading"])
        self.loading, self.fitting = Compose(steps[:first]), Compose(steps[first:])
        self.postprocessing = config.get_parsed_content("postprocessing")
        options = ("threshold", "temperature", "smallest_lesion", "planes", "overlap", "prepare")
        self.settings = {"weights": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
        self.settings |= {name: config.get_parsed_content(name) for name in options}

    def load(self, files: Sequence[str | None], case: str) -> MetaTensor:
        """Load and prepare a case: one file per channel, None for a missing one. Returns (M, X, Y, Z)."""
        return self.loading({"image": list(files), "case_id": case})["image"]

    @torch.inference_mode()
    def segment(self, image: MetaTensor, sequences: Sequence[str]) -> np.ndarray:
        """Segment a prepared case from some of its sequences.

        Args:
            image: (M, X, Y, Z) with affine; sequences that are missing are 0.
            sequences: names of the channels to use.

        Returns:
            bool (X, Y, Z), on the grid of `image`.
        """
        kept = image.clone()
        kept[[name not in sequences for name in self.channels]] = 0
        item = self.fitting({"image": kept, "case_id": "case"})
        logits = self.inferer(item["image"][None], self.network)
        return self.postprocessing({**item, "pred": logits[0]})["pred"][0].numpy() > 0


def score(found: np.ndarray, label: np.ndarray, voxel_ml: float) -> dict[str, Any]:
    """Score a mask.

    A lesion is a 26-connected piece of the label and counts as found if any voxel of the mask lies in it. A piece of
    the mask that overlaps no lesion is a false lesion.

    Args:
        found, label: bool (X, Y, Z).
        voxel_ml: volume of a voxel in mL.

    Returns:
        ``dice`` and ``lesion_f1`` of `shared.results.metrics`; ``lesions``, for each its volume in mL and whether it
        was found; ``false_ml``, the volume of each false lesion.
    """
    neighbours = np.ones((3,) * label.ndim)
    lesions, pieces = (ndimage.label(mask, neighbours)[0] for mask in (label, found))
    touched, true = (np.unique(parts[found & label]) for parts in (lesions, pieces))
    sizes, false = (np.bincount(parts.ravel())[1:] * voxel_ml for parts in (lesions, pieces))
    return {
        "dice": dice(found, label),
        "lesion_f1": lesion_wise(found, label)["lesion_f1"],
        "lesions": [[round(float(ml), 4), number in touched] for number, ml in enumerate(sizes, 1)],
        "false_ml": [round(float(ml), 4) for number, ml in enumerate(false, 1) if number not in true],
    }
