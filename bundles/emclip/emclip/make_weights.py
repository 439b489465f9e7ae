"""Make ``models/model.pt``: fundus, from photographs of one real camera and phantoms of four made ones.

    python bundles/emclip/emclip/make_weights.py --real_dir <folder of Drishti-GS> --work_dir <folder>

The folder holds a ``dataset.json`` with lists ``training`` and ``validation``. No other real camera is seen. First real
photographs alone, then beside phantoms, so that the weights know both. A stopped run goes on where it was.

    python bundles/emclip/emclip/make_weights.py ... --begin_with bundles/emclip/models/model.pt

goes on from weights: the second training alone, longer; the image tower and the pixel decoder's layers stay as they
are, so that git stores a seventh of the file anew; then three quarters of the way from the old weights to the new ones.
So the weights of today were made of those before them.
(``model_cardiac.pt`` comes from ``benchmarks/unseen_domains.py run cardiac ours --weights``, and `ship` halves it.)
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import fire

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "emclip" / "prepare.py"))

from emclip.phantoms.dataset import make_fundus_phantoms  # noqa: E402
from shared.datasets.datalist import expand_datalist  # noqa: E402
from shared.engine.recipes import between, kept, repeated, ship, train_once, write_datalist  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")
SIZE = {"image_size": [192, 192]}  # finer than they are used at: as good there, and better than at 128
REAL = {"epochs": 400, "val_interval": 100, **SIZE}  # about half an hour of one core with bfloat16
MIXED = {"epochs": 20, "val_interval": 5, "learning_rate": 0.0007, **SIZE}
RENEWABLE = "$[p for n, p in @network.named_parameters() if not n.startswith(('encoder.', 'layers.'))]"
RENEWED = {"epochs": 32, "val_interval": 32, "learning_rate": 0.001, "optimizer#params": RENEWABLE, **SIZE}
WAY = 0.75  # cups of phantoms are as good as before, those of photographs nearly as good as at the end
REPEAT = 6  # times a real photograph is seen in an epoch of the second training


def main(real_dir: str, work_dir: str, begin_with: str | None = None) -> None:
    """Run both trainings and put the weights into ``models/model.pt``; the best epoch on real images is kept.

    `begin_with`, a file of weights, takes the place of the first training.
    """
    work = Path(work_dir).absolute()
    real = Path(real_dir).absolute() / "dataset.json"
    if begin_with is None:
        first, second = train_once(TRAIN, work / "real", dataset_dir=str(real.parent), **REAL), MIXED
    else:
        first, second = kept(begin_with, work / "begin" / "model.pt"), RENEWED
    made = make_fundus_phantoms(work / "phantoms")
    phantoms = [item for split in ("training", "testing") for item in expand_datalist(made, split)]
    photographs = repeated(expand_datalist(real, "training"), REPEAT)
    mixed = write_datalist(
        work / "lists", training=photographs + phantoms, validation=expand_datalist(real, "validation")
    )
    output = work / ("mixed" if begin_with is None else "renewed")  # both may share a folder
    weights = train_once(TRAIN, output, dataset_dir=str(mixed), weights=str(first), **second)
    if begin_with is not None:
        weights = between(first, weights, WAY, work / "between" / "model.pt")
    ship(weights, BUNDLE / "models" / "model.pt")


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
