"""Compare EM-CLIP and its ablations with MONAI's UNet and FlexibleUNet on unseen domains, for equal CPU time.

    python benchmarks/unseen_domains.py run fundus ours --minutes 20   # one model; writes a file in results
    python benchmarks/unseen_domains.py again cardiac_ours_128px_seed0_14min FILE  # weights that --weights has kept
    python benchmarks/unseen_domains.py again cardiac_unet_128px_seed0_16min FILE --cavity_and_wall None  # another row
    python benchmarks/unseen_domains.py table                          # all runs as Markdown and JSON

`pipeline` says what the models share; the peers also standardise images as EM-CLIP does. All models are trained on one
source domain. The images are read from BUNDLES_REAL_DATA (folder with ``fundus``, ``cardiac_acdc``,
``cardiac_mnms``); they are not part of the project.
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
from monai.networks.nets import FlexibleUNet, UNet
from monai.utils import set_determinism
from pipeline import bundle_config, check, real_images, train_for
from record import RESULTS, named, run_name, save, save_run, saved_runs
from torch import Tensor

from shared.backbones.checkpoint import load_weights
from shared.results.tables import markdown

FOLDER = RESULTS / "unseen_domains"
TASKS = {
    "fundus": ("Drishti-GS -> RIM-ONE", "fundus", []),
    "cardiac": ("ACDC -> M&Ms vendors A, B", "cardiac_acdc", ["cardiac_mnms"]),
}
SWITCHES: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours_no_em": {"em": False},
    "ours_no_anchors": {"anchors": False},
    "ours_no_text": {"text_guidance": "none"},
}
LABELS = {
    "ours": "EM-CLIP",
    "ours_no_em": "EM-CLIP, EM off",
    "ours_no_anchors": "EM-CLIP, anchors off",
    "ours_no_text": "EM-CLIP, text off",
    "unet": "MONAI UNet",
    "flexibleunet": "MONAI FlexibleUNet (EfficientNet-B0, from scratch)",
}


class Peer(torch.nn.Module):
    """A network of MONAI on standardised images, with the outputs that the bundle's loss expects."""

    def __init__(self, name: str, structures: int) -> None:
        super().__init__()
        self.body: torch.nn.Module
        if name == "unet":
            self.body = UNet(2, 3, structures, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
        else:
            self.body = FlexibleUNet(3, structures, "efficientnet-b0")

    def forward(self, image: Tensor) -> Any:
        """Return masks (B, S, H, W) for images (B, 3 or 1, H, W)."""
        from emclip.network import TrainingOutput

        from shared.layers.fitting import standardize

        masks = self.body(standardize(image).expand(-1, 3, -1, -1))
        return TrainingOutput([masks], None, None, None, None) if self.training else masks


def config(task: str, output_dir: str, **overrides: Any) -> ConfigParser:
    """Return the bundle's training config for the images of a task."""
    _, folder, others = TASKS[task]
    test_dirs = [str(real_images(other)) for other in others]
    options = {"test_dirs": test_dirs, "output_dir": output_dir, "overlays": 0} | overrides
    files = ["train.json", "cardiac.json"] if task == "cardiac" else ["train.json"]
    return bundle_config("emclip", files, folder, **options)


def measure(parser: ConfigParser, folder: str) -> list[dict[str, Any]]:
    """Measure the parser's network: one record per domain and structure, with its Dice at one size."""
    from one_size import Masks, best_factor

    evaluator, report = parser.get_parsed_content("test#evaluator"), parser.get_parsed_content("report")
    masks = Masks(list(parser["structures"]))
    report.attach(evaluator)
    masks.attach(evaluator)
    evaluator.run()
    records = json.loads(pd.read_csv(Path(folder) / "domains.csv").to_json(orient="records"))
    for record in records:
        pairs = masks.pairs.get((record["domain"], record["class"]))
        record["factor"], record["dice_one_size"] = best_factor(pairs) if pairs else (None, None)
    return records


def build(parser: ConfigParser, model: str) -> torch.nn.Module:
    """Return the bundle's network or a peer for the same structures."""
    if model.startswith("ours"):
        return parser.get_parsed_content("network_def")
    return Peer(model, len(parser["structures"]))


def run(
    task: str,
    model: str,
    minutes: float = 20,
    threads: int = 1,
    seed: int = 0,
    learning_rate: float = 0.002,
    weights: str | None = None,
    **overrides: Any,
) -> None:
    """Train one model for `minutes` of CPU time and measure it; `weights` is a file to keep the weights in."""
    check("task", task, list(TASKS))
    check("model", model, list(LABELS))
    torch.set_num_threads(threads)
    set_determinism(seed)
    with tempfile.TemporaryDirectory() as folder:
        parser = config(task, folder, learning_rate=learning_rate, **SWITCHES.get(model, {}), **overrides)
        network = build(parser, model).to(memory_format=torch.channels_last)
        iterations = train_for(parser, network, f"{task} {model}", learning_rate, minutes)
        if weights:
            torch.save(network.state_dict(), weights)
        domains = measure(parser, folder)
    result = {
        "task": task,
        "model": model,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "minutes": minutes,
        "threads": threads,
        "seed": seed,
        "learning_rate": learning_rate,
        "overrides": overrides,
        "image_size": parser["image_size"],
        "iterations": iterations,
        "domains": domains,
    }
    file = run_name(model, result["image_size"][0], seed, minutes, overrides)
    save_run(FOLDER, f"{task}_{file}", result)


def again(name: str, weights: str, **overrides: Any) -> None:
    """Measure the weights of the run `name` again; with further overrides it becomes a separate row."""
    result = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    overrides = result["overrides"] | overrides
    with tempfile.TemporaryDirectory() as folder:
        parser = config(result["task"], folder, **SWITCHES.get(result["model"], {}), **overrides)
        parser["network"] = build(parser, result["model"])
        load_weights(parser["network"], weights)
        domains = measure(parser, folder)
    new = {"overrides": overrides, "image_size": parser["image_size"], "domains": domains}
    file = run_name(result["model"], parser["image_size"][0], result["seed"], result["minutes"], overrides)
    save_run(FOLDER, f"{result['task']}_{file}", result | new)


def table() -> None:
    """Write all runs as one table per task, with mean and spread over seeds."""
    found = saved_runs(FOLDER)
    text = "# EM-CLIP beside MONAI's UNet and FlexibleUNet on domains never seen\n"
    for task, (title, _, _) in TASKS.items():
        runs = [result for result in found if result["task"] == task]
        if runs:
            text += f"\n## {title}\n\n{table_of(runs)}\n"
    save("unseen_domains", found, text)


def table_of(runs: list[dict[str, Any]]) -> str:
    """Return one row per model and training, with its Dice per domain and structure: mean and spread over seeds."""
    ways, order = ["model", "M", "px", "precision", "min"], {model: place for place, model in enumerate(LABELS)}
    rows = pd.DataFrame(
        [
            {
                "model": named(LABELS[run["model"]], run["overrides"]),
                "M": f"{run['parameters'] / 1e6:.2f}",
                "px": run["image_size"][0],
                "precision": run["precision"],
                "min": run["minutes"],
                "seed": run["seed"],
                "column": f"{line['domain']} {line['class']}{what}",
                "dice": line[key],
            }
            for run in sorted(runs, key=lambda run: (run["precision"], run["minutes"], order[run["model"]]))
            for line in run["domains"]
            for what, key in (("", "dice_mean"), (", one size", "dice_one_size"))
            if line.get(key) is not None and (key == "dice_mean" or line["role"] == "unseen")
        ]
    )
    lines = []
    columns = sorted(set(rows["column"]), key=lambda name: (", one size" in name, list(rows["column"]).index(name)))
    for way, part in rows.groupby(ways, sort=False):
        cells = [*(f"{x:g}" if isinstance(x, float) else str(x) for x in way), str(part["seed"].nunique())]
        for column in columns:
            values = part.loc[part["column"] == column, "dice"]
            spread = f" ± {values.std():.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}" if len(values) else "-")
        lines.append(cells)
    head = ["model", "M parameters", "px", "precision", "CPU minutes", "seeds", *columns]
    return "\n".join(markdown([head, *lines]))


if __name__ == "__main__":
    fire.Fire({"run": run, "again": again, "table": table})
