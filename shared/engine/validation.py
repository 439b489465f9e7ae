"""Validation during a training: when it runs, the line that it prints, and the report with the best weights."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from shared.backbones.checkpoint import load_weights
from shared.engine.checkpoints import RunCheckpoint
from shared.engine.distributed import send_weights
from shared.engine.run_folder import BEST


class Validation(ValidationHandler):
    """Validate every `interval` epochs and after the last one, so that its weights can be saved."""

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self.is_left_over), self)

    def is_left_over(self, engine: Engine, epoch: int) -> bool:
        """Return whether `epoch` is the last one and not a multiple of the interval."""
        return epoch == engine.state.max_epochs and epoch % self.interval != 0


class ValidationLine:
    """Print one line per validation: epoch, metric, and whether it is the best so far. First process only.

    Args:
        metric: name of the metric in the evaluator's state.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def attach(self, evaluator: Engine) -> None:
        """Register on the evaluator."""
        evaluator.add_event_handler(Events.COMPLETED, self.show)

    def show(self, evaluator: Any) -> None:
        """Print the line; the evaluator's epoch is that of the training."""
        if idist.get_rank() == 0:
            state = evaluator.state
            best = "  best so far" if state.best_metric_epoch == state.epoch else ""
            print(f"epoch {state.epoch}  validation Dice {state.metrics[self.metric]:.4f}{best}", flush=True)


def report_best(network: torch.nn.Module, evaluator: Any, report: Any, checkpoint: RunCheckpoint) -> None:
    """Validate once more with the best weights after a training, with tables and pictures; then free the folders.

    Of several processes the first one reads the weights and sends them to the others, which may run on machines
    without the file.

    Args:
        network: network that takes the best weights.
        evaluator: validation engine.
        report: handler that writes the tables, e.g. a `shared.results.report.ReportHandler`.
        checkpoint: the training's handler, which wrote ``model.pt`` and still locks the folders.
    """
    try:
        if idist.get_rank() == 0:
            load_weights(network, checkpoint.ckpt_dir / BEST)
        if idist.get_world_size() > 1:
            send_weights(network)
        report.attach(evaluator)
        evaluator.run(max(1, evaluator.state.best_metric_epoch))  # the epoch that the printed line names
    finally:
        checkpoint.free()
