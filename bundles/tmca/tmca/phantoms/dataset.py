"""Cases and data set of chest phantoms: frontal X-rays, masks of lung opacities, sentences as in QaTa-COV19.

Not clinical data. The sentence names the zones of the opacities. Many pictures also show look-alikes in other zones,
which are not in the mask, so that the picture alone does not determine the mask (see `tmca.phantoms.opacities`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.core.errors import InputError
from shared.core.files import whole, write_atomic
from shared.datasets.builtin import already_made, run_jobs, write_datalist
from tmca.phantoms.anatomy import Array, draw_chest
from tmca.phantoms.film import expose
from tmca.phantoms.opacities import draw_opacities
from tmca.phantoms.projection import project
from tmca.phantoms.sentence import LungFrame, describe

RECIPE_VERSION = 1  # raise it when a change gives other images for the same seed
SIZE = 224  # side in pixels
PARTS = ("training", "validation", "testing")
DESCRIPTION = (
    "Frontal chest X-rays with lung opacities; mask PNG: 0 background, 1 opacity; one sentence per image, which tells "
    "opacities from look-alikes; left is the left of the picture; synthetic, not clinical data"
)
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class ChestCase:
    """One X-ray.

    Attributes:
        image: uint8 (H, H).
        label: uint8 (H, H), 1 in the opacities that the sentence names.
        lookalikes: uint8 (H, H), 1 in similar shadows that the sentence does not name.
        lungs: bool (2, H, H), on the left and on the right of the picture.
        text: the sentence.
        frame: position of the lungs.
    """

    image: Array
    label: Array
    lookalikes: Array
    lungs: Array
    text: str
    frame: LungFrame


def _aim(rng: np.random.Generator, height: float, size: int) -> Array:
    """Draw the matrix (2, 3) from chest coordinates to pixels: scale, small rotation, small offset."""
    scale = size * rng.uniform(0.32, 0.47)
    scale = min(scale, 0.84 * size / height)  # most pictures show the lungs from top to bottom
    angle = np.deg2rad(rng.normal(0, 1.5))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spare = max(size - scale * height, 0)
    centre = np.array([size * (0.5 + rng.normal(0, 0.025)), spare * rng.uniform(0.15, 0.65)])
    return np.concatenate([scale * turn, centre[:, None]], 1)


def _frame(lungs: Array, matrix: Array, height: float) -> LungFrame:
    rows, size = np.flatnonzero(lungs.any((0, 2))), lungs.shape[1]
    middle = matrix @ np.array([0, 0.6 * height, 1])
    return LungFrame(float(rows[0] / size), float((rows[-1] + 1) / size), float(middle[0] / size))


def make_chest_case(seed: int, *, size: int = SIZE) -> ChestCase:
    """Make one X-ray; the same arguments give the same arrays on one machine.

    Args:
        seed: any non-negative integer.
        size: side in pixels. Other sizes show the same person with other noise and cables.

    Raises:
        InputError: the size is below 48, where zones are a few pixels high.
    """
    if size < 48:
        raise InputError(f"size must be at least 48 pixels, not {size!r}")
    person, pose, layers, shadows, picture = np.random.default_rng(seed).spawn(5)
    chest = draw_chest(person)
    matrix = _aim(pose, chest.height, size)
    projection = project(layers, chest, matrix, size)
    frame = _frame(projection.lungs, matrix, chest.height)
    opacities = draw_opacities(shadows, projection.lungs, frame)
    hidden = np.clip(1 - 2.5 * opacities.density, 0.2, 1)
    image = expose(picture, projection.attenuation + hidden * projection.vessels + opacities.density)
    label, lookalikes = (part.astype(np.uint8) for part in (opacities.mask, opacities.lookalikes))
    return ChestCase(image, label, lookalikes, projection.lungs, describe(label, frame), frame)


def _write_case(stem: Path, seed: int) -> None:
    """Write ``<stem>.png``, ``<stem>_mask.png`` and the sentence as ``<stem>.txt``."""
    case = make_chest_case(seed)
    with whole(f"{stem}.png") as draft:
        Image.fromarray(case.image).save(draft, compress_level=1)
    with whole(f"{stem}_mask.png") as draft:
        Image.fromarray(case.label).save(draft)
    write_atomic(f"{stem}.txt", case.text + "\n")


def _items(folder: Path, counts: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Return the items of each part; every patient belongs to one part."""
    ends = np.cumsum([0, *counts]).tolist()
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, start, end in zip(PARTS, ends[:-1], ends[1:]):
        names = [f"chest_{number:03d}" for number in range(start, end)]
        parts[part] = [
            {
                "image": f"{part}/{name}.png",
                "label": f"{part}/{name}_mask.png",
                "text": (folder / part / f"{name}.txt").read_text(encoding="utf-8").strip(),
                "case_id": name,
            }
            for name in names
        ]
    return parts


def make_chest_phantoms(
    folder: str | os.PathLike[str],
    num_training: int = 240,
    num_validation: int = 40,
    num_testing: int = 40,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make a data set of chest phantoms on disk, or find the one that is there.

    Writes ``<folder>/<part>/chest_000.png`` (grey, 8 bit, 224 x 224), ``chest_000_mask.png`` (0 background, 1 opacity),
    ``chest_000.txt`` (the sentence) and so on, then ``<folder>/dataset.json`` with image, label, text and case_id. The
    list comes last, so that an interrupted call starts again. Pixels have no physical size.

    Args:
        folder: created if missing.
        num_training, num_validation, num_testing: number of patients of each part, with one X-ray each.
        seed: seed of the data set, from which the seeds of the patients are derived.
        workers: number of processes; None takes the number of usable cores.
        progress: show a progress bar.

    Returns:
        Path of ``dataset.json``.

    Raises:
        InputError: the folder holds other data, or a ``dataset.json`` that was made from other arguments or by another
            program.
    """
    target = Path(folder) / "dataset.json"
    counts = (num_training, num_validation, num_testing)
    recipe = {"maker": "chest phantoms", "version": RECIPE_VERSION, "seed": seed, "counts": list(counts)}
    if already_made(target, recipe, PARTS):
        return target
    part_of = np.repeat(PARTS, counts).tolist()
    seeds = np.random.SeedSequence(seed).generate_state(sum(counts)).tolist()
    jobs = [
        (target.parent / part / f"chest_{number:03d}", case_seed)
        for number, (part, case_seed) in enumerate(zip(part_of, seeds))
    ]
    run_jobs(_write_case, jobs, workers, progress, "making chest phantoms")
    content = {
        "name": "chest phantoms",
        "description": DESCRIPTION,
        "licence": LICENCE,
        "recipe": recipe,
        "modality": {"0": "chest X-ray"},
        "labels": {"0": "background", "1": "opacity"},
        **_items(target.parent, counts),
    }
    write_datalist(target, content)
    return target
