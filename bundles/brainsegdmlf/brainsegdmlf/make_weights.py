"""Make ``models/model.pt``: train on phantoms alone, then fine-tune on phantoms and real patients.

    python bundles/brainsegdmlf/brainsegdmlf/make_weights.py --real_dir <folder of the MS data set> --work_dir <folder>

The real data set is that of Lesjak et al. 2017 (CC BY 4.0; FLAIR, T1, T1 after contrast, T2; a ``dataset.json`` with
lists ``training`` and ``validation``). The second step trains on both lists; the figures of the first step on them are
those of a network that has never seen a real image. Each step resumes where it was stopped.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import fire

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "brainsegdmlf" / "prepare.py"))

from monai.bundle import run  # noqa: E402

from shared.data.datalists import expand_datalist  # noqa: E402
from shared.data.phantoms.brain import make_brain_phantoms  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")
EVALUATE = str(BUNDLE / "configs" / "evaluate.json")


def mixed_datalist(folder: Path, real: list[dict[str, Any]], phantoms: list[dict[str, Any]], repeat: int) -> None:
    """Write a ``dataset.json`` whose training list holds every real case `repeat` times beside the phantoms."""
    again = [{**item, "case_id": f"{item['case_id']}_{n}"} for n in range(repeat) for item in real]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"training": again + phantoms[0:], "validation": real}
    (folder / "dataset.json").write_text(json.dumps(content, indent=1))


def main(real_dir: str, work_dir: str, epochs: int = 45, tune_epochs: int = 15, cases: int = 40, seed: int = 1) -> None:
    """Run both steps and put the result into ``models/model.pt``."""
    work = Path(work_dir).absolute()
    phantoms = make_brain_phantoms(
        work / "phantoms", num_training=cases, num_validation=6, num_testing=2, seed=seed
    ).parent
    options: dict[str, Any] = {"output_dir": str(work / "phantoms_only"), "resume": True, "val_interval": 15}
    first = work / "phantoms_only" / "models"
    run(config_file=TRAIN, dataset_dir=str(phantoms), epochs=epochs, **options)
    report(work, "phantoms only, on unseen phantoms", phantoms, first)
    report(work, "phantoms only, on real patients", real_set(work, real_dir), first)

    real = expand_datalist(work / "real" / "dataset.json", "validation")
    made = expand_datalist(phantoms / "dataset.json", "training")
    mixed_datalist(work / "mixed", real, made[: 4 * len(real)], repeat=4)
    options.update(output_dir=str(work / "tuned"), val_interval=tune_epochs)
    second = work / "tuned" / "models"
    run(
        config_file=TRAIN,
        dataset_dir=str(work / "mixed"),
        epochs=tune_epochs,
        learning_rate=0.001,
        weights=str(first / "model.pt"),
        **options,
    )
    report(work, "tuned, on unseen phantoms", phantoms, second)
    shutil.copyfile(second / "model.pt", BUNDLE / "models" / "model.pt")


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
