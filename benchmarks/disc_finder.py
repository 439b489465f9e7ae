"""Measure the finder of the optic disc on synthetic whole photographs, on real crops, and on other pictures.

    BUNDLES_REAL_DATA=FOLDER python benchmarks/disc_finder.py

The thresholds of ``shared/preparation/disc.py`` were chosen on these pictures. The finder was not trained on them,
except on the 40 crops of Drishti-GS. Whole photographs of real eyes play no part: `whole_photographs.py` tests on them.
"""

from __future__ import annotations

from record import ROOT, save  # first: it puts the bundles on sys.path

# isort: split
from collections import Counter
from collections.abc import Iterator
from typing import Any

import fire
import numpy as np
import torch
from emclip.make_disc_weights import read_crops
from emclip.phantoms.other_pictures import make_other_picture
from emclip.phantoms.pasted_disc import paste_disc
from emclip.phantoms.whole_fundus import WholeFundus, make_whole_fundus
from pipeline import real_images
from tqdm import tqdm

from shared.datasets.datalist import expand_datalist
from shared.io.picture_files import load_picture
from shared.preparation.disc import find_disc, load_disc_network
from shared.results.tables import markdown

WEIGHTS = ROOT / "bundles" / "emclip" / "models" / "disc.pt"
COUNT = 300  # synthetic pictures of each kind
FIRST = 2_000_000  # their first seed; the recipe's lie apart
HEIGHT = 416  # pixels
OTHERS = {
    "polyp_kvasir": "validation",
    "polyp_clinicdb": "testing",
    "qata_cov19": "validation",
    "breast_busi": "validation",
}  # data sets of something else: the list to take
MOST = 100  # pictures of each of these lists

Picture = tuple[torch.Tensor, WholeFundus | None]  # (3, H, W) in [0, 1], and the truth where there is one


def main() -> None:
    """Measure, and write ``disc_finder.json`` and ``disc_finder.md``."""
    network = load_disc_network(WEIGHTS)
    rows: dict[str, Counter[str]] = {}
    for kind, pictures in kinds().items():
        rows[kind] = Counter()
        for picture, truth in tqdm(pictures, kind, mininterval=10):
            disc = find_disc(picture, network)
            rows[kind][outcome(disc, picture.shape[1:], truth)] += 1
    words = ["cropped at the disc", "cropped elsewhere", "taken as a crop", "refused"]
    table = [["pictures", "number", *words]]
    table += [[kind, str(row.total()), *(str(row[word]) for word in words)] for kind, row in rows.items()]
    save("disc_finder", rows, "\n".join(["# The finder of the optic disc", "", *markdown(table)]) + "\n")


def outcome(disc: Any, size: tuple[int, int], truth: WholeFundus | None) -> str:
    """Say what becomes of a picture; a crop is right where the centre lies within half a disc radius."""
    if disc is None:
        return "refused"
    if not disc.is_in_whole_photograph(*size):
        return "taken as a crop"
    if truth is None or not truth.disc.any():
        return "cropped elsewhere"
    away = np.hypot(*np.subtract((disc.row, disc.column), np.argwhere(truth.disc).mean(0)))
    return "cropped at the disc" if away <= truth.radius / 2 else "cropped elsewhere"


def kinds() -> dict[str, Iterator[Picture]]:
    """Return the pictures by kind, made or read one by one."""
    fundus = real_images("fundus")
    crops = {"Drishti-GS, crops": ("training", "validation"), "RIM-ONE r2, crops of a camera never seen": ("testing",)}
    return {
        "synthetic whole photographs, half with a real disc": whole(),
        "synthetic, without disc: macula, lesions, reflections": without(),
        "synthetic, something else": ((tensor(make_other_picture(FIRST + n, HEIGHT)), None) for n in range(COUNT)),
        **{kind: (one for split in splits for one in listed(fundus, split)) for kind, splits in crops.items()},
        **{f"{name}, something else": listed(real_images(name), split, MOST) for name, split in OTHERS.items()},
    }


def whole() -> Iterator[Picture]:
    """Make whole photographs; every second one gets a disc of Drishti-GS that the finder was not trained on."""
    crops = read_crops(str(real_images("fundus")), "validation")
    for number in range(COUNT):
        rng = np.random.default_rng([FIRST + number, 11])
        made = make_whole_fundus(FIRST + number, HEIGHT)
        made = paste_disc(made, crops[rng.integers(len(crops))], rng) if number % 2 else made
        yield tensor(made.image), made


def without() -> Iterator[Picture]:
    """Make whole photographs that do not show the disc."""
    for number in range(COUNT):
        yield tensor(make_whole_fundus(FIRST + 500_000 + number, HEIGHT, with_disc=False).image), None


def listed(folder: Any, split: str, most: int | None = None) -> Iterator[Picture]:
    """Read the pictures of a list."""
    for item in expand_datalist(folder / "dataset.json", split)[:most]:
        yield load_picture(item["image"], item["case_id"]), None


def tensor(image: np.ndarray) -> torch.Tensor:
    """Turn (H, W, 3), uint8, into (3, H, W) in [0, 1]."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255


if __name__ == "__main__":
    fire.Fire(main)
