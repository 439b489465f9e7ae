"""Compare BrainSegDMLF and its ablations with MONAI's UNet and SegResNet on lower-grade glioma, for equal CPU time.

    python benchmarks/brain_lgg64.py run ours --fold 0 --minutes 8  # one training; writes a file in results/brain_lgg64
    python benchmarks/brain_lgg64.py folds "[ours,unet]"            # five folds x three seeds; goes on where it stopped
    python benchmarks/brain_lgg64.py table                          # all runs as Markdown and JSON

`pipeline` says what the models share. The 78 patients with all sequences are divided into five folds. The images are
read from BUNDLES_REAL_DATA (folder with ``brain_lgg64``); they are not part of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import SegResNet, UNet
from monai.transforms import RemoveSmallObjects
from monai.utils import set_determinism
from pipeline import bundle_config, check, real_images, train_for
from record import RESULTS, save, save_run, saved_runs

from shared.datasets.datalist import expand_datalist
from shared.results.metrics import case_metrics
from shared.results.tables import markdown

FOLDER = RESULTS / "brain_lgg64"
CHANNELS = ["flair", "t1", "t1post"]
PARTS = ("training", "validation")  # lists of the data set whose patients are divided into folds
FOLDS, SEEDS = 5, 3
SMALLEST = (5, 10, 20, 50)  # voxels; pieces of a mask that are smaller are removed
FIGURES = ("dice", "hd95_mm", "lesion_recall", "lesion_precision", "lesion_f1")
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


def divide(items: list[dict[str, Any]], fold: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Divide cases into those for training and those of a fold, the same for every model and seed."""
    order = np.random.default_rng(0).permutation(len(items))
    tested = set(order[fold::FOLDS].tolist())
    parts = [[item for i, item in enumerate(items) if (i in tested) == inside] for inside in (False, True)]
    return parts[0], parts[1]


def config(model: str, fold: int, **overrides: Any) -> ConfigParser:
    """Return the bundle's training config for these images."""
    sizes = {"channels": CHANNELS, "pixdim": [-1.0, -1.0, -1.0], "patch_size": [64, 64], "batch_size": 4}
    options = sizes | {"num_workers": 1} | SWITCHES.get(model, {}) | overrides
    parser = bundle_config("brainsegdmlf", ["train.json"], "brain_lgg64", **options)
    items = [case for part in PARTS for case in expand_datalist(real_images("brain_lgg64") / "dataset.json", part)]
    parser["training_items"], parser["validation_items"] = divide(items, fold)
    return parser


def run(
    model: str, fold: int, minutes: float = 8, threads: int = 1, seed: int = 0, learning_rate: float | None = None
) -> None:
    """Train one model for `minutes` of CPU time on four folds, and measure it on the fifth."""
    check("model", model, list(LABELS))
    torch.set_num_threads(threads)
    set_determinism(seed)
    rate = learning_rate or (0.004 if model.startswith("ours") else 0.002)
    parser = config(model, fold, learning_rate=rate)
    network = parser.get_parsed_content("network_def") if model.startswith("ours") else peer(model)
    iterations = train_for(parser, network, model, rate, minutes)

    result = {
        "model": model,
        "fold": fold,
        "parameters": sum(p.numel() for p in network.parameters()),
        "minutes": minutes,
        "threads": threads,
        "seed": seed,
        "learning_rate": rate,
        "iterations": iterations,
        **measure(parser, network, fold),
    }
    print(f"{model}: Dice {np.mean(result['complete']['dice']):.4f}")
    save_run(FOLDER, run_file(model, fold, seed, minutes), result)


def run_file(model: str, fold: int, seed: int, minutes: float) -> str:
    """Return the name of a run's file."""
    return f"{model}_fold{fold}_seed{seed}_{minutes:g}min"


def folds(models: Sequence[str], minutes: float = 8, seeds: int = SEEDS) -> None:
    """Train each model on every fold with every seed; runs whose file is there are left out."""
    for seed, fold, model in product(range(seeds), range(FOLDS), [models] if isinstance(models, str) else models):
        if not (FOLDER / f"{run_file(model, fold, seed, minutes)}.json").exists():
            run(model, fold, minutes, seed=seed)


