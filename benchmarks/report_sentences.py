"""TMCA, its image-only twin, its ablations and UNets of MONAI's, with and without text, on QaTa-COV19, at equal time.

Every model gets the bundle's own pipeline: images, augmentation, mask loss, optimiser, cosine schedule, and the same
CPU seconds of training on the same number of threads (images are augmented in a second process, whose time is not
counted); only the network and its loss on sentences differ. The weights at the end of the time are measured on all
validation images, with the right, with no and with shuffled sentences.

    python benchmarks/report_sentences.py run ours --minutes 12   # one model, writes a file in results
    python benchmarks/report_sentences.py table                   # all results, as Markdown and JSON

The images are found through BUNDLES_REAL_DATA (folder with ``qata_cov19``); they are not part of the project.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import fire
import pandas as pd
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet, UNet
from monai.utils import set_determinism
from record import RESULTS, check, named, real_images, run_name, save, save_run
from timed import train_for
from torch import Tensor
from torch.nn.functional import interpolate

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "tmca"
FOLDER = RESULTS / "report_sentences"
sys.path[:0] = [str(ROOT), str(BUNDLE)]

from tmca.outputs import TrainingOutput  # noqa: E402
from tmca.texts import as_sentences, words_of  # noqa: E402

from shared.layers.fitting import standardize  # noqa: E402
from shared.results.tables import markdown  # noqa: E402

NO_TEXT: dict[str, Any] = {"text_encoder": None}
SWITCHES: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours_image_only": NO_TEXT,
    "ours_no_alignment": {"alignment": "off"},
    "ours_global_alignment": {"alignment": "global"},
    "ours_hard_targets": {"targets": "hard"},
    "ours_no_enhancement": {"enhancement": False},
    "unet": NO_TEXT,
    "unet_places": {},
}
LABELS = {
    "ours": "TMCA",
    "ours_image_only": "its image-only twin",
    "ours_no_alignment": "TMCA, alignment off",
    "ours_global_alignment": "TMCA, alignment of the whole image alone",
    "ours_hard_targets": "TMCA, hard targets",
    "ours_no_enhancement": "TMCA, enhancement off",
    "unet": "MONAI UNet, image only",
    "unet_places": "MONAI BasicUNet, the sentence as a map of places from a GRU",
}
OFFSET = " †"  # of old runs
COLUMNS = {"right": "Dice, right sentence", "none": "no sentence", "shuffled": "shuffled"}


class Peer(torch.nn.Module):
    """MONAI's UNet, which sees standardised images and no text, and answers as the bundle's loss expects."""

    def __init__(self) -> None:
        super().__init__()
        self.body = UNet(2, 1, 1, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)

    def forward(self, image: Tensor, text: Any = None) -> Any:
        """Masks (B, 1, H, W) of (B, 1, H, W)."""
        masks = self.body(standardize(image))
        return TrainingOutput([masks], None) if self.training else masks


class PlacesPeer(torch.nn.Module):
    """MONAI's BasicUNet, which sees beside the image what a GRU makes of the sentence: maps of 7 x 7 places, resized.

    The plainest way to let a network be told where to look. Its words are those of the training list; in training it
    loses a share of the sentences, so that it knows images without one.
    """

    def __init__(self, sentences: list[str], drop: float = 0.3, maps: int = 8, places: int = 7) -> None:
        super().__init__()
        self.words = {word: i + 1 for i, word in enumerate(sorted({w for s in sentences for w in words_of(s)}))}
        self.embedding = torch.nn.Embedding(len(self.words) + 1, 32, padding_idx=0)
        self.gru = torch.nn.GRU(32, 64, batch_first=True, bidirectional=True)
        self.places = torch.nn.Sequential(
            torch.nn.Linear(128, maps * places**2), torch.nn.Unflatten(1, (maps, places, -1))
        )
        widths = (16, 32, 64, 128, 256, 16)
        self.body = BasicUNet(2, 1 + maps, 1, widths, act=("relu", {"inplace": True}), norm="batch")
        self.drop = drop

    def forward(self, image: Tensor, text: Any = None) -> Any:
        """Masks (B, 1, H, W) of (B, 1, H, W) and sentences; a sentence that is missing or dropped has maps of zero."""
        sentences = as_sentences(text, len(image))
        if self.training:
            sentences = ["" if torch.rand(()) < self.drop else sentence for sentence in sentences]
        tokens = [torch.tensor([self.words.get(word, 0) for word in words_of(s)] or [0]) for s in sentences]
        ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        known = (ids > 0).float()[..., None]
        read = (self.gru(self.embedding(ids))[0] * known).sum(1) / known.sum(1).clamp(min=1)
        maps = self.places(read) * known.amax(1)[..., None, None]
        maps = interpolate(maps, size=image.shape[-2:], mode="bilinear").expand(len(image), -1, -1, -1)
        seen = torch.cat([standardize(image), maps.to(image.dtype)], 1).contiguous(memory_format=torch.channels_last)
        masks = self.body(seen)
        return TrainingOutput([masks], None) if self.training else masks


def build(parser: ConfigParser, model: str) -> torch.nn.Module:
    """The bundle's network, or a peer."""
    if model == "unet_places":
        sentences = [item.get("text", "") for item in parser.get_parsed_content("training_items")]
        return PlacesPeer(sentences)
    return Peer() if model == "unet" else parser.get_parsed_content("network_def")


