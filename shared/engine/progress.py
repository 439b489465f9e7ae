"""The heading and the progress bars of a run in the terminal. First process only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any

import ignite.distributed as idist
import torch
from ignite.handlers import ProgressBar

from shared.engine.precision import describe

BAR = "{desc} [{bar:24}] {percentage:3.0f}%  {elapsed}<{remaining}{postfix}"


class TrainingProgress:
    """Show ignite's progress bar for a trainer or an evaluator.

    Args:
        name: word before the bar; a trainer's bar also counts epochs.
        loss: show the loss, and keep the bar of every epoch on the screen.
    """

    def __init__(self, name: str = "epoch", loss: bool = False) -> None:
        self.name = name
        self.loss = loss

    def attach(self, engine: Any) -> None:
        """Register the bar."""
        if idist.get_rank() != 0:
            return
        output: Callable[[Any], Any] | None = mean_loss if self.loss else None
        ProgressBar(persist=self.loss, desc=self.name, bar_format=BAR).attach(engine, output_transform=output)


def mean_loss(output: Any) -> dict[str, float]:
    """Return the loss of an iteration.

    Args:
        output: output of a MONAI trainer: a dict, or a list of one dict per sample.
    """
    first = output[0] if isinstance(output, list) else output
    return {"loss": float(torch.as_tensor(first["loss"]).detach())}


def heading(
    name: str,
    data: str,
    counts: Mapping[str, int | Sized],
    device: Any,
    amp: bool,
    network: torch.nn.Module,
    encoder: str,
) -> None:
    """Print the first line of a run: what runs on which data.

    Args:
        name: name of the method.
        data: what the cases are, e.g. "phantoms".
        counts: lists of cases by name, or the numbers of their cases, e.g. ``{"train": 40, "validation": 8}``.
        device: device of the network.
        amp: whether the network may compute in lower precision.
        network: its parameters are counted.
        encoder: name of the encoder.
    """
    if idist.get_rank() != 0:
        return
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    numbers = {part: cases if isinstance(cases, int) else len(cases) for part, cases in counts.items()}
    split = ", ".join(f"{n} {part}" for part, n in numbers.items())
    size = f"{parameters:.1f} M parameters, encoder {encoder}"
    print(f"{name}  {sum(numbers.values())} {data} ({split})  {describe(device, amp)}  {size}", flush=True)
