"""Train the weights of the bundle on phantoms, real FLAIR slices of strokes and MS patients, mixed in each batch.

    python bundles/brainsegdmlf/brainsegdmlf/make_weights.py --data_dir FOLDER --work_dir FOLDER

``data_dir`` holds the folders ``brain_flair_slices``, ``brain_ms``, and, for the phantoms, ``brain_heads`` and
``brain_lesion_shapes`` (docs/data_license.txt says where from). The training saves its state in ``work_dir`` every 200
steps and goes on from there when the command is repeated. At each validation it adds a line to
``work_dir/validation.csv`` and writes ``work_dir/model.pt``, a moving average of the weights. A fifth of the stroke
patients is held out, both their slices and their lesion masks (`held_out`).
"""

from __future__ import annotations

import csv
import math
import runpy
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from monai.utils import set_determinism
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "brainsegdmlf" / "prepare.py"))

from brainsegdmlf.training.losses import lesion_loss  # noqa: E402
from brainsegdmlf.training.mixture import Mixture, Pictures, Source  # noqa: E402
from brainsegdmlf.training.shapes import phantom_options  # noqa: E402
from brainsegdmlf.training.slices import FlairSlice, held_out, read_slices, training_slices  # noqa: E402
from brainsegdmlf.training.validation import on_slices, on_volume, validation_slices  # noqa: E402
from brainsegdmlf.training.volumes import Patients, Phantoms, Volume, phantom_volume, to_volume  # noqa: E402
from shared.backbones.checkpoint import load_initial  # noqa: E402
from shared.core.errors import InputError  # noqa: E402
from shared.core.files import whole  # noqa: E402
from shared.datasets.datalist import expand_datalist  # noqa: E402

SHARES = {"phantoms": 4.0, "slices": 3.0, "patients": 1.0}  # relative numbers of patches
FOLDERS = {"slices": "brain_flair_slices", "patients": "brain_ms"}  # of the sources
BATCH = 8  # patches
WARM_UP = 200  # steps
AVERAGED = 0.998  # decay of the moving average of the weights
SAVE_EVERY, VALIDATE_EVERY, PRINT_EVERY = 200, 1000, 20  # steps
VALIDATION_SLICES = 100
PARTS = ("training", "validation")
VALIDATION_PHANTOMS = ("none", "ms", "both")  # kinds of lesions
VALIDATION_SPACING, VALIDATION_SEED = (1.0, 1.0, 3.0), 2**31  # seeds of training are smaller


def main(
    data_dir: str,
    work_dir: str,
    minutes: float | None = None,
    steps: int = 10_000,
    weights: str = str(BUNDLE / "models" / "model.pt"),
    learning_rate: float = 2e-3,
    leave_out: str | None = None,
    shares: Mapping[str, float] | None = None,
    num_workers: int = 1,
    seed: int = 0,
) -> None:
    """Train, and write the weights to ``work_dir/model.pt``.

    Args:
        data_dir: folder of the data sets.
        work_dir: folder of the training's state, its log and its latest weights.
        minutes: stop after so many minutes; the same command goes on. None trains to the end.
        steps: length of the training and of its cosine schedule; a step trains on 8 patches.
        weights: file from which the training starts; "none" starts from random weights.
        learning_rate: the highest one, reached after the warm-up.
        leave_out: a case of ``brain_ms``, such as patient07, that is validated and not trained on.
        shares: relative numbers of patches from "phantoms", "slices" and "patients"; a source that is left out or has 0
            is not used. Default: 4, 3 and 1.
        num_workers: processes that make patches.
        seed: of all random numbers.

    Raises:
        InputError: a source is unknown, no source is left, a data set is missing, there is no case `leave_out`, or
            `work_dir` holds a training with other options.
    """
    end = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
    set_determinism(seed)
    config = read_config()
    network = config.get_parsed_content("network_def")
    used = used_shares(SHARES if shares is None else shares)
    sources, checks = load_sources(Path(data_dir), Path(work_dir), used, config, network.in_channels, leave_out)

    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer}
    settings = {"steps": steps, "learning_rate": learning_rate, "leave_out": leave_out, "shares": used, "seed": seed}
    work, first = Path(work_dir), 0
    if (work / "training.pt").exists():
        saved = torch.load(work / "training.pt", weights_only=True)
        check_same(saved["settings"], settings, work)
        first = saved["step"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    elif str(weights).lower() != "none":
        load_initial(network, weights)

    network.train()
    loader = iter(DataLoader(Mixture(sources, used, seed + first), BATCH, num_workers=num_workers))
    progress = tqdm(range(first, steps), initial=first, total=steps, mininterval=10)
    losses: list[float] = []
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * schedule(step, steps)
        batch = next(loader)
        loss = lesion_loss(network(batch["image"]), batch["label"], batch["weight"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        losses.append(float(loss.detach()))
        if step % PRINT_EVERY == 0:
            progress.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.3f}")
        done, late = step + 1, time.monotonic() > end
        if done % SAVE_EVERY == 0 or done == steps or late:
            content = {name: part.state_dict() for name, part in parts.items()}
            content |= {"step": done, "settings": settings}
            write(content, work / "training.pt")
        if done % VALIDATE_EVERY == 0 or done == steps or late:
            row = {"step": done, "loss": sum(losses) / len(losses)} | validate(average.module, checks)
            losses = []
            log(work / "validation.csv", row)
            write(average.module.state_dict(), work / "model.pt")
        if late and done < steps:
            tqdm.write(f"{minutes} minutes are over after step {done} of {steps}: repeat the command to go on")
            return


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], work: Path) -> None:
    """Check that a training goes on with the options with which it began.

    Raises:
        InputError: an option differs; one line.
    """
    for name, value in before.items():
        if now[name] != value:
            raise InputError(
                f"{work} holds a training with --{name} {value}, not {now[name]}: repeat its command, or give another "
                "--work_dir"
            )


