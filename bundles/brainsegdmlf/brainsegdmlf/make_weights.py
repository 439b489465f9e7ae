"""Make ``models/model.pt``: train on phantoms, tune on phantoms and real patients, average both sets of weights.

    python bundles/brainsegdmlf/brainsegdmlf/make_weights.py --real_dir <folder of the MS data set> --work_dir <folder>

The real data set is that of Lesjak et al. 2017 (CC BY 4.0; FLAIR, T1, T1 after contrast, T2; a ``dataset.json`` with
lists ``training`` and ``validation``). The first step trains on phantoms alone, so its figures on these patients are
those of a network that has never seen a real image. Tuning trains on the patients of both lists. The mean of the
weights before and after tuning keeps what the phantoms taught (WiSE-FT, Wortsman 2022). A step that was stopped is
resumed by the same command.
"""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import fire

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "brainsegdmlf" / "prepare.py"))

from monai.bundle import run  # noqa: E402

from brainsegdmlf.phantoms.dataset import make_brain_phantoms  # noqa: E402
from shared.datasets.datalist import expand_datalist  # noqa: E402
from shared.engine.recipes import between, repeated, train_once, write_lists  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")
EVALUATE = str(BUNDLE / "configs" / "evaluate.json")
STAGES = ((1, 48, 110, 0.004), (11, 128, 56, 0.003))  # trainings on phantoms: seed, cases, epochs, learning rate
UNSEEN = 6  # phantoms per stage that are held back
TUNING_EPOCHS, TUNING_RATE = 20, 0.0015
REPEAT, BESIDE = 8, 24  # in an epoch of tuning: repetitions of a real case, number of phantoms


def main(real_dir: str, work_dir: str) -> None:
    """Run all steps and write ``models/model.pt``.

    Args:
        real_dir: folder of the real data set.
        work_dir: folder for phantoms, lists and trainings.
    """
    work = Path(work_dir).absolute()
    first: Path | None = None
    for number, (seed, cases, epochs, rate) in enumerate(STAGES, 1):
        made = make_brain_phantoms(
            work / f"phantoms_{number}", cases, num_validation=UNSEEN, num_testing=2, seed=seed, hard=True
        )
        options = {"epochs": epochs, "val_interval": max(1, epochs // 5), "learning_rate": rate}
        start = str(first) if first else None
        first = train_once(
            TRAIN, work / f"phantoms_only_{number}", dataset_dir=str(made.parent), weights=start, **options
        )
    assert first is not None
    usual = make_brain_phantoms(work / "usual")  # those of the README's first command, with other seeds
    real = real_set(work, real_dir)
    report(work, "phantoms only, on unseen phantoms", usual.parent, first)
    report(work, "phantoms only, on unseen hard phantoms", made.parent, first)
    report(work, "phantoms only, on real patients", real, first)

    patients, phantoms = expand_datalist(real / "dataset.json", "validation"), expand_datalist(made, "training")
    training = repeated(patients, REPEAT) + phantoms[:BESIDE]
    mixed = write_lists(work / "mixed", training=training, validation=expand_datalist(made, "validation"))
    options = {"epochs": TUNING_EPOCHS, "val_interval": TUNING_EPOCHS, "learning_rate": TUNING_RATE}
    tuned = train_once(TRAIN, work / "tuned", dataset_dir=str(mixed), weights=str(first), **options)
    report(work, "tuned, on unseen hard phantoms", made.parent, tuned)
    report(work, "tuned, on the real patients it was tuned on", real, tuned)
    mean = between(first, tuned, 0.5, work / "mean" / "model.pt")
    report(work, "mean, on unseen phantoms", usual.parent, mean)
    report(work, "mean, on unseen hard phantoms", made.parent, mean)
    report(work, "mean, on the real patients it was tuned on", real, mean)
    shutil.copyfile(mean, BUNDLE / "models" / "model.pt")


def real_set(work: Path, real_dir: str) -> Path:
    """Write one data list of all real patients and return its folder."""
    source = Path(real_dir).absolute() / "dataset.json"
    items = [item for split in ("training", "validation") for item in expand_datalist(source, split)]
    return write_lists(work / "real", validation=items)


def report(work: Path, title: str, dataset_dir: Path, weights: Path) -> None:
    """Evaluate weights on the validation list of a data set, and print the table under a title."""
    print(f"== {title}")
    folder = work / "evaluate" / title.replace(",", "").replace(" ", "_")
    run(
        config_file=[TRAIN, EVALUATE],
        dataset_dir=str(dataset_dir),
        ckpt_dir=str(weights.parent),
        output_dir=str(folder),
    )


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
