"""Make ``models/model.pt``: train on phantoms alone, tune on phantoms and real patients, average both weights.

    python bundles/brainsegdmlf/brainsegdmlf/make_weights.py --real_dir <folder of the MS data set> --work_dir <folder>

The real data set is that of Lesjak et al. 2017 (CC BY 4.0; FLAIR, T1, T1 after contrast, T2; a ``dataset.json`` with
lists ``training`` and ``validation``). The later steps train on both lists; the figures of the first step on them are
those of a network that has never seen a real image. The mean of the weights before and after tuning keeps what the
phantoms taught (WiSE-FT, Wortsman 2022). A stopped step goes on where it was.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import fire
import torch

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "brainsegdmlf" / "prepare.py"))

from monai.bundle import run  # noqa: E402

from shared.data.datalists import expand_datalist  # noqa: E402
from shared.data.phantoms.brain import make_brain_phantoms  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")
EVALUATE = str(BUNDLE / "configs" / "evaluate.json")
STAGES = ((1, 48, 110, 0.004), (11, 128, 56, 0.003))  # of training on phantoms: seed, cases, epochs, learning rate
UNSEEN = 6  # phantoms of each stage that are held back
TUNING_EPOCHS, TUNING_RATE = 20, 0.0015
REPEAT, BESIDE = 8, 24  # how often a real case occurs in an epoch of tuning, how many phantoms beside them


def mixed_datalist(
    folder: Path, real: list[dict[str, Any]], phantoms: list[dict[str, Any]], unseen: list[dict[str, Any]], repeat: int
) -> None:
    """Write a ``dataset.json`` that trains on every real case `repeat` times beside phantoms, validates on others."""
    again = [{**item, "case_id": f"{item['case_id']}_{n}"} for n in range(repeat) for item in real]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"training": again + phantoms, "validation": unseen}, indent=1))


def main(real_dir: str, work_dir: str) -> None:
    """Run all steps and put the result into ``models/model.pt``."""
    work = Path(work_dir).absolute()
    first: Path | None = None
    for number, (seed, cases, epochs, rate) in enumerate(STAGES, 1):
        made = make_brain_phantoms(
            work / f"phantoms_{number}", cases, num_validation=UNSEEN, num_testing=2, seed=seed, hard=True
        )
        options = {"epochs": epochs, "val_interval": max(1, epochs // 5), "learning_rate": rate}
        start = str(first / "model.pt") if first else None
        first = train(work / f"phantoms_only_{number}", dataset_dir=str(made.parent), weights=start, **options)
    assert first is not None
    usual = make_brain_phantoms(work / "usual")  # those of the README's first command, of other seeds
    real = real_set(work, real_dir)
    report(work, "phantoms only, on unseen phantoms", usual.parent, first)
    report(work, "phantoms only, on unseen hard phantoms", made.parent, first)
    report(work, "phantoms only, on real patients", real, first)

    patients, phantoms = expand_datalist(real / "dataset.json", "validation"), expand_datalist(made, "training")
    mixed_datalist(work / "mixed", patients, phantoms[:BESIDE], expand_datalist(made, "validation"), REPEAT)
    options = {"epochs": TUNING_EPOCHS, "val_interval": TUNING_EPOCHS, "learning_rate": TUNING_RATE}
    tuned = train(work / "tuned", dataset_dir=str(work / "mixed"), weights=str(first / "model.pt"), **options)
    report(work, "tuned, on unseen hard phantoms", made.parent, tuned)
    report(work, "tuned, on the real patients it was tuned on", real, tuned)
    mean = work / "mean"
    mean.mkdir(exist_ok=True)
    average(first / "model.pt", tuned / "model.pt", mean / "model.pt")
    report(work, "mean, on unseen phantoms", usual.parent, mean)
    report(work, "mean, on unseen hard phantoms", made.parent, mean)
    report(work, "mean, on the real patients it was tuned on", real, mean)
    shutil.copyfile(mean / "model.pt", BUNDLE / "models" / "model.pt")


def train(output: Path, **options: Any) -> Path:
    """One training, taken up where it was stopped, left alone where it is complete; the folder of its ``model.pt``."""
    if not (output / "metrics.json").is_file():  # the report is the last thing that a training writes
        run(config_file=TRAIN, output_dir=str(output), resume=True, **options)
    return output / "models"


def average(one: Path, other: Path, target: Path) -> None:
    """Write the mean of two sets of weights of one network; what is no number with a fraction is taken from `other`."""
    states = [torch.load(file, map_location="cpu", weights_only=True) for file in (one, other)]
    mean = {
        key: (states[0][key] + value) / 2 if value.is_floating_point() else value for key, value in states[1].items()
    }
    torch.save(mean, target)


def real_set(work: Path, real_dir: str) -> Path:
    """One data list of all real patients; its folder."""
    source = Path(real_dir).absolute() / "dataset.json"
    items = [item for split in ("training", "validation") for item in expand_datalist(source, split)]
    (work / "real").mkdir(parents=True, exist_ok=True)
    (work / "real" / "dataset.json").write_text(json.dumps({"validation": items}, indent=1))
    return work / "real"


def report(work: Path, title: str, dataset_dir: Path, ckpt_dir: Path) -> None:
    """Evaluate and print the table."""
    print(f"== {title}")
    folder = work / "evaluate" / title.replace(",", "").replace(" ", "_")
    run(config_file=[TRAIN, EVALUATE], dataset_dir=str(dataset_dir), ckpt_dir=str(ckpt_dir), output_dir=str(folder))


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
