"""Make ``models/model.pt`` from chest X-rays with their sentences: QaTa-COV19 and phantoms.

    python bundles/tmca/tmca/make_weights.py --real_dir <folder of QaTa-COV19> --work_dir <folder>

The folder holds a ``dataset.json`` with the lists ``training`` and ``validation``, of different patients. The first
training takes small real images, the later ones larger images and phantoms. The best epoch is chosen on real images. A
training that was stopped is resumed by the same command. (The present weights are older than the second pass without
the sentence: their training dropped 20 to 30 % of the sentences instead.)
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import fire

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "tmca" / "prepare.py"))

from shared.datasets.datalist import expand_datalist  # noqa: E402
from shared.engine.recipes import ship, train_once, write_lists  # noqa: E402
from tmca.phantoms.dataset import make_chest_phantoms  # noqa: E402

CONFIGS = [str(BUNDLE / "configs" / name) for name in ("train.json", "qata.json")]


# Small images first: the network learns most from them, in a fifth of the time. The last two steps repeat small and
# large images. In total five hours on one core in float32, then two in bfloat16.
REAL = {"epochs": 10, "val_interval": 5, "image_size": 128}
MIXED = {"epochs": 10, "val_interval": 2, "image_size": 160, "learning_rate": 0.001}
LARGE = {"epochs": 4, "val_interval": 4, "image_size": 224, "learning_rate": 0.001}
WORDS = {"epochs": 2, "val_interval": 2, "image_size": 224, "learning_rate": 0.0008, "rephrase_prob": 0.5}
FREE = {**WORDS, "epochs": 1, "val_interval": 1, "learning_rate": 0.0006, "rephrase_prob": 0.9}
AGAIN = {"epochs": 14, "val_interval": 7, "image_size": 128, "learning_rate": 0.0015}
LAST = {**LARGE, "val_interval": 2, "learning_rate": 0.0008, "rephrase_prob": 0.4}
STEPS = {"mixed": MIXED, "large": LARGE, "words": WORDS, "free": FREE, "again": AGAIN, "last": LAST}
PHANTOMS = 240


def main(real_dir: str, work_dir: str) -> None:
    """Run all steps and write ``models/model.pt``.

    Args:
        real_dir: folder of QaTa-COV19.
        work_dir: folder for phantoms, lists and trainings.
    """
    work = Path(work_dir).absolute()
    real = Path(real_dir).absolute() / "dataset.json"
    weights = train_once(CONFIGS, work / "real", dataset_dir=str(real.parent), overlays=0, **REAL)
    made = make_chest_phantoms(work / "phantoms", PHANTOMS, 1, 1)
    training = expand_datalist(real, "training") + expand_datalist(made, "training")
    lists = write_lists(work / "lists", training=training, validation=expand_datalist(real, "validation"))
    for name, options in STEPS.items():
        weights = train_once(CONFIGS, work / name, dataset_dir=str(lists), weights=str(weights), overlays=0, **options)
    ship(weights, BUNDLE / "models" / "model.pt")


if __name__ == "__main__":
    sys.argv[0] = "make_weights.py"
    fire.Fire(main)
