"""Make ``models/model.pt``: chest X-rays with their sentences, of QaTa-COV19 and phantoms.

    python bundles/tmca/tmca/make_weights.py --real_dir <folder of QaTa-COV19> --work_dir <folder>

The folder holds a ``dataset.json`` with lists ``training`` and ``validation``, of different patients. First small real
images alone, then larger ones beside phantoms, so that the weights know both. The best epoch is chosen on real
images. A stopped run goes on where it was.
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
runpy.run_path(str(BUNDLE / "tmca" / "prepare.py"))

from monai.bundle import run  # noqa: E402

from shared.data.datalists import expand_datalist  # noqa: E402
from shared.data.phantoms.chest import make_chest_phantoms  # noqa: E402

CONFIGS = [str(BUNDLE / "configs" / name) for name in ("train.json", "qata.json")]


# Of the two steps. Small images first: most is learnt at a third less time; two hours and a half of one core in all.
REAL = {"epochs": 10, "val_interval": 5, "image_size": 128}
MIXED = {"epochs": 10, "val_interval": 2, "image_size": 160, "learning_rate": 0.001}
PHANTOMS = 240


def main(real_dir: str, work_dir: str) -> None:
    """Run both steps and put the weights into ``models/model.pt``."""
    work = Path(work_dir).absolute()
    real = Path(real_dir).absolute() / "dataset.json"
    first = train(work / "real", dataset_dir=str(real.parent), **REAL)
    made = make_chest_phantoms(work / "phantoms", PHANTOMS, 1, 1)
    lists = {
        "training": expand_datalist(real, "training") + expand_datalist(made, "training"),
        "validation": expand_datalist(real, "validation"),
    }
    (work / "mixed").mkdir(parents=True, exist_ok=True)
    (work / "mixed" / "dataset.json").write_text(json.dumps(lists, indent=1))
    mixed = train(work / "mixed", dataset_dir=str(work / "mixed"), weights=str(first), **MIXED)
    (BUNDLE / "models").mkdir(exist_ok=True)
    shutil.copyfile(mixed, BUNDLE / "models" / "model.pt")


def train(output: Path, **options: Any) -> Path:
    """One training, taken up where it was stopped, left alone where it is complete; the path of its weights."""
    if not (output / "metrics.json").is_file():  # the report is the last thing that a training writes
        run(config_file=CONFIGS, output_dir=str(output), overlays=0, resume=True, **options)
    return output / "models" / "model.pt"


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
