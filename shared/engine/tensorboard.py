"""TensorBoard curves of a training, written by one process."""

from __future__ import annotations

import os
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import TensorBoardStatsHandler


class TensorBoard:
    """MONAI's `TensorBoardStatsHandler` in the first process; the other processes of a training write nothing.

    The file of the curves is made in the first epoch: a training that is refused leaves none.

    Args:
        output_dir: folder of the run; the curves are written to its subfolder ``tensorboard``.
        loss: write the loss of every iteration, for a trainer; False writes the metrics of every validation.
    """

    def __init__(self, output_dir: str | os.PathLike, loss: bool = False) -> None:
        self.log_dir = str(Path(output_dir) / "tensorboard")
        self.loss = loss
        self.begun = False

    def attach(self, engine: Engine) -> None:
        """Register the handler on a trainer or an evaluator."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        if self.begun:
            return
        self.begun = True
        if self.loss:
            handler = TensorBoardStatsHandler(
                log_dir=self.log_dir, tag_name="train_loss", output_transform=lambda output: output["loss"]
            )
        else:
            handler = TensorBoardStatsHandler(log_dir=self.log_dir, iteration_log=False)
        handler.attach(engine)
