"""A training that takes one second: MONAI's trainer with a linear network."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.utils.data import DataLoader

from shared.engine.checkpoints import RunCheckpoint
from shared.engine.validation import Validation

SCORES = [0.5, 0.3, 0.7, 0.6, 0.8, 0.1]  # validation metric after epochs 1, 2, ...


class Run:
    """Train a linear network with two steps per epoch; validations score as listed."""

    def __init__(
        self,
        folder,
        resume=False,
        epochs=3,
        scores=SCORES,
        inputs=3,
        samples=4,
        interval=1,
        output=None,
    ):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        data = [{"image": torch.randn(inputs, generator=generator), "label": torch.randn(1)} for _ in range(samples)]
        self.loader = DataLoader(data, batch_size=2)
        self.network = nn.Linear(inputs, 1)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.scheduler = WarmupCosineSchedule(self.optimizer, 1, len(self.loader) * epochs)
        self.evaluator = SupervisedEvaluator(torch.device("cpu"), self.loader, self.network)
        self.evaluator.add_event_handler(Events.COMPLETED, self.score, scores)
        self.epochs: list[int] = []
        self.validated: list[int] = []
        self.rates: list[float] = []
        self.checkpoint = RunCheckpoint(
            folder, self.network, self.optimizer, self.scheduler, self.evaluator, resume, output
        )
        self.trainer = SupervisedTrainer(
            torch.device("cpu"),
            epochs,
            self.loader,
            self.network,
            self.optimizer,
            nn.MSELoss(),
            train_handlers=[
                Validation(interval, self.evaluator),
                LrScheduleHandler(self.scheduler, print_lr=False, epoch_level=False),
                self.checkpoint,
            ],
        )
        self.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.epochs.append(engine.state.epoch))
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: self.rates.append(self.optimizer.param_groups[0]["lr"])
        )

    def score(self, evaluator, scores):
        """Set the best metric as MONAI's metric handler does at the end of a validation."""
        value = scores[evaluator.state.epoch - 1]
        self.validated.append(evaluator.state.epoch)
        if value > evaluator.state.best_metric:
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = value, evaluator.state.epoch

    def go(self, die_after=None):
        """Run; with `die_after`, stop after that epoch as a killed process does."""
        if die_after:

            def die(engine):
                if engine.state.epoch == die_after:
                    raise KeyboardInterrupt

            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, die)
            with pytest.raises(KeyboardInterrupt):
                self.trainer.run()
        else:
            self.trainer.run()
            self.checkpoint.free()
        return self


def one_line(error) -> str:
    """Return the message of an error, which must be one line."""
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text
