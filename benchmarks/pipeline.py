"""Train networks with a bundle's own pipeline on real images, for equal CPU time.

Every model gets the bundle's images, augmentation, loss, optimiser and cosine schedule, and the same CPU seconds of
training on the same number of threads. A second process prepares the images; its time is not counted. Only the network
and its learning rate differ. The weights at the end of the time are measured, so that no model profits from the choice
of a checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from record import ROOT


def real_images(name: str) -> Path:
    """Return the data set `name` below BUNDLES_REAL_DATA, or exit with one line."""
    folder = Path(os.environ.get("BUNDLES_REAL_DATA", "")) / name
    if not (folder / "dataset.json").is_file():
        raise SystemExit(f"no images in {folder}: set BUNDLES_REAL_DATA to the folder that contains {name}")
    return folder


def check(kind: str, name: str, known: Sequence[str]) -> None:
    """Exit with one line if `name`, of a "model" or a "task", is unknown."""
    from shared.core.messages import nearest

    if name not in known:
        raise SystemExit(f"unknown {kind} {name!r}: {nearest(name, known)}")


def bundle_config(bundle: str, files: Iterable[str], images: str, **overrides: Any) -> ConfigParser:
    """Return a bundle's training config for real images, on the CPU and without handlers.

    Args:
        bundle: name of the bundle.
        files: config files, later ones override earlier ones.
        images: data set below BUNDLES_REAL_DATA.
        overrides: further options.
    """
    folder = ROOT / "bundles" / bundle
    parser = ConfigParser()
    parser.read_config([str(folder / "configs" / name) for name in files])
    fixed = {
        "bundle_root": str(folder),
        "dataset_dir": str(real_images(images)),
        "device": torch.device("cpu"),
        "epochs": 100000,
        "train#handlers": [],
    }
    parser.update(fixed | overrides)
    parser.get_parsed_content("code")
    return parser


def train_for(parser: ConfigParser, network: torch.nn.Module, name: str, rate: float, minutes: float) -> int:
    """Train `network` in place of the config's own, with a warm-up and a cosine schedule over the time.

    The clock counts the CPU time of this process, so that other load on the machine does not matter.

    Args:
        parser: training config of a bundle.
        network: network to train.
        name: shown with the progress.
        rate: largest learning rate.
        minutes: CPU time.

    Returns:
        Number of iterations.
    """
    parser["network"] = network
    trainer, optimizer = parser.get_parsed_content("train#trainer"), parser.get_parsed_content("optimizer")
    began: list[float] = []

    def schedule(engine: Any) -> None:
        if not began:
            began.append(time.process_time())
        share = min(1.0, (time.process_time() - began[0]) / (60 * minutes))
        warm = min(1.0, (engine.state.iteration + 1) / 40)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.5 + 0.5 * math.cos(math.pi * share) + 1e-3)
        if share >= 1:
            engine.terminate()

    def show(engine: Any) -> None:
        if engine.state.iteration % 50 == 0:
            print(f"{name} {time.process_time() - began[0]:.0f} s iteration {engine.state.iteration} "
                  f"loss {float(engine.state.output['loss']):.3f}", flush=True)  # fmt: skip

    trainer.add_event_handler(Events.ITERATION_STARTED, schedule)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, show)
    trainer.run()
    return int(trainer.state.iteration)
