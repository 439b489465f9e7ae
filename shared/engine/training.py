"""Around MONAI's trainer: checkpoints that survive a kill, a progress bar, the report at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, ProgressBar
from monai.handlers import ValidationHandler

from shared.core.errors import InputError
from shared.core.files import whole
from shared.core.messages import reason
from shared.engine.precision import describe

LAST = "last.pt"
BEST = "model.pt"
SCHEDULE_LENGTHS = ("warmup_steps", "t_total")  # of MONAI's WarmupCosineSchedule: they follow --epochs, not the file
SAME_OPTIONS = "resume with the options that it began with"


def prepare_run_dir(ckpt_dir: str | os.PathLike, resume: bool) -> Path:
    """Return the folder for checkpoints; without `resume`, checkpoints of an earlier run are set aside, never lost.

    Args:
        ckpt_dir: made if missing. An earlier run's files in it move to ``<ckpt_dir>_<time of that run>``.
        resume: keep them and go on from ``last.pt``.
    """
    folder = Path(ckpt_dir).absolute()
    if idist.get_rank() == 0:
        files = [file for file in (folder / LAST, folder / BEST) if file.exists()]
        if files and not resume:
            written = time.strftime("%Y%m%d-%H%M%S", time.localtime(files[0].stat().st_mtime))
            names = (f"{folder.name}_{written}{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
            aside = next(path for path in map(folder.with_name, names) if not path.exists())
            folder.rename(aside)
            print(f"checkpoints of an earlier run moved to {aside} (to go on from them: --resume true)")
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class Validation(ValidationHandler):
    """MONAI's handler, every `interval` epochs, and after the last one too: else what it learnt is never kept."""

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self.is_left_over), self)

    def is_left_over(self, engine: Engine, epoch: int) -> bool:
        """Whether `epoch` is the last and no multiple of the interval."""
        return epoch == engine.state.max_epochs and epoch % self.interval != 0


