"""Make ``models/model.pt``: fundus, from photographs of one real camera and phantoms of four made ones.

    python bundles/emclip/emclip/make_weights.py --real_dir <folder of Drishti-GS> --work_dir <folder>

The folder holds a ``dataset.json`` with lists ``training`` and ``validation``. No other real camera is seen. A stopped
run goes on where it was. (``model_cardiac.pt`` comes from ``benchmarks/unseen_domains.py run cardiac ours --weights``.)
"""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import fire

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "emclip" / "prepare.py"))

from shared.data.datalists import expand_datalist  # noqa: E402
from shared.data.phantoms.fundus import make_fundus_phantoms  # noqa: E402
from shared.recipes import repeated, train_once, write_datalist  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")


def main(real_dir: str, work_dir: str, epochs: int = 60, repeat: int = 2) -> None:
    """Train on real photographs, each `repeat` times an epoch, beside phantoms; the best on real ones is kept."""
    work = Path(work_dir).absolute()
    real = Path(real_dir).absolute() / "dataset.json"
    made = make_fundus_phantoms(work / "phantoms")
    phantoms = [item for split in ("training", "testing") for item in expand_datalist(made, split)]
    photographs = repeated(expand_datalist(real, "training"), repeat)
    mixed = write_datalist(
        work / "mixed", training=photographs + phantoms, validation=expand_datalist(real, "validation")
    )
    weights = train_once(
        TRAIN, work / "trained", dataset_dir=str(mixed), epochs=epochs, val_interval=max(1, epochs // 5)
    )
    shutil.copyfile(weights, BUNDLE / "models" / "model.pt")


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
