"""Compare the Dice of TMCA for the same findings in different wordings, on QaTa-COV19.

    python benchmarks/other_words.py                                 # shipped weights, 300 validation images
    python benchmarks/other_words.py --weights FILE --number 1429

Each image is segmented with its own sentence and with other wordings of the same places. "Words of training" come from
the generator of the option `rephrase_prob`; the last two wordings contain words that it never uses. The images are read
from BUNDLES_REAL_DATA (folder with ``qata_cov19``); they are not part of the project.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import fire
import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.metrics import DiceMetric
from record import ROOT, save
from report_sentences import config
from tmca.inferer import VariantInferer
from tmca.phantoms.sentence import Findings, opening, parse, places, write_sentence
from tmca.phantoms.wording import reword
from torch.nn import functional as F
from tqdm import tqdm

from shared.backbones.checkpoint import load_weights
from shared.results.tables import markdown

WEIGHTS = ROOT / "bundles" / "tmca" / "models" / "model.pt"
CHANCE = np.random.RandomState(0)
UNKNOWN = {"upper": "superior", "middle": "central", "lower": "inferior"}


def _lobes(findings: Findings) -> str:
    named = [f"{side} {' and '.join(zones)} lobe{'s' * (len(zones) > 1)}" for side, zones in findings.items()]
    return f"Consolidation in the {' and the '.join(named)}."


def _unknown_shadow(findings: Findings) -> str:
    return f"Hazy density projecting over the {' and the '.join(places(findings))}."


def _unknown_zones(findings: Findings) -> str:
    named = [f"{' and '.join(UNKNOWN[zone] for zone in zones)} {side} lung" for side, zones in findings.items()]
    return f"Opacity in the {' and the '.join(named)}."


WAYS: dict[str, Callable[[Findings], str]] = {
    "as in the data": write_sentence,
    "the right lung first": lambda findings: f"{opening(findings)}, {' and '.join(places(findings)[::-1])}.",
    "the places alone": lambda findings: f"{' and '.join(places(findings))}.",
    "opacity in the ...": lambda findings: f"opacity in the {' and '.join(places(findings))}.",
    "consolidation in the ... lobe": _lobes,
    "words of training": lambda findings: reword(findings, CHANCE),
    "hazy density projecting over ...": _unknown_shadow,
    "superior, central, inferior": _unknown_zones,
    "no sentence": lambda _: "",
}


def main(
    weights: str = str(ROOT / "bundles" / "tmca" / "models" / "model.pt"), number: int = 300, threads: int = 1
) -> None:
    """Measure the mean Dice over images for each wording."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        parser = config(folder)
        network = parser.get_parsed_content("network_def").eval()
        load_weights(network, weights)
        items = parser.get_parsed_content("validation_items")
        chosen = [items[i] for i in np.random.RandomState(0).permutation(len(items))[:number]]
        images = Dataset(chosen, parser.get_parsed_content("validate#preprocessing"))
        inferer, score = VariantInferer(parser.get_parsed_content("windows")), DiceMetric(reduction="mean_batch")
        for batch in tqdm(DataLoader(images, batch_size=1), desc=Path(weights).name):
            findings, label = parse(batch["text"][0]), batch["label"].as_tensor()
            with torch.inference_mode():
                logits = inferer(batch["image"].as_tensor(), network, *([way(findings)] for way in WAYS.values()))
                masks = F.interpolate(logits, label.shape[2:], mode="bilinear") > 0
            score(masks.float(), label.expand_as(masks))
    found = {name: round(dice, 4) for name, dice in zip(WAYS, score.aggregate().tolist())}
    example: Findings = {"left": ("lower",), "right": ("upper", "middle")}
    rows = [["way", "for example", "Dice"]]
    rows += [[name, WAYS[name](example) or "-", f"{dice:.3f}"] for name, dice in found.items()]
    lines = [
        f"# The same findings in other words: TMCA on {len(chosen)} validation images of QaTa-COV19",
        "",
        *markdown(rows),
    ]
    save("other_words", {"images": len(chosen), "dice": found}, "\n".join(lines) + "\n")


if __name__ == "__main__":
    fire.Fire(main)
