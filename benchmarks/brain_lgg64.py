"""Compare BrainSegDMLF and its ablations with MONAI's UNet and SegResNet on lower-grade glioma, for equal CPU time.

    python benchmarks/brain_lgg64.py run ours --minutes 10  # one model; writes a file in results/brain_lgg64
    python benchmarks/brain_lgg64.py table                  # all runs as Markdown and JSON

`pipeline` says what the models share. The images are read from BUNDLES_REAL_DATA (folder with ``brain_lgg64``); they
are not part of the project.
"""

from __future__ import annotations

import time
from typing import Any

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import SegResNet, UNet
from monai.utils import set_determinism
from pipeline import bundle_config, check, train_for
from record import RESULTS, save, save_run, saved_runs

from shared.results.metrics import case_metrics
from shared.results.tables import markdown

FOLDER = RESULTS / "brain_lgg64"
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
    """Return a network of MONAI with the size that its tutorials use."""
    if name == "unet":
        return UNet(2, len(CHANNELS), 1, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    return SegResNet(2, 16, len(CHANNELS), 1, dropout_prob=0.2)


def config(model: str, **overrides: Any) -> ConfigParser:
    """Return the bundle's training config for these images."""
    sizes = {"channels": CHANNELS, "pixdim": [-1.0, -1.0, -1.0], "patch_size": [64, 64], "batch_size": 4}
    options = sizes | {"num_workers": 1} | SWITCHES.get(model, {}) | overrides
    return bundle_config("brainsegdmlf", ["train.json"], "brain_lgg64", **options)


def run(model: str, minutes: float = 10, threads: int = 1, seed: int = 0, learning_rate: float | None = None) -> None:
    """Train one model for `minutes` of CPU time and measure it."""
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
        **measure(parser, network),
    }
    print(f"{model}: Dice {result['validation']['dice']:.4f}")
    save_run(FOLDER, f"{model}_seed{seed}_{minutes:g}min", result)


def measure(parser: ConfigParser, network: torch.nn.Module) -> dict[str, Any]:
    """Measure validation patients with all sequences, without each sequence, and patients who lack one."""
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
    """Segment whole volumes and return the mean metrics over patients, on the grid of the files."""
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
    """Write all runs as one table."""
    found = saved_runs(FOLDER)
    found.sort(key=lambda run: (-run["minutes"], list(LABELS).index(run["model"]), run["seed"]))
    lines = [
        "# BrainSegDMLF beside MONAI's UNet and SegResNet, `brain_lgg64`",
        "",
        "62 training patients, 16 validation patients (whole-volume Dice, mean over patients), equal CPU time and",
        "threads, same pipeline; made by `benchmarks/brain_lgg64.py`. HD95 in nominal mm.",
        "",
    ]
    whole = ["Dice", "HD95", "lesion F1", "s per volume"]
    missing = ["without FLAIR", "without T1", "without T1post", "10 incomplete patients"]
    rows = [["model", "M parameters", "minutes x threads", "iterations", *whole, *missing]]
    for run in found:
        scores = run["validation"]
        rows.append(
            [
                LABELS[run["model"]] + (f", seed {run['seed']}" if run["seed"] else ""),
                f"{run['parameters'] / 1e6:.2f}",
                f"{run['minutes']:g} x {run['threads']}",
                str(run["iterations"]),
                f"{scores['dice']:.3f}",
                f"{scores['hd95_mm']:.1f}",
                f"{scores['lesion_f1']:.3f}",
                f"{scores['seconds_a_volume']:.2f}",
                *(f"{run[f'without {name}']['dice']:.3f}" for name in CHANNELS),
                f"{run['incomplete patients']['dice']:.3f}",
            ]
        )
    save("brain_lgg64", found, "\n".join([*lines, *markdown(rows)]) + "\n")


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