def config(output_dir: str, **overrides: Any) -> ConfigParser:
    """The bundle's training config for QaTa-COV19."""
    data = real_images("qata_cov19")
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "qata.json")])
    parser.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(data),
            "output_dir": output_dir,
            "device": torch.device("cpu"),
            "epochs": 100000,
            "overlays": 0,
            "train#handlers": [],
            **overrides,
        }
    )
    parser.get_parsed_content("code")
    return parser


def run(
    model: str,
    minutes: float = 12,
    threads: int = 1,
    seed: int = 0,
    learning_rate: float = 0.002,
    image_size: int = 128,
    weights: str | None = None,
    **overrides: Any,
) -> None:
    """Train one model for so many minutes of CPU time and measure it; `weights` keeps what it learnt in a file."""
    check("model", model, list(LABELS))
    torch.set_num_threads(threads)
    set_determinism(seed)
    with tempfile.TemporaryDirectory() as folder:
        parser = config(folder, learning_rate=learning_rate, image_size=image_size, **SWITCHES[model], **overrides)
        network = build(parser, model).to(memory_format=torch.channels_last)
        iterations = train_for(parser, network, model, learning_rate, minutes)
        if weights:
            torch.save(network.state_dict(), weights)
        evaluator, report = parser.get_parsed_content("test#evaluator"), parser.get_parsed_content("report")
        report.attach(evaluator)
        evaluator.run()
        table = pd.read_csv(Path(folder) / "sentences.csv")
    result = {
        "model": model,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "minutes": minutes,
        "threads": threads,
        "seed": seed,
        "learning_rate": learning_rate,
        "image_size": image_size,
        "overrides": overrides,
        "iterations": iterations,
        "sentences": json.loads(table.to_json(orient="records")),
    }
    save_run(FOLDER, run_name(model, image_size, seed, minutes, overrides), result)


def table() -> None:
    """Collect all results: a row a run."""
    found = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    rows = [
        ["model", "M parameters", "CPU minutes", "precision", "px", "seed", "steps", *COLUMNS.values(), "micro Dice"]
    ]
    order = list(LABELS)
    for run in sorted(
        found, key=lambda run: (run["precision"], run["minutes"], order.index(run["model"]), run["seed"])
    ):
        whole = {line["sentence"]: line for line in run["sentences"] if line["target"] == "all"}
        dice = [f"{whole[name]['dice']:.3f}" if name in whole else "-" for name in COLUMNS]
        micro = next(iter(whole.values()))["micro_dice"]
        facts = [f"{run['parameters'] / 1e6:.2f}", f"{run['minutes']:g}", run["precision"]]
        facts += [str(run["image_size"]), str(run["seed"])]
        label = named(LABELS[run["model"]], run.get("overrides", {})) + OFFSET * run.get("labels_offset", False)
        rows.append([label, *facts, str(run["iterations"]), *dice, f"{micro:.3f}"])
    lines = ["# TMCA beside its image-only twin, its ablations and UNets of MONAI's on QaTa-COV19", "", *markdown(rows)]
    note = "Macro Dice over the 1,429 validation images; micro Dice of the first column that has a figure."
    if any(run.get("labels_offset") for run in found):
        note += f"\n{OFFSET}trained when labels were brought to the network's size half a pixel off their images."
        note += " `text_drop`: that share of the images lost its sentence, where now some are segmented twice."
    save("report_sentences", found, "\n".join([*lines, "", note]) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