def measure(parser: ConfigParser, network: torch.nn.Module, fold: int) -> dict[str, Any]:
    """Measure a fold with all sequences, without each sequence, and the patients of no fold, who lack a sequence."""
    cases = list(parser.get_parsed_content("validate#dataset"))
    results: dict[str, Any] = {"complete": evaluate(parser, network, cases)}
    for size in SMALLEST:
        results[f"pieces of {size}"] = evaluate(parser, network, cases, smallest=size)
    for index, name in enumerate(CHANNELS):
        results[f"without {name}"] = evaluate(parser, network, cases, missing=index)
    fresh = config("ours", fold)
    fresh["validation_items"] = expand_datalist(real_images("brain_lgg64") / "dataset.json", "incomplete")
    results["incomplete"] = evaluate(fresh, network, list(fresh.get_parsed_content("validate#dataset")))
    return results


def evaluate(
    parser: ConfigParser, network: torch.nn.Module, cases: list[Any], missing: int | None = None, smallest: int = 0
) -> dict[str, list[float]]:
    """Segment whole volumes and return each figure of `FIGURES` per patient, on the grid of the files.

    Args:
        parser: the bundle's config.
        network: the network.
        cases: volumes after the transforms of validation.
        missing: index of a sequence to leave out.
        smallest: voxels of the smallest piece of a mask that is kept.
    """
    keep = RemoveSmallObjects(smallest, connectivity=3)
    inferer, post = parser.get_parsed_content("validate#inferer"), parser.get_parsed_content("validate#postprocessing")
    network.eval()
    rows = []
    for case in cases:
        case = dict(case)
        if missing is not None:
            case["image"] = case["image"].clone()
            case["image"][missing] = 0
        with torch.no_grad():
            case["pred"] = inferer(case["image"][None], network)[0]  # a MetaTensor, as Invertd needs
        done = post(case)
        spacing = [float(v) for v in done["label"].pixdim]
        mask = keep(done["pred"]) if smallest else done["pred"]
        rows.append(case_metrics(mask, done["label"], spacing, ["lesion"], channel_wise=True)["lesion"])
    return {figure: [round(float(row[figure]), 4) for row in rows] for figure in FIGURES}


def spread(runs: Sequence[dict[str, Any]], part: str, figure: str) -> str:
    """Return the mean over all patients of a seed, averaged over seeds, and the seeds' standard deviation."""
    means = [
        np.nanmean(np.concatenate([run[part][figure] for run in runs if run["seed"] == seed]))
        for seed in sorted({run["seed"] for run in runs})
    ]
    return f"{np.mean(means):.3f}" + (f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else "")


def table() -> None:
    """Write one row per model and time, over all folds and seeds that are there."""
    columns = [("complete", "dice"), ("complete", "lesion_f1"), ("complete", "lesion_recall")]
    columns += [("complete", "lesion_precision"), *((f"without {name}", "dice") for name in CHANNELS)]
    columns += [("incomplete", "dice")]
    names = ["Dice", "lesion F1", "lesion recall", "lesion precision"]
    names += [*(f"without {name}" for name in CHANNELS), "10 incomplete patients"]
    rows = [["model", "M parameters", "minutes", "seeds x folds", "iterations", *names]]
    found = saved_runs(FOLDER)
    for minutes, model in sorted({(-run["minutes"], list(LABELS).index(run["model"])) for run in found}):
        runs = [run for run in found if run["minutes"] == -minutes and run["model"] == list(LABELS)[model]]
        rows.append(
            [
                list(LABELS.values())[model],
                f"{runs[0]['parameters'] / 1e6:.2f}",
                f"{-minutes:g}",
                f"{len({run['seed'] for run in runs})} x {len({run['fold'] for run in runs})}",
                str(round(np.mean([run["iterations"] for run in runs]))),
                *(spread(runs, part, figure) for part, figure in columns),
            ]
        )
    lines = [
        "# BrainSegDMLF beside MONAI's UNet and SegResNet, `brain_lgg64`",
        "",
        "78 patients in five folds, equal CPU time on one thread, same pipeline; made by `benchmarks/brain_lgg64.py`.",
        "Figures are means over all patients, each measured by the network that was not trained on them; ± is the",
        "standard deviation over seeds. A lesion is a connected piece; one that the mask overlaps counts as found.",
        "",
    ]
    save("brain_lgg64", found, "\n".join([*lines, *markdown(rows)]) + "\n")


if __name__ == "__main__":
    fire.Fire({"run": run, "folds": folds, "table": table})
