"""Make ``models/model.pt``: chest X-rays with their sentences, of QaTa-COV19 and phantoms.

    python bundles/tmca/tmca/make_weights.py --real_dir <folder of QaTa-COV19> --work_dir <folder>

The folder holds a ``dataset.json`` with lists ``training`` and ``validation``, of different patients. The best epoch is
chosen on real images. A stopped run goes on where it was.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import fire

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "tmca" / "prepare.py"))

from monai.bundle import run  # noqa: E402

from shared.data.datalists import expand_datalist  # noqa: E402
from shared.data.phantoms.chest import make_chest_phantoms  # noqa: E402

CONFIGS = [str(BUNDLE / "configs" / name) for name in ("train.json", "qata.json")]


def main(real_dir: str, work_dir: str, epochs: int = 12, phantoms: int = 240) -> None:
    """Train on real images beside so many phantoms, and put the best weights into ``models/model.pt``."""
    work = Path(work_dir).absolute()
    real = Path(real_dir).absolute() / "dataset.json"
    made = make_chest_phantoms(work / "phantoms", phantoms, 1, 1)
    lists = {
        "training": expand_datalist(real, "training") + expand_datalist(made, "training"),
        "validation": expand_datalist(real, "validation"),
    }
    (work / "mixed").mkdir(parents=True, exist_ok=True)
    (work / "mixed" / "dataset.json").write_text(json.dumps(lists, indent=1))
    output = work / "trained"
    run(
        config_file=CONFIGS,
        dataset_dir=str(work / "mixed"),
        output_dir=str(output),
        epochs=epochs,
        val_interval=max(1, epochs // 6),
        resume=True,
    )
    (BUNDLE / "models").mkdir(exist_ok=True)
    shutil.copyfile(output / "models" / "model.pt", BUNDLE / "models" / "model.pt")


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