class RunCheckpoint:
    """Save everything that a run needs to go on, after every epoch, and the best weights on their own.

    ``last.pt`` holds network, optimiser, scheduler, epoch and best metric; it is written beside and renamed, so a
    kill at any moment leaves a whole file. ``model.pt`` is a plain state_dict of the best validation so far.

    Args:
        ckpt_dir: folder of both files.
        network, optimizer, lr_scheduler: what is trained.
        evaluator: the engine that holds the best metric; validates before this handler runs.
        resume: load ``last.pt`` when the run starts, if there is one.
    """

    def __init__(
        self,
        ckpt_dir: str | os.PathLike,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        evaluator: Engine,
        resume: bool = False,
    ) -> None:
        self.ckpt_dir = Path(ckpt_dir).absolute()
        self.network = getattr(network, "module", network)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.resume = resume

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

    def start(self, trainer: Any) -> None:
        """Prepare the folder when training starts, not before: a config may be read without being run.

        A trainer that runs again, as in each round of federated learning, goes on in its folder.
        """
        if trainer.state.epoch > 0:
            return
        prepare_run_dir(self.ckpt_dir, self.resume)
        self.load(trainer)

    def load(self, trainer: Any) -> None:
        """Go on from ``last.pt``.

        Raises:
            InputError: the file belongs to another network, its run is complete, or not every machine has it.
        """
        path = self.ckpt_dir / LAST
        if not self.resume:
            return
        machines_agree(path)
        if not path.exists():
            print(f"nothing to resume in {self.ckpt_dir}: starting with epoch 1")
            return
        epochs, epoch_length = trainer.state.max_epochs, trainer.state.epoch_length
        schedule = {k: v for k, v in vars(self.lr_scheduler).items() if k in SCHEDULE_LENGTHS}
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise InputError(
                f"{path} cannot be read ({reason(error)}): move it away, or start without --resume"
            ) from error
        try:
            wrong = misfits(self.network.state_dict(), state["network"])
            if not wrong:
                Checkpoint.load_objects(self.objects, state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be resumed ({reason(error)}): {SAME_OPTIONS}") from error
        if wrong:
            raise InputError(f"{path} belongs to another network ({wrong}): {SAME_OPTIONS}")
        if trainer.state.epoch >= epochs:
            raise InputError(f"{path} has all of {trainer.state.epoch} epochs: give a larger --epochs to train on")
        # Whole epochs are done; how many there will be and how long they are is for this run to say.
        trainer.state.max_epochs, trainer.state.epoch_length = epochs, epoch_length
        trainer.state.iteration = trainer.state.epoch * epoch_length
        vars(self.lr_scheduler).update(schedule)
        print(f"resuming after epoch {trainer.state.epoch} of {epochs}, best metric {self.best.value:.4f}")

    def save(self, trainer: Engine) -> None:
        """Write ``last.pt``, and ``model.pt`` when this epoch's validation is the best so far."""
        if idist.get_rank() != 0:
            return
        if self.best.improved(trainer.state.epoch):
            save_weights(self.network, self.ckpt_dir / BEST)
        save_whole({name: item.state_dict() for name, item in self.objects.items()}, self.ckpt_dir / LAST)

    def finish(self, trainer: Any) -> None:
        """A run without any validation, or none with a finite metric, leaves its last weights as ``model.pt``."""
        if idist.get_rank() == 0 and not (self.ckpt_dir / BEST).exists():
            save_weights(self.network, self.ckpt_dir / BEST)


def machines_agree(path: Path) -> None:
    """Refuse a file that some processes see and others do not: they would train different epochs and wait for ever.

    Raises:
        InputError: it lies on the disk of one machine alone.
    """
    seen = idist.all_reduce(int(path.exists()))
    if 0 < seen < idist.get_world_size():
        raise InputError(f"{path} is not on every machine: give --ckpt_dir a folder that all of them see")


def save_weights(network: torch.nn.Module, path: Path) -> None:
    """Write a plain state_dict of CPU tensors."""
    save_whole({name: value.detach().cpu() for name, value in network.state_dict().items()}, path)


def save_whole(state: Any, path: Path) -> None:
    """`torch.save` to a hidden file beside `path`, then rename: whoever opens `path` finds the old or the new one.

    ignite's `Checkpoint` removes the old file before it writes the new one, atomic or not.
    """
    with whole(path) as draft:
        torch.save(state, draft)


class BestMetric:
    """The best metric of an evaluator and its epoch, as something that a checkpoint can hold."""

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator

    @property
    def value(self) -> float:
        """The best metric so far, -1 before the first validation."""
        return float(self.evaluator.state.best_metric)

    def improved(self, epoch: int) -> bool:
        """Whether `epoch` gave the best validation."""
        return self.evaluator.state.best_metric_epoch == epoch

    def state_dict(self) -> dict[str, Any]:
        """Metric and epoch."""
        return {"metric": self.value, "epoch": int(self.evaluator.state.best_metric_epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put metric and epoch back into the evaluator."""
        self.evaluator.state.best_metric = state["metric"]
        self.evaluator.state.best_metric_epoch = state["epoch"]


class TrainingProgress:
    """ignite's progress bar for a trainer (with its loss) or an evaluator (a step a case); rank 0 only.

    Args:
        name: word before the bar; a trainer's bar counts epochs besides.
        loss: show the loss.
    """

    def __init__(self, name: str = "epoch", loss: bool = False) -> None:
        self.name = name
        self.loss = loss

    def attach(self, engine: Any) -> None:
        """Register the bar."""
        if idist.get_rank() != 0:
            return
        style = "{desc} [{bar:24}] {percentage:3.0f}%  {elapsed}<{remaining}{postfix}"
        bar = ProgressBar(persist=self.loss, desc=self.name, bar_format=style)
        output: Callable[[Any], Any] | None = mean_loss if self.loss else None
        bar.attach(engine, output_transform=output)


def mean_loss(output: Any) -> dict[str, float]:
    """The loss of an iteration, from a MONAI trainer's output (a dict, or a list of one a sample)."""
    first = output[0] if isinstance(output, list) else output
    return {"loss": float(torch.as_tensor(first["loss"]).detach())}


def heading(
    name: str, data: str, counts: dict[str, int], device: Any, amp: bool, network: torch.nn.Module, encoder: str
) -> None:
    """Print what is about to run on what: the first line a user sees."""
    if idist.get_rank() != 0:
        return
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    split = ", ".join(f"{n} {part}" for part, n in counts.items())
    size = f"{parameters:.1f} M parameters, encoder {encoder}"
    print(f"{name}  {sum(counts.values())} {data} ({split})  {describe(device, amp)}  {size}", flush=True)


def report_best(network: torch.nn.Module, evaluator: Any, report: Any, ckpt_dir: str | os.PathLike) -> None:
    """After training: validate once more with the best weights, case by case, with tables and pictures.

    Of several processes the first reads the weights and sends them to the others, whose machine may not have the file.

    Args:
        network: takes the best weights.
        evaluator: the training's validation engine.
        report: a `shared.results.report.ReportHandler`.
        ckpt_dir: folder of ``model.pt``.
    """
    if idist.get_rank() == 0:
        load_weights(network, Path(ckpt_dir) / BEST)  # `RunCheckpoint` always leaves one
    if idist.get_world_size() > 1:
        for value in network.state_dict().values():
            dist.broadcast(value, 0)
    report.attach(evaluator)
    evaluator.run(max(1, evaluator.state.best_metric_epoch))  # the epoch that a line of it names


def load_weights(
    network: torch.nn.Module,
    path: str | os.PathLike,
    remedy: str = "give --ckpt_dir the folder of a model.pt, or train first",
) -> None:
    """Load a plain state_dict strictly; `remedy` is what to do about a missing file.

    Raises:
        InputError: the file is missing, is no checkpoint, or belongs to another network; says which tensors differ.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"weights {file} not found: {remedy}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"weights {file} cannot be read ({reason(error)}): download or train again") from error
    if not isinstance(content, dict):
        raise InputError(f"weights {file} hold a {type(content).__name__}, not a state_dict: download or train again")
    state: Any = content.get("network", content.get("model", content))
    own = getattr(network, "module", network)
    wrong = misfits(own.state_dict(), state)
    if wrong:
        raise InputError(f"weights {file} belong to another network ({wrong}): give the options they were trained with")
    own.load_state_dict(state)


def load_initial(network: torch.nn.Module, path: str | os.PathLike | None = None) -> None:
    """Begin training from the weights of an earlier one (fine-tuning), or from scratch if `path` is None.

    Raises:
        InputError: as `load_weights`.
    """
    if path is not None:
        load_weights(network, path, "give --weights the path of a file, or leave it out")


def misfits(wanted: dict[str, torch.Tensor], found: dict[str, Any]) -> str:
    """Say in a few words how two state_dicts differ; empty if they fit."""
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    other = [k for k in wanted.keys() & found.keys() if wanted[k].shape != getattr(found[k], "shape", None)]
    parts: Sequence[str] = [
        f"{len(names)} {what}, e.g. {sorted(names)[0]}"
        for what, names in (("missing", missing), ("unknown", extra), ("of another shape", other))
        if names
    ]
    return "; ".join(parts)


class ValidationLine:
    """Print one line a validation: epoch, metric, and whether it is the best so far; rank 0 only."""

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