def read_config() -> ConfigParser:
    """Read ``train.json`` for its network and its transforms; sequences are dropped in the patches instead."""
    config = ConfigParser()
    config.read_config(str(BUNDLE / "configs" / "train.json"))
    config.update({"bundle_root": str(BUNDLE), "prepare": "off", "modality_drop": 0.0})
    return config


def used_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares above 0.

    Raises:
        InputError: a name is unknown, or no share is left.
    """
    if wrong := [name for name in shares if name not in SHARES]:
        raise InputError(f"--shares names {wrong[0]!r}: choose from {', '.join(SHARES)}")
    used = {name: float(share) for name, share in shares.items() if share > 0}
    if not used:
        raise InputError(f"--shares leaves no source: give one of {', '.join(SHARES)} a share above 0")
    return used


def load_sources(
    data: Path, work: Path, used: Mapping[str, float], config: ConfigParser, channels: int, leave_out: str | None
) -> tuple[dict[str, Source], dict[str, Any]]:
    """Load what the training uses, and what it is validated on.

    Returns:
        The sources by name, at least those in `used`; and the data for `validate`: "channels" (number of sequences),
        "slices" (held out), "patient" (None without `leave_out`) and "phantoms" (the first one has no lesion).
    """
    for name, folder in FOLDERS.items():
        needed = name in used or (name == "patients" and leave_out)
        if needed and not (data / folder / "dataset.json").is_file():
            remedy = f"correct --data_dir, or leave {name} out of --shares"
            raise InputError(f"{data} has no {folder}/dataset.json: {remedy}")
    flair, ms = (data / FOLDERS[name] for name in ("slices", "patients"))
    make = partial(phantom_volume, fitting=Compose(config.get_parsed_content("fitting")))
    names = [item["case_id"] for item in patient_items(ms)] if ms.is_dir() else []
    options = {part: phantom_options(data, work / "heads" / part, part == "validation", names) for part in PARTS}
    sources: dict[str, Source] = {"phantoms": Phantoms(partial(make, **options["training"]))}
    checks: dict[str, Any] = {"channels": channels, "slices": [], "patient": None, "phantoms": []}
    for number, kind in enumerate(VALIDATION_PHANTOMS):
        settings = {"lesions": number > 0, "hard": True, "rough": False, "spacing": VALIDATION_SPACING}
        settings |= options["validation"]
        if "lesion_dir" in settings:
            settings["lesion_kind"] = kind
        checks["phantoms"].append(make(VALIDATION_SEED + number, **settings))
    if "slices" in used or flair.is_dir():
        slices = read_slices(flair)
        checks["slices"] = validation_slices([s for s in slices if held_out(s.patient)], VALIDATION_SLICES)
        if "slices" in used:
            sources["slices"] = Pictures(training_slices([s for s in slices if not held_out(s.patient)], channels))
    if "patients" in used or leave_out:
        patients = load_patients(ms, config)
        if leave_out and leave_out not in patients:
            raise InputError(f"--leave_out {leave_out} is no case of brain_ms: choose from {', '.join(patients)}")
        checks["patient"] = patients.pop(leave_out) if leave_out else None
        if "patients" in used and not patients:
            raise InputError(f"--leave_out {leave_out} leaves no case of brain_ms: leave patients out of --shares")
        sources["patients"] = Patients(list(patients.values()))
    return sources, checks


def load_patients(folder: Path, config: ConfigParser) -> dict[str, Volume]:
    """Load the cases of both lists of a data set, as the training of the bundle does; by case id."""
    steps = [*config.get_parsed_content("loading"), *config.get_parsed_content("label_loading")]
    load = Compose([*steps, *config.get_parsed_content("fitting")])
    return {item["case_id"]: to_volume(load(item)) for item in patient_items(folder)}


def patient_items(folder: Path) -> list[dict[str, Any]]:
    """Return the cases of both lists of a data set."""
    return [item for split in PARTS for item in expand_datalist(folder / "dataset.json", split)]


def schedule(step: int, steps: int) -> float:
    """Return the share of the highest learning rate: a linear warm-up, then half a cosine to zero."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def validate(network: torch.nn.Module, checks: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a validation by name; the figures of absent data are left out.

    slices_dice, phantoms_dice, patient_dice: mean Dice. slices_touched: share of slices whose stroke the mask touches.
    false_ml: mL that are marked in the phantom without lesions.
    """
    network.eval()
    found: dict[str, float] = {}
    slices: Sequence[FlairSlice] = checks["slices"]
    if slices:
        found["slices_dice"], found["slices_touched"] = on_slices(network, slices, checks["channels"])
    healthy, *others = checks["phantoms"]
    found["phantoms_dice"] = sum(on_volume(network, other)[0] for other in others) / len(others)
    found["false_ml"] = on_volume(network, healthy)[1] * math.prod(VALIDATION_SPACING) / 1000
    if checks["patient"] is not None:
        found["patient_dice"] = on_volume(network, checks["patient"])[0]
    return found


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


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors to a file in one step, so that it is never incomplete."""
    with whole(path) as draft:
        torch.save(dict(content), draft)


if __name__ == "__main__":
    fire.Fire(main)
