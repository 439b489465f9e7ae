"""Checkpoints of a training: saved after every epoch, resumed after a stop."""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint

from shared.backbones.checkpoint import check_finite, misfits
from shared.core.errors import InputError, OutputError
from shared.core.locks import locked
from shared.core.messages import reason
from shared.engine.interruption import StopLine
from shared.engine.run_folder import BEST, LAST, check_ckpt_dir, clear_folder, run_of, save_checkpoint

SCHEDULE_LENGTHS = ("warmup_steps", "t_total")  # of MONAI's WarmupCosineSchedule: they follow --epochs, not the file
SAME_OPTIONS = "resume with the options that it began with"


class RunCheckpoint:
    """Save the state of a training after every epoch, so that it can resume, and its best weights in a separate file.

    ``last.pt`` holds network, optimiser, scheduler, epoch and best metric. ``model.pt`` is a plain state_dict of the
    best validation so far. Both are complete at any moment, also when the process is killed. The folders are locked
    from the start of the trainer until `free`, so that no other training replaces the weights before their report.
    Only files that a training wrote are replaced or moved.

    Args:
        ckpt_dir: folder of both files.
        network, optimizer, lr_scheduler: objects that are trained.
        evaluator: engine that holds the best metric; validates before this handler runs.
        resume: load ``last.pt`` when the training starts, if there is one.
        output_dir: folder of the training's reports and curves, to lock as well; None for none.
    """

    def __init__(
        self,
        ckpt_dir: str | os.PathLike,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        evaluator: Engine,
        resume: bool = False,
        output_dir: str | os.PathLike | None = None,
    ) -> None:
        self.ckpt_dir = Path(ckpt_dir).expanduser().absolute()
        self.folders = [self.ckpt_dir, *([] if output_dir is None else [output_dir])]
        self.network = getattr(network, "module", network)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.resume = resume
        self.run = uuid.uuid4().hex
        self.lock = ExitStack()

    def attach(self, trainer: Engine) -> None:
        """Register on the trainer, as its last handler: validation and schedule come before saving."""
        self.best = BestMetric(self.evaluator)
        self.objects = {
            "network": self.network,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "trainer": trainer,
            "best": self.best,
        }
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        trainer.add_event_handler(Events.COMPLETED, self.finish)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self.fail)
        StopLine(self.ckpt_dir).attach(trainer)

    def start(self, trainer: Any) -> None:
        """Lock the folders and prepare that of the checkpoints when the training starts, not when a config is read.

        A trainer that runs again, as in each round of federated learning, goes on in its folder.
        """
        if idist.get_rank() == 0:
            with ExitStack() as held:  # a second folder that is in use frees the first one
                for folder in self.folders:
                    held.enter_context(locked(folder, "training"))
                self.free()  # the locks of the round before; the new ones are already held
                self.lock = held.pop_all()
        if trainer.state.epoch > 0:
            return
        check_ckpt_dir(self.ckpt_dir, self.network, self.resume)
        if self.resume:
            machines_agree(self.ckpt_dir / LAST)
        if self.resume and (self.ckpt_dir / LAST).exists():
            self.load(trainer)
            return
        if self.resume and idist.get_rank() == 0:
            print(f"nothing to resume in {self.ckpt_dir}: starting with epoch 1")
        if idist.get_rank() == 0:
            clear_folder(self.ckpt_dir)

    def load(self, trainer: Any) -> None:
        """Go on from ``last.pt``.

        Raises:
            InputError: the file cannot be read, holds NaN, belongs to another network, or its training is complete; or
                the ``model.pt`` beside it belongs to another training.
        """
        path, best = self.ckpt_dir / LAST, self.ckpt_dir / BEST
        epochs, epoch_length = trainer.state.max_epochs, trainer.state.epoch_length
        schedule = {k: v for k, v in vars(self.lr_scheduler).items() if k in SCHEDULE_LENGTHS}
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a broken file
            raise InputError(
                f"{path} cannot be read ({reason(error)}): move it away, or start without --resume"
            ) from error
        run = run_of(path)
        if best.exists() and run_of(best) != run:
            raise InputError(f"{best} does not belong to the training of {LAST} beside it: move it away")
        try:
            wrong = misfits(self.network.state_dict(), state["network"])
            if not wrong:
                check_finite(state["network"], str(path))
                Checkpoint.load_objects(self.objects, state)
        except InputError:  # a ValueError too
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be resumed ({reason(error)}): {SAME_OPTIONS}") from error
        if wrong:
            raise InputError(f"{path} belongs to another network ({wrong}): {SAME_OPTIONS}")
        if trainer.state.epoch >= epochs:
            raise InputError(
                f"{path} is complete, it has all of {trainer.state.epoch} epochs: give a larger --epochs to continue"
            )
        self.run = run or self.run
        # The file holds complete epochs; the number and the length of all epochs follow this run's options.
        trainer.state.max_epochs, trainer.state.epoch_length = epochs, epoch_length
        trainer.state.iteration = trainer.state.epoch * epoch_length
        vars(self.lr_scheduler).update(schedule)
        print(f"resuming after epoch {trainer.state.epoch} of {epochs}, best metric {self.best.value:.4f}")

    def save(self, trainer: Engine) -> None:
        """Write ``last.pt``, and before it ``model.pt`` if this epoch's validation is the best so far."""
        if idist.get_rank() != 0:
            return
        if self.best.improved(trainer.state.epoch):
            self.write(BEST, weights_of(self.network))
        self.write(LAST, {name: item.state_dict() for name, item in self.objects.items()})

    def finish(self, trainer: Any) -> None:
        """Write the last weights as ``model.pt`` if no validation gave a finite metric."""
        if idist.get_rank() == 0 and not (self.ckpt_dir / BEST).exists():
            self.write(BEST, weights_of(self.network))

    def fail(self, trainer: Any, error: BaseException) -> None:
        """Free the folders and pass the error on."""
        self.free()
        raise error

    def free(self) -> None:
        """Let other processes use the folders: the training and its report are complete."""
        self.lock.close()

    def write(self, name: str, state: dict[str, Any]) -> None:
        """Write one of the two files.

        Raises:
            OutputError: the disk is full or cannot be written; the checkpoint of the epoch before stays.
        """
        try:
            save_checkpoint(state, self.ckpt_dir / name, self.run)
        except OutputError as error:
            kept = "" if not (self.ckpt_dir / LAST).exists() else "; the last checkpoint is kept, --resume true goes on"
            raise OutputError(f"{error}{kept}") from error


class BestMetric:
    """The best metric of an evaluator and its epoch, in the form that a checkpoint holds."""

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator

    @property
    def value(self) -> float:
        """The best metric so far, -1 before the first validation."""
        return float(self.evaluator.state.best_metric)

    def improved(self, epoch: int) -> bool:
        """Return whether `epoch` gave the best validation."""
        return self.evaluator.state.best_metric_epoch == epoch

    def state_dict(self) -> dict[str, Any]:
        """Return metric and epoch."""
        return {"metric": self.value, "epoch": int(self.evaluator.state.best_metric_epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put metric and epoch back into the evaluator."""
        self.evaluator.state.best_metric = state["metric"]
        self.evaluator.state.best_metric_epoch = state["epoch"]


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a plain state_dict of CPU tensors."""
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def machines_agree(path: Path) -> None:
    """Refuse a file that only some processes see: they would train different epochs and wait for each other for ever.

    Raises:
        InputError: the file lies on the disk of one machine alone.
    """
    seen = idist.all_reduce(int(path.exists()))
    if 0 < seen < idist.get_world_size():
        raise InputError(f"{path} is not on every machine: give --ckpt_dir a folder that all of them see")
