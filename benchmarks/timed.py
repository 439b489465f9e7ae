"""Train any network with a bundle's own pipeline for so many seconds of CPU time."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser


def train_for(parser: ConfigParser, network: torch.nn.Module, name: str, rate: float, minutes: float) -> int:
    """Train `network` in place of the config's, with a warm-up and a cosine over the time; returns the iterations.

    The clock counts the training process alone, on however many threads it runs: a loaded machine favours nobody.
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
