"""Cases and data set of fundus phantoms: photographs cropped about the optic disc, with labels of disc and cup.

Not clinical data. One camera is the source domain, the other three are unseen domains. All three photograph the same
eyes, so that results on them differ only by the camera.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emclip.phantoms.appearance import reflectance
from emclip.phantoms.cameras import CAMERAS, aim, photograph
from emclip.phantoms.eye import Array, draw_eye
from emclip.phantoms.vessels import paint_vessels
from shared.core.errors import InputError
from shared.core.files import whole
from shared.datasets.builtin import already_made, run_jobs, write_datalist

RECIPE_VERSION = 1  # raise it when a change gives other images for the same seed
LABELS = {"background": 0, "optic disc": 100, "optic cup": 200}  # as in public data sets; the disc contains the cup
SOURCE, *UNSEEN = CAMERAS
DESCRIPTION = (
    "Fundus photographs cropped about the optic disc; label PNG: 0 background, 100 optic disc rim, 200 optic cup "
    "(the disc contains the cup); synthetic, not clinical data"
)
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class FundusCase:
    """One photograph.

    Attributes:
        image: uint8 (H, H, 3), red, green, blue.
        label: uint8 (H, H), values of `LABELS`.
        pixel_from_eye: (2, 3), eye coordinates (disc radii, see `emclip.phantoms.eye`) to pixels (column, row).
    """

    image: Array
    label: Array
    pixel_from_eye: Array


def make_fundus_case(seed: int, camera: str = SOURCE, *, size: int | None = None) -> FundusCase:
    """Make one photograph; the same arguments give the same arrays on one machine.

    Args:
        seed: any non-negative integer; determines the eye, the same for every camera.
        camera: "camera_a" (source), "camera_b", "camera_c" or "camera_d".
        size: side in pixels; None takes the camera's own (208 to 288). The view is the same at any size.

    Raises:
        InputError: the camera is unknown or the size is below 16.
    """
    if camera not in CAMERAS:
        raise InputError(f"unknown camera {camera!r}: choose from {', '.join(CAMERAS)}")
    size = CAMERAS[camera].size if size is None else size
    if size < 16:
        raise InputError(f"size must be at least 16 pixels, not {size!r}")
    eye = draw_eye(np.random.default_rng([seed, 0]))
    pose, picture = np.random.default_rng([seed, 1 + list(CAMERAS).index(camera)]).spawn(2)
    matrix = aim(pose, CAMERAS[camera], size)
    rows, columns = np.indices((size, size), np.float32)
    back = np.linalg.inv(matrix[:, :2]).astype(np.float32)
    dx, dy = columns - np.float32(matrix[0, 2]), rows - np.float32(matrix[1, 2])
    x, y = back[0, 0] * dx + back[0, 1] * dy, back[1, 0] * dx + back[1, 1] * dy  # disc radii

    colour = reflectance(eye, x, y, *paint_vessels(eye.vessels, matrix, size))
    image = photograph(picture, CAMERAS[camera], colour, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    label = np.where(eye.disc.rho(x, y) < 1, LABELS["optic disc"], LABELS["background"]).astype(np.uint8)
    label[eye.cup_rho(x, y) < 1] = LABELS["optic cup"]
    return FundusCase(image, label, matrix)


def _write_case(stem: Path, seed: int, camera: str) -> None:
    """Write ``<stem>.png`` and ``<stem>_label.png``."""
    case = make_fundus_case(seed, camera)
    with whole(f"{stem}.png") as draft:
        Image.fromarray(case.image).save(draft, compress_level=1)
    with whole(f"{stem}_label.png") as draft:
        Image.fromarray(case.label).save(draft)


def _item(number: int, camera: str) -> dict[str, Any]:
    stem = f"{camera}/eye_{number:03d}"
    return {
        "image": f"{stem}.png",
        "label": f"{stem}_label.png",
        "domain": camera,
        "labelled": [name for name in LABELS if name != "background"],
        "case_id": f"eye_{number:03d}_{camera}",
    }


def _datalist(counts: Sequence[int], recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the Decathlon-style content of ``dataset.json``; every eye belongs to one part."""
    first, second, third = np.cumsum(counts).tolist()
    return {
        "name": "fundus phantoms",
        "description": DESCRIPTION,
        "licence": LICENCE,
        "recipe": recipe,
        "modality": {"0": "colour fundus photograph"},
        "labels": {str(value): name for name, value in LABELS.items()},
        "domains": {"source": [SOURCE], "unseen": list(UNSEEN)},
        "training": [_item(number, SOURCE) for number in range(first)],
        "validation": [_item(number, SOURCE) for number in range(first, second)],
        "testing": [_item(number, camera) for camera in UNSEEN for number in range(second, third)],
    }


def make_fundus_phantoms(
    folder: str | os.PathLike[str],
    num_training: int = 60,
    num_validation: int = 12,
    num_testing: int = 12,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make a data set of fundus phantoms on disk, or find the one that is there.

    Writes ``<folder>/<camera>/eye_000.png``, ``eye_000_label.png`` and so on, then ``<folder>/dataset.json``. The list
    comes last, so that an interrupted call starts again. Training and validation eyes are photographed by the source
    camera, testing eyes by each of the three unseen cameras. Pixels have no physical size.

    Args:
        folder: created if missing.
        num_training, num_validation: number of eyes of the source camera.
        num_testing: number of eyes, the same for each unseen camera.
        seed: seed of the data set, from which the seeds of the eyes are derived.
        workers: number of threads; None takes the number of usable cores.
        progress: show a progress bar.

    Returns:
        Path of ``dataset.json``.

    Raises:
        InputError: the folder holds other data, or a ``dataset.json`` that was made from other arguments or by another
            program.
    """
    target = Path(folder) / "dataset.json"
    counts = (num_training, num_validation, num_testing)
    recipe = {"maker": "fundus phantoms", "version": RECIPE_VERSION, "seed": seed, "counts": list(counts)}
    if already_made(target, recipe, CAMERAS):
        return target
    datalist = _datalist(counts, recipe)
    seeds = np.random.SeedSequence(seed).generate_state(sum(counts)).tolist()
    jobs = []
    for item in [*datalist["training"], *datalist["validation"], *datalist["testing"]]:
        stem = target.parent / item["image"].removesuffix(".png")
        jobs.append((stem, seeds[int(stem.name.removeprefix("eye_"))], item["domain"]))
    run_jobs(_write_case, jobs, workers, progress, "making fundus phantoms", threads=True)
    write_datalist(target, datalist)
    return target
