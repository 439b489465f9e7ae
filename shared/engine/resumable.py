"""A training whose state lies in one file, from which it goes on after a stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.core.errors import InputError
from shared.engine.run_folder import save_checkpoint

LARGEST_GRADIENT = 1.0  # norm to which gradients are clipped


class ResumableTraining:
    """AdamW and a moving average of a network's weights, saved together and read again if the file exists.

    Args:
        network: is changed by `update`.
        file: of the state; read if it exists.
        decay: of the moving average.
        weight_decay: of AdamW.
        settings: options that a training keeps from its first step to its last, by name.

    Attributes:
        step: number of updates so far.
        average: network with the moving average of the weights.

    Raises:
        InputError: the file was written with other settings.
    """

    def __init__(
        self,
        network: nn.Module,
        file: Path,
        decay: float,
        weight_decay: float = 0.01,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.file, self.settings, self.step = file, dict(settings or {}), 0
        self._averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=weight_decay, fused=True)
        self._optimizer = optimizer
        self._parts: dict[str, Any] = {"network": network, "average": self._averaged, "optimizer": optimizer}
        if file.exists():
            saved = torch.load(file, weights_only=True)
            check_same(saved["settings"], self.settings, file.parent)
            self.step = saved["step"]
            for name, part in self._parts.items():
                part.load_state_dict(saved[name])

    @property
    def average(self) -> nn.Module:
        """The network with the averaged weights."""
        network: nn.Module = self._averaged.module
        return network

    def update(self, loss: Tensor, learning_rate: float) -> None:
        """Take one step down the gradient of `loss`."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        network = self._parts["network"]
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        self._optimizer.step()
        self._averaged.update_parameters(network)
        self.step += 1

    def save(self) -> None:
        """Write the state."""
        content = {name: part.state_dict() for name, part in self._parts.items()}
        save_checkpoint(content | {"step": self.step, "settings": self.settings}, self.file)


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Check that a training goes on with the options with which it began.

    Raises:
        InputError: an option differs; one line.
    """
    for name, value in before.items():
        if now[name] != value:
            raise InputError(
                f"{folder} holds a training with {name} {value}, not {now[name]}: repeat its command, or give another "
                "--work_dir"
            )


def cosine(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the highest learning rate: a linear warm-up, then half a cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
