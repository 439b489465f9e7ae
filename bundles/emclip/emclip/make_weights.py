"""Make ``models/model.pt`` (fundus) and ``models/model_cardiac.pt``.

    python bundles/emclip/emclip/make_weights.py fundus --real_dir <folder of Drishti-GS> --work_dir <folder>
    python bundles/emclip/emclip/make_weights.py cardiac --real_dir <folder of ACDC> --work_dir <folder>

A folder holds a ``dataset.json`` with lists ``training`` and ``validation``. The fundus weights learn from photographs
of one real camera and from phantoms of all four made ones; no other real camera is seen. A stopped run goes on where it
was.
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
runpy.run_path(str(BUNDLE / "emclip" / "prepare.py"))

from monai.bundle import run  # noqa: E402

from shared.data.datalists import expand_datalist  # noqa: E402
from shared.data.phantoms.fundus import make_fundus_phantoms  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")
CARDIAC = str(BUNDLE / "configs" / "cardiac.json")


def fundus(real_dir: str, work_dir: str, epochs: int = 90, repeat: int = 2) -> None:
    """Train on real photographs, each `repeat` times an epoch, beside phantoms; validate on real ones."""
    work = Path(work_dir).absolute()
    real = Path(real_dir).absolute() / "dataset.json"
    made = make_fundus_phantoms(work / "phantoms")
    phantoms = [item for split in ("training", "testing") for item in expand_datalist(made, split)]
    photographs = [
        {**item, "case_id": f"{item['case_id']}_{n}"}
        for n in range(repeat)
        for item in expand_datalist(real, "training")
    ]
    lists = {"training": photographs + phantoms, "validation": expand_datalist(real, "validation")}
    (work / "mixed").mkdir(parents=True, exist_ok=True)
    (work / "mixed" / "dataset.json").write_text(json.dumps(lists, indent=1))
    train(work / "trained", "model.pt", epochs, TRAIN, dataset_dir=str(work / "mixed"))


def cardiac(real_dir: str, work_dir: str, epochs: int = 40) -> None:
    """Train on short-axis volumes of one hospital's scanners."""
    folder = Path(work_dir).absolute() / "trained"
    train(folder, "model_cardiac.pt", epochs, [TRAIN, CARDIAC], dataset_dir=str(Path(real_dir).absolute()))


def train(output: Path, target: str, epochs: int, config_file: str | list[str], **options: Any) -> None:
    """One training, taken up where it was stopped; its best weights are put into ``models/<target>``."""
    interval = max(1, epochs // 5)
    run(config_file=config_file, output_dir=str(output), resume=True, epochs=epochs, val_interval=interval, **options)
    shutil.copyfile(output / "models" / "model.pt", BUNDLE / "models" / target)


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire({"fundus": fundus, "cardiac": cardiac})
