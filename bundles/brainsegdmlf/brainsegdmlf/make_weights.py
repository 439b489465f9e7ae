"""Train the weights of the bundle: first on phantoms, then on phantoms, real FLAIR slices of strokes and MS patients.

    python bundles/brainsegdmlf/brainsegdmlf/make_weights.py --data_dir FOLDER --work_dir FOLDER

``data_dir`` holds the folders ``brain_flair_slices``, ``brain_ms``, and, for the phantoms, ``brain_heads`` and
``brain_lesion_shapes`` (docs/data_license.txt says where from). Each stage saves its state in a folder of ``work_dir``
every 200 steps, and goes on from there when the command is repeated. Each validation adds a line to the stage's
``validation.csv`` and writes its ``model.pt``, a moving average of the weights; the last stage's is copied to
``work_dir/model.pt``. A fifth of the stroke patients is held out, both their slices and their lesion masks.
"""

from __future__ import annotations

import csv
import math
import runpy
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from torch.utils.data import DataLoader
from tqdm import tqdm

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "brainsegdmlf" / "prepare.py"))

from brainsegdmlf.training.losses import lesion_loss  # noqa: E402
from brainsegdmlf.training.mixture import Mixture  # noqa: E402
from brainsegdmlf.training.sources import Checks, load_sources  # noqa: E402
from brainsegdmlf.training.validation import validate  # noqa: E402
from shared.backbones.checkpoint import load_initial  # noqa: E402
from shared.core.errors import InputError, install_one_line_errors  # noqa: E402
from shared.engine.resumable import ResumableTraining, cosine  # noqa: E402
from shared.engine.run_folder import save_checkpoint  # noqa: E402


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        steps: its length; a step trains on 8 patches.
        learning_rate: the highest one, reached after the warm-up; half a cosine leads from there to zero.
        shares: relative numbers of patches from each source.
    """

    steps: int
    learning_rate: float
    shares: Mapping[str, float]


STAGES = {
    "phantoms": Stage(7000, 3e-3, {"phantoms": 1}),
    "mixture": Stage(3500, 2e-3, {"phantoms": 3, "slices": 3, "patients": 2}),
    "longer": Stage(6000, 2e-3, {"phantoms": 4, "slices": 4, "patients": 1}),
    "last": Stage(1500, 7e-4, {"phantoms": 5, "slices": 3, "patients": 1}),
}
BATCH = 8  # patches
WARM_UP = 200  # steps
AVERAGED = 0.998  # decay of the moving average of the weights
SAVE_EVERY, VALIDATE_EVERY, PRINT_EVERY = 200, 1000, 20  # steps


def main(
    data_dir: str,
    work_dir: str,
    minutes: float | None = None,
    stages: Sequence[str] = tuple(STAGES),
    weights: str | None = None,
    leave_out: str | None = None,
    num_workers: int = 1,
    seed: int = 0,
) -> None:
    """Train, and write the weights to ``work_dir/model.pt``.

    Args:
        data_dir: folder of the data sets.
        work_dir: folder of the stages' states, their logs and the weights.
        minutes: stop after so many minutes; the same command goes on. None trains to the end.
        stages: of `STAGES`, in this order; "phantoms" alone never sees a real image.
        weights: file from which the first stage starts; None starts from random weights.
        leave_out: a case of ``brain_ms``, such as patient07, that is validated and not trained on.
        num_workers: processes that make patches.
        seed: of all random numbers.

    Raises:
        InputError: a stage is unknown, a data set is missing, there is no case `leave_out`, or `work_dir` holds a
            training with other options.
    """
    end = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
    chosen = chosen_stages(stages)
    set_determinism(seed)
    config, work = read_config(), Path(work_dir)
    network = config.get_parsed_content("network_def")
    if weights is not None:
        load_initial(network, weights)
    used = {source for stage in chosen.values() for source in stage.shares}
    sources, checks = load_sources(Path(data_dir), used, config, network.in_channels, leave_out)
    for name, stage in chosen.items():
        settings = {"steps": stage.steps, "learning_rate": stage.learning_rate, "shares": dict(stage.shares)}
        settings |= {"leave_out": leave_out, "seed": seed}
        training = ResumableTraining(network, work / name / "training.pt", AVERAGED, settings=settings)
        mixture = Mixture(sources, stage.shares, seed + training.step)
        patches = DataLoader(mixture, BATCH, num_workers=num_workers)
        train(network, training, stage, patches, checks, end)
        if training.step < stage.steps:
            print(f"{minutes} minutes are over in the stage {name}: repeat the command to go on")
            return
        load_initial(network, work / name / "model.pt")
        shutil.copyfile(work / name / "model.pt", work / "model.pt")


def train(
    network: torch.nn.Module,
    training: ResumableTraining,
    stage: Stage,
    patches: DataLoader[dict[str, torch.Tensor]],
    checks: Checks,
    end: float,
) -> None:
    """Train a stage to its end, or until the monotonic clock shows `end`; save and validate on the way."""
    first, losses = training.step, []
    folder = training.file.parent
    progress = tqdm(zip(range(first, stage.steps), patches), initial=first, total=stage.steps, mininterval=10)
    for step, batch in progress:
        network.train()
        loss = lesion_loss(network(batch["image"]), batch["label"], batch["weight"])
        training.update(loss, stage.learning_rate * cosine(step, stage.steps, WARM_UP))
        losses.append(float(loss.detach()))
        if step % PRINT_EVERY == 0:
            progress.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.3f}")
        last = training.step == stage.steps or time.monotonic() > end
        if last or training.step % VALIDATE_EVERY == 0:
            row = {"step": training.step, "loss": sum(losses) / len(losses)} | validate(training.average, checks)
            log(folder / "validation.csv", row)
            losses = []
            save_checkpoint(training.average.state_dict(), folder / "model.pt")
        if last or training.step % SAVE_EVERY == 0:  # after the weights: a stage that is complete has them
            training.save()
        if last:
            break


def chosen_stages(names: Sequence[str] | str) -> dict[str, Stage]:
    """Return the stages of these names, in their order.

    Raises:
        InputError: a name is unknown, or there is none.
    """
    names = [names] if isinstance(names, str) else list(names)
    if wrong := [name for name in names if name not in STAGES]:
        raise InputError(f"--stages names {wrong[0]!r}: choose from {', '.join(STAGES)}")
    if not names:
        raise InputError(f"--stages is empty: choose from {', '.join(STAGES)}")
    return {name: STAGES[name] for name in names}


def read_config() -> ConfigParser:
    """Read ``train.json`` for its network and its transforms; sequences are dropped in the patches instead."""
    config = ConfigParser()
    config.read_config(str(BUNDLE / "configs" / "train.json"))
    config.update({"bundle_root": str(BUNDLE), "prepare": "off", "modality_drop": 0.0})
    return config


def log(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file, with a header if it is new, and show it in the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow({name: round(value, 4) for name, value in row.items()})
    tqdm.write(", ".join(f"{name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    install_one_line_errors()
    fire.Fire(main)
