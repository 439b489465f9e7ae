"""Make ``models/model.pt`` (fundus) from photographs of one real camera and phantoms of four synthetic cameras.

    python bundles/emclip/emclip/make_weights.py --real_dir <folder of Drishti-GS> --work_dir <folder>

The folder holds a ``dataset.json`` with the lists ``training`` and ``validation``. The first training takes real
photographs, the second photographs and phantoms. A training that was stopped is resumed by the same command.

    python bundles/emclip/emclip/make_weights.py ... --begin_with bundles/emclip/models/model.pt

starts from existing weights: it runs a longer second training in which the image tower and the layers of the pixel
decoder are frozen, so that git stores only a seventh of the file anew, and then moves the old weights three quarters of
the way to the new ones. The present weights were made in this way from their predecessors. ``model_cardiac.pt`` comes
from ``benchmarks/unseen_domains.py run cardiac ours --weights`` and `ship`.
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
from shared.engine.recipes import between, kept, repeated, ship, train_once, write_lists  # noqa: E402

TRAIN = str(BUNDLE / "configs" / "train.json")
SIZE = {"image_size": [192, 192]}  # larger than in use, where it is more accurate than training at 128
REAL = {"epochs": 400, "val_interval": 100, **SIZE}  # about half an hour of one core with bfloat16
MIXED = {"epochs": 20, "val_interval": 5, "learning_rate": 0.0007, **SIZE}
RENEWABLE = "$[p for n, p in @network.named_parameters() if not n.startswith(('encoder.', 'layers.'))]"
RENEWED = {"epochs": 32, "val_interval": 32, "learning_rate": 0.001, "optimizer#params": RENEWABLE, **SIZE}
WAY = 0.75  # keeps the accuracy on cups of phantoms, and nearly all of the gain on cups of photographs
REPEAT = 6  # repetitions of a real photograph in an epoch of the second training


def main(real_dir: str, work_dir: str, begin_with: str | None = None) -> None:
    """Run both trainings and write ``models/model.pt``, the weights of the best epoch on real images.

    Args:
        real_dir: folder of the real photographs.
        work_dir: folder for phantoms, lists and trainings.
        begin_with: file of weights that replaces the first training.
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
    mixed = write_lists(work / "lists", training=photographs + phantoms, validation=expand_datalist(real, "validation"))
    output = work / ("mixed" if begin_with is None else "renewed")  # two recipes may use one work_dir
    weights = train_once(TRAIN, output, dataset_dir=str(mixed), weights=str(first), **second)
    if begin_with is not None:
        weights = between(first, weights, WAY, work / "between" / "model.pt")
    ship(weights, BUNDLE / "models" / "model.pt")


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
