"""EM-CLIP, its ablations and MONAI's UNet and FlexibleUNet: trained on one source, measured on domains never seen.

Every model gets the bundle's own pipeline: images, augmentation, mask loss, optimiser, cosine schedule, and the same
CPU seconds of training on the same number of threads (images are augmented in a second process, whose time is not
counted); only the network and its learning rate differ. Peers standardise every image as EM-CLIP does. The weights at
the end of the time are measured: none profits from choosing a checkpoint.

    python benchmarks/unseen_domains.py run fundus ours --minutes 20   # one model, writes a file in results
    python benchmarks/unseen_domains.py again cardiac_ours_128px_seed0_14min FILE  # the weights that --weights kept
    python benchmarks/unseen_domains.py again fundus_unet_128px_seed0_6min FILE --convex None  # in a row of its own
    python benchmarks/unseen_domains.py table                          # all results, as Markdown and JSON

The images are found through BUNDLES_REAL_DATA (folder with ``fundus``, ``cardiac_acdc``, ``cardiac_mnms``); they are
not part of the project.
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
from monai.networks.nets import FlexibleUNet, UNet
from monai.utils import set_determinism
from record import RESULTS, check, named, real_images, run_name, save, save_run
from timed import train_for
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "emclip"
FOLDER = RESULTS / "unseen_domains"
sys.path[:0] = [str(ROOT), str(BUNDLE)]

from one_size import Masks, best_factor  # noqa: E402

from shared.backbones.checkpoint import load_weights  # noqa: E402

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
    """A network of MONAI's that sees standardised images and answers in training as the bundle's loss expects."""

    def __init__(self, name: str, structures: int) -> None:
        super().__init__()
        self.body: torch.nn.Module
        if name == "unet":
            self.body = UNet(2, 3, structures, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
        else:
            self.body = FlexibleUNet(3, structures, "efficientnet-b0")

    def forward(self, image: Tensor) -> Any:
        """Masks (B, S, H, W) of (B, 3 or 1, H, W)."""
        from emclip.network import TrainingOutput

        from shared.layers.fitting import standardize

        masks = self.body(standardize(image).expand(-1, 3, -1, -1))
        return TrainingOutput([masks], None, None, None, None) if self.training else masks


def config(task: str, output_dir: str, **overrides: Any) -> ConfigParser:
    """The bundle's training config for a task's images."""
    _, folder, others = TASKS[task]
    data = real_images(folder)
    parser = ConfigParser()
    configs = [BUNDLE / "configs" / "train.json"] + ([BUNDLE / "configs" / "cardiac.json"] if task == "cardiac" else [])
    parser.read_config([str(file) for file in configs])
    parser.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(data),
            "test_dirs": [str(data.parent / other) for other in others],
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


def measure(parser: ConfigParser, folder: str) -> list[dict[str, Any]]:
    """Dice and HD95 of the parser's network, a record a domain and structure, with its Dice at one size."""
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
    """The bundle's network, or a peer for the same structures."""
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
    """Train one model for so many minutes of CPU time and measure it; `weights` keeps what it learnt in a file."""
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
    """Measure a run's weights again, with further overrides in a row of its own; `name`: of its file in results."""
    result = json.loads((FOLDER / f"{name}.json").read_text())
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
    """Collect all results: a table a task, mean and spread over seeds."""
    found = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    text = "# EM-CLIP beside MONAI's UNet and FlexibleUNet on domains never seen\n"
    for task, (title, _, _) in TASKS.items():
        runs = [result for result in found if result["task"] == task]
        if runs:
            text += f"\n## {title}\n\n{markdown(runs)}\n"
    save("unseen_domains", found, text)
    print(text)


def markdown(runs: list[dict[str, Any]]) -> str:
    """A row a model and way to train, Dice a domain and structure: mean over seeds, with the spread where several."""
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
        lines.append("| " + " | ".join(cells) + " |")
    head = ["model", "M parameters", "px", "precision", "CPU minutes", "seeds", *columns]
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines])


if __name__ == "__main__":
    fire.Fire({"run": run, "again": again, "table": table})
