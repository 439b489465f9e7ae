"""BrainSegDMLF beside MONAI's UNet and SegResNet on lower-grade glioma, at equal time.

Every model gets the bundle's own pipeline: the same slices, augmentation, loss, optimiser and cosine schedule, and the
same CPU seconds of training on the same number of threads (a loaded machine does not favour anybody; slices are made
in a second process, whose time is not counted, so a cheap network is not charged for them); only the network
and its learning rate differ. The weights at the end of the time are measured: none profits from choosing a checkpoint.

    python benchmarks/brain_lgg64.py run ours --minutes 10  # one model, writes a file in results/brain_lgg64
    python benchmarks/brain_lgg64.py table                  # all results, as Markdown and JSON

The images are found through BUNDLES_REAL_DATA (folder with ``brain_lgg64``); they are not part of the project.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import SegResNet, UNet
from monai.utils import set_determinism
from record import check, real_images
from timed import train_for

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "brainsegdmlf"
RESULTS = Path(__file__).resolve().parent / "results" / "brain_lgg64"
sys.path[:0] = [str(ROOT), str(BUNDLE)]

from shared.results.metrics import case_metrics  # noqa: E402

CHANNELS = ["flair", "t1", "t1post"]
LABELS = {
    "ours": "BrainSegDMLF",
    "ours_no_dmif": "BrainSegDMLF, DMIF off",
    "ours_no_decoder": "BrainSegDMLF, decoder off",
    "ours_no_drop": "BrainSegDMLF, modality drop off",
    "unet": "MONAI UNet",
    "segresnet": "MONAI SegResNet",
}
SWITCHES = {
    "ours_no_dmif": {"dmif": False},
    "ours_no_decoder": {"layerwise_decoder": False, "deep_supervision": 0},
    "ours_no_drop": {"modality_drop": 0.0},
}


def peer(name: str) -> torch.nn.Module:
    """MONAI's networks at the sizes of its tutorials."""
    if name == "unet":
        return UNet(2, len(CHANNELS), 1, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    return SegResNet(2, 16, len(CHANNELS), 1, dropout_prob=0.2)


def config(model: str, **overrides: Any) -> ConfigParser:
    """The bundle's training config for these images."""
    data = real_images("brain_lgg64")
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    parser.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(data),
            "channels": CHANNELS,
            "pixdim": [-1.0, -1.0, -1.0],
            "patch_size": [64, 64],
            "batch_size": 4,
            "num_workers": 1,
            "device": torch.device("cpu"),
            "epochs": 100000,
            "train#handlers": [],
            **SWITCHES.get(model, {}),
            **overrides,
        }
    )
    parser.get_parsed_content("code")
    return parser


def run(model: str, minutes: float = 10, threads: int = 1, seed: int = 0, learning_rate: float | None = None) -> None:
    """Train one model for so many minutes of CPU time and measure it."""
    check("model", model, list(LABELS))
    torch.set_num_threads(threads)
    set_determinism(seed)
    rate = learning_rate or (0.004 if model.startswith("ours") else 0.002)
    parser = config(model, learning_rate=rate)
    network = parser.get_parsed_content("network_def") if model.startswith("ours") else peer(model)
    iterations = train_for(parser, network, model, rate, minutes)

    result = {
        "model": model,
        "parameters": sum(p.numel() for p in network.parameters()),
        "minutes": minutes,
        "threads": threads,
        "seed": seed,
        "learning_rate": rate,
        "iterations": iterations,
        "torch": torch.__version__,
        **measure(parser, network),
    }
    target = RESULTS / f"{model}_seed{seed}_{minutes:g}min.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{model}: Dice {result['validation']['dice']:.4f}  ->  {target}")


def measure(parser: ConfigParser, network: torch.nn.Module) -> dict[str, Any]:
    """Validation patients complete, with each sequence left out, and the patients who lack one."""
    cases = list(parser.get_parsed_content("validate#dataset"))
    results: dict[str, Any] = {"validation": evaluate(parser, network, cases)}
    for index, name in enumerate(CHANNELS):
        results[f"without {name}"] = evaluate(parser, network, cases, missing=index)
    fresh = config("ours")
    fresh["validation_items"]["split"] = "incomplete"
    results["incomplete patients"] = evaluate(fresh, network, list(fresh.get_parsed_content("validate#dataset")))
    return results


def evaluate(
    parser: ConfigParser, network: torch.nn.Module, cases: list[Any], missing: int | None = None
) -> dict[str, Any]:
    """Whole volumes, in the grid of the files: mean over patients."""
    inferer, post = parser.get_parsed_content("validate#inferer"), parser.get_parsed_content("validate#postprocessing")
    network.eval()
    rows, seconds = [], []
    for case in cases:
        case = dict(case)
        if missing is not None:
            case["image"] = case["image"].clone()
            case["image"][missing] = 0
        start = time.perf_counter()
        with torch.no_grad():
            case["pred"] = inferer(case["image"][None], network)[0]  # a MetaTensor, as Invertd needs
        seconds.append(time.perf_counter() - start)
        done = post(case)
        spacing = [float(v) for v in done["label"].pixdim]
        rows.append(case_metrics(done["pred"], done["label"], spacing, ["lesion"], channel_wise=True)["lesion"])
    means = {
        key: float(np.mean([row[key] for row in rows])) for key in ("dice", "hd95_mm", "lesion_f1", "lesion_recall")
    }
    return {**means, "seconds_a_volume": float(np.median(seconds)), "cases": [row["dice"] for row in rows]}


def table() -> None:
    """Collect all results into one table, Markdown and JSON."""
    found = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    found.sort(key=lambda r: (-r["minutes"], list(LABELS).index(r["model"]), r["seed"]))
    lines = [
        "# BrainSegDMLF beside MONAI's UNet and SegResNet, `brain_lgg64`",
        "",
        "62 training patients, 16 validation patients (whole-volume Dice, mean over patients), equal CPU time and",
        "threads, same pipeline; made by `benchmarks/brain_lgg64.py`. HD95 in nominal mm.",
        "",
        "| model | M parameters | minutes x threads | iterations | Dice | HD95 | lesion F1 | s a volume |"
        " without FLAIR | without T1 | without T1post | 10 incomplete patients |",
        "|---" * 12 + "|",
    ]
    for r in found:
        v = r["validation"]
        cells = [
            LABELS[r["model"]] + (f", seed {r['seed']}" if r["seed"] else ""),
            f"{r['parameters'] / 1e6:.2f}",
            f"{r['minutes']:g} x {r['threads']}",
            str(r["iterations"]),
            f"{v['dice']:.3f}",
            f"{v['hd95_mm']:.1f}",
            f"{v['lesion_f1']:.3f}",
            f"{v['seconds_a_volume']:.2f}",
            *(f"{r[f'without {name}']['dice']:.3f}" for name in CHANNELS),
            f"{r['incomplete patients']['dice']:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    (RESULTS.parent / "brain_lgg64.md").write_text(text)
    (RESULTS.parent / "brain_lgg64.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
