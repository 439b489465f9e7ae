"""Compare TMCA, its image-only twin and its ablations with UNets of MONAI on QaTa-COV19, for equal CPU time.

    python benchmarks/report_sentences.py run ours --minutes 12   # one model; writes a file in results/report_sentences
    python benchmarks/report_sentences.py table                   # all runs as Markdown and JSON

`pipeline` says what the models share; the losses on sentences differ too. All validation images are segmented with the
right, with no and with shuffled sentences. The images are read from BUNDLES_REAL_DATA (folder with ``qata_cov19``);
they are not part of the project.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import fire
import pandas as pd
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet, UNet
from monai.utils import set_determinism
from pipeline import bundle_config, check, train_for
from record import RESULTS, named, run_name, save, save_run, saved_runs
from tmca.outputs import TrainingOutput
from tmca.texts import as_sentences, words_of
from torch import Tensor
from torch.nn.functional import interpolate

from shared.layers.fitting import standardize
from shared.results.tables import markdown

FOLDER = RESULTS / "report_sentences"
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
OFFSET = " †"  # mark of runs with labels half a pixel off
COLUMNS = {"right": "Dice, right sentence", "none": "no sentence", "shuffled": "shuffled"}


class Peer(torch.nn.Module):
    """MONAI's UNet on standardised images, without text, with the outputs that the bundle's loss expects."""

    def __init__(self) -> None:
        super().__init__()
        self.body = UNet(2, 1, 1, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)

    def forward(self, image: Tensor, text: Any = None) -> Any:
        """Return masks (B, 1, H, W) for images (B, 1, H, W)."""
        masks = self.body(standardize(image))
        return TrainingOutput([masks], None) if self.training else masks


class PlacesPeer(torch.nn.Module):
    """MONAI's BasicUNet with additional input channels: a GRU turns the sentence into maps of 7 x 7, resized.

    This is the simplest network that a sentence can tell where to look. Its vocabulary is that of the training list. In
    training a share of the sentences is dropped, so that it also learns images without a sentence.
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
        """Return masks (B, 1, H, W) for images (B, 1, H, W) and sentences; the maps of a missing sentence are zero."""
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
    """Return the bundle's network or a peer."""
    if model == "unet_places":
        sentences = [item.get("text", "") for item in parser.get_parsed_content("training_items")]
        return PlacesPeer(sentences)
    return Peer() if model == "unet" else parser.get_parsed_content("network_def")


def config(output_dir: str, **overrides: Any) -> ConfigParser:
    """Return the bundle's training config for QaTa-COV19."""
    options = {"output_dir": output_dir, "overlays": 0} | overrides
    return bundle_config("tmca", ["train.json", "qata.json"], "qata_cov19", **options)


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
    """Train one model for `minutes` of CPU time and measure it; `weights` is a file to keep the weights in."""
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
    """Write all runs as a table with one row per run."""
    found = saved_runs(FOLDER)
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


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
