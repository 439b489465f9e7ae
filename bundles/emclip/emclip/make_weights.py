"""Make ``models/model.pt``: fundus, from photographs of one real camera and phantoms of four made ones.

    python bundles/emclip/emclip/make_weights.py --real_dir <folder of Drishti-GS> --work_dir <folder>

The folder holds a ``dataset.json`` with lists ``training`` and ``validation``. No other real camera is seen. A stopped
run goes on where it was. (``model_cardiac.pt`` comes from ``benchmarks/unseen_domains.py run cardiac ours --weights``.)
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


def main(real_dir: str, work_dir: str, epochs: int = 60, repeat: int = 2) -> None:
    """Train on real photographs, each `repeat` times an epoch, beside phantoms; the best on real ones is kept."""
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
    output = work / "trained"
    options: dict[str, Any] = {
        "dataset_dir": str(work / "mixed"),
        "epochs": epochs,
        "val_interval": max(1, epochs // 5),
    }
    run(config_file=TRAIN, output_dir=str(output), resume=True, **options)
    shutil.copyfile(output / "models" / "model.pt", BUNDLE / "models" / "model.pt")


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
