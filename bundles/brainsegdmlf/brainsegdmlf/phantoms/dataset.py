"""Cases and data set of brain phantoms: four MR sequences, a lesion mask, a scanner's geometry. Not clinical data."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from brainsegdmlf.phantoms.anatomy import Anatomy, Array, Template, make_anatomy, smooth_noise
from brainsegdmlf.phantoms.any_contrast import head_files
from brainsegdmlf.phantoms.artefacts import missing_cortex, paint_remnants, remnants
from brainsegdmlf.phantoms.contrast import SEQUENCES, make_sequences
from brainsegdmlf.phantoms.label_map import load_head
from brainsegdmlf.phantoms.lesions import Lesions, make_lesions
from brainsegdmlf.phantoms.real_lesions import MIX, find_shapes, mix_lesions
from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.datasets.builtin import already_made, run_jobs, write_datalist

RECIPE_VERSION = 4  # raise it when a change gives other images for the same seed
HEAD_MM = (164.0, 200.0, 172.0)  # field of view for a head of the template's size; cropped afterwards
HEAD_SIZES = (0.83, 0.96)  # relative to the template: the MNI152 brain is larger than average
CROP_MARGIN = 4  # voxels of air around the brain
THICKNESSES, THICKNESS_WEIGHTS = (1.0, 2.0, 3.0, 4.0), (0.04, 0.14, 0.32, 0.50)  # mm; thin slices take most time
ROUGH_THICKNESSES, ROUGH_WEIGHTS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (0.06, 0.12, 0.22, 0.22, 0.25, 0.13)
STORAGE_ORDERS = ("RAS", "LAS", "LPS", "RPS", "PSR")  # written by scanners and converters
SMALLEST_LESION = 10.0  # mm3; readers do not mark smaller ones
FULL_SCALE = 3000  # typical largest value of DICOM MR
DESCRIPTION = "Brain MR (FLAIR, T1, T1 after contrast, T2) with white-matter lesions; synthetic, not clinical data"
LICENCE = "Apache-2.0; anatomy derived from MNI152 2009a (Fonov 2009, 2011; McGill licence: free use with this notice)"

Maps = TypeVar("Maps", Anatomy, Lesions)


@dataclass(frozen=True)
class BrainCase:
    """One case; all arrays share the shape (X, Y, Z) and the affine.

    Attributes:
        images: int16 by sequence name, exactly 0 outside the brain.
        label: uint8, 1 in lesions.
        affine: 4 x 4, voxel index to world coordinates in mm (RAS+).
    """

    images: dict[str, Array]
    label: Array
    affine: Array


def _merge_slices(maps: Maps, factor: int) -> Maps:
    """Average every `factor` thin slices (last axis) into a thick one, with its partial volume."""

    def merge(field: Array) -> Array:
        return sum(field[..., part::factor] for part in range(factor)) / np.float32(factor)

    if factor == 1:
        return maps
    return type(maps)(*(merge(getattr(maps, field.name)) for field in fields(maps)))


def _skull_strip(rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float]) -> Array:
    """Return a brain mask with the errors of automatic tools: too tight or too loose, uneven."""
    border = rng.uniform(-2.0, 1.2) + rng.uniform(0.2, 1.0) * smooth_noise(rng, anatomy.depth.shape, spacing, 15.0)
    parts, _ = ndimage.label(anatomy.depth + border > 0)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def _label(anatomy: Anatomy, lesions: Lesions, mask: Array, spacing: Sequence[float]) -> Array:
    """Return the label that a reader would draw: voxels of mostly lesion and little fluid, in spots of visible size."""
    marked = (lesions.volume > 0.5) & (anatomy.csf < 0.35) & mask
    spots, _ = ndimage.label(marked, np.ones((3, 3, 3)))
    large = np.bincount(spots.ravel()) * np.prod(spacing) >= SMALLEST_LESION
    large[0] = False
    return large[spots].astype(np.uint8)


def _to_int16(rng: np.random.Generator, image: Array, mask: Array) -> Array:
    """Scale `image` to the range of a scanner: at least 1 in the brain, 0 outside."""
    top = np.percentile(image[mask], 99.9) / rng.uniform(0.1, 1.0)
    return np.where(mask, np.clip(image / top * FULL_SCALE, 1, 32767), 0).astype(np.int16)


def _rotation(rng: np.random.Generator) -> Array:
    """Draw a small oblique tilt of the slices (3 x 3); half of the cases have none."""
    angles = rng.normal(0, np.deg2rad(5), 3) * (rng.random() < 0.5)
    (a, b, c), eye = angles, np.eye(3)
    generator = np.cross(eye, np.array([a, b, c]))
    rotation, _ = np.linalg.qr(eye + generator)
    return rotation * np.sign(np.diag(rotation))


def _store(arrays: list[Array], affine: Array, order: str) -> tuple[list[Array], Array]:
    """Flip and permute the axes to the storage `order`, such as "LPS"; world positions stay the same."""
    start, end = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(order)
    turn = nib.orientations.ornt_transform(start, end)
    moved = affine @ nib.orientations.inv_ornt_aff(turn, arrays[0].shape)
    return [np.ascontiguousarray(nib.orientations.apply_orientation(array, turn)) for array in arrays], moved


def _draw_head(rng: np.random.Generator, files: Sequence[Path], share: float) -> Template | None:
    """Draw one of several label maps, or None for the MNI template."""
    return load_head(files[int(rng.integers(len(files)))]) if rng.random() < share else None


def make_brain_case(
    seed: int,
    *,
    spacing: Sequence[float] | None = None,
    sequences: Sequence[str] = SEQUENCES,
    lesions: bool = True,
    hard: bool = False,
    rough: bool = False,
    heads_dir: str | os.PathLike[str] | None = None,
    heads: Sequence[str] | None = None,
    head_share: float = 0.5,
    lesion_dir: str | os.PathLike[str] | None = None,
    strokes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    lesion_kind: str | None = None,
) -> BrainCase:
    """Make one case; the same arguments give the same arrays on one machine.

    Args:
        seed: any non-negative integer.
        spacing: mm per voxel (right, anterior, superior); None draws 0.9 to 1.1 mm in plane and slices of 1 to 4 mm.
        sequences: which of "flair", "t1", "t1ce", "t2" to make, in this order.
        lesions: False gives the same head without lesions.
        hard: brighter look-alikes, and a label without the spots that a reader would overlook. A network trained on
            such cases learns more slowly and has fewer false positives in real patients.
        rough: slices of up to 6 mm, surface coils, motion, ringing, unusual contrasts and badly stripped brains.
        heads_dir, heads: folder of head label maps, and which of them may be used (see `any_contrast.head_files`);
            without a folder all heads are the MNI template.
        head_share: share of the cases whose head comes from such a label map, in [0, 1].
        lesion_dir: folder of lesion masks of patients (see `real_lesions.find_shapes`); None draws all lesions.
        strokes, exclude: see `real_lesions.find_shapes`.
        lesion_kind: of `real_lesions.MIX` ("drawn", "ms", "stroke", "both", "none"); None draws one per case. Only with
            `lesion_dir`.

    Returns:
        The case, in a random storage order (RAS, LPS, ...) and in half of all cases oblique.

    Raises:
        InputError: a sequence is unknown, a spacing is not positive, `lesion_kind` is unknown, or a folder lacks
            its files.
    """
    if unknown := [name for name in sequences if name not in SEQUENCES]:
        raise InputError(f"unknown sequence {unknown[0]!r}: choose from {', '.join(SEQUENCES)}")
    if spacing is not None and (len(spacing) != 3 or min(spacing) <= 0):
        raise InputError(f"spacing must be three positive lengths in mm, not {spacing!r}")
    if lesion_kind is not None and lesion_kind not in MIX:
        raise InputError(f"unknown lesion_kind {lesion_kind!r}: choose from {', '.join(MIX)}")
    streams = np.random.default_rng(seed)
    geometry, head, spots, look = streams.spawn(4)
    source, shapes, errors = streams.spawn(3)  # spawned last, so that old seeds give the same cases
    slices, weights = (ROUGH_THICKNESSES, ROUGH_WEIGHTS) if rough else (THICKNESSES, THICKNESS_WEIGHTS)
    drawn = (*geometry.uniform([0.9] * 2, [1.1] * 2), geometry.choice(slices, p=weights))
    mm = [float(d) for d in (drawn if spacing is None else spacing)]
    rotation, order = _rotation(geometry), str(geometry.choice(STORAGE_ORDERS, p=[0.3, 0.2, 0.3, 0.1, 0.1]))

    factor = 2 if mm[2] > 2.2 else 1  # thin slices per thick slice
    if rough and mm[2] > 4.5:
        factor = 3
    fine = [mm[0], mm[1], mm[2] / factor]
    size = float(geometry.uniform(*HEAD_SIZES))
    shape = [int(np.ceil(size * length / d)) for length, d in zip(HEAD_MM, mm)]
    template = None if heads_dir is None else _draw_head(source, head_files(heads_dir, heads), head_share)
    thin = make_anatomy(head, (*shape[:2], shape[2] * factor), fine, rotation / size, template)
    if lesion_dir is not None and lesions:
        thin, spread = mix_lesions(shapes, thin, fine, find_shapes(lesion_dir, strokes, exclude), lesion_kind)
    else:
        spread = make_lesions(spots, thin, fine) if lesions else Lesions.none(thin.wm.shape)
    anatomy, found = _merge_slices(thin, factor), _merge_slices(spread, factor)

    mask = _skull_strip(look, anatomy, mm)
    images = make_sequences(look, anatomy, found, mm, sequences, hard, rough)
    shown = mask
    if rough:
        mask = mask & ~missing_cortex(errors, anatomy, mm)
        left = remnants(errors, anatomy, mm)
        images = {name: paint_remnants(errors, image, left, mm) for name, image in images.items()}
        shown = mask | (left > 0.5)
    box = tuple(
        slice(max(s.start - CROP_MARGIN, 0), min(s.stop + CROP_MARGIN, n))
        for s, n in zip(ndimage.find_objects(shown.astype(np.uint8))[0], mask.shape)
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(mm)
    affine[:3, 3] = rotation @ (([s.start for s in box] - (np.array(shape) - 1) / 2) * np.array(mm)) + geometry.normal(
        0, 15, 3
    )
    stored = [_to_int16(look, images[name], shown)[box] for name in sequences]
    marked = _label(anatomy, found, mask, mm) if hard else ((found.volume > 0.5) & mask).astype(np.uint8)
    label = marked[box]
    arrays, affine = _store([*stored, label], affine, order)
    return BrainCase(dict(zip(sequences, arrays)), arrays[-1], affine)


def _write_case(folder: Path, seed: int, sequences: Sequence[str], hard: bool) -> None:
    """Write ``<folder>/<sequence>.nii.gz`` and ``<folder>/lesion.nii.gz``."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # there is one process per core
    try:
        case = make_brain_case(seed, sequences=sequences, hard=hard)
    finally:
        torch.set_num_threads(threads)
    for name, array in {**case.images, "lesion": case.label}.items():
        file = nib.Nifti1Image(array, case.affine).to_bytes()
        write_atomic(folder / f"{name}.nii.gz", gzip.compress(file, 1, mtime=0))  # noise shrinks little at any level


def _datalist(counts: Sequence[int], recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the Decathlon-style content of ``dataset.json``; the second testing case has no T1."""
    names = [f"phantom_{number:03d}" for number in range(sum(counts))]
    items = [
        {
            "image": [f"{name}/{sequence}.nii.gz" for sequence in SEQUENCES],
            "label": f"{name}/lesion.nii.gz",
            "case_id": name,
        }
        for name in names
    ]
    first, second = counts[0], counts[0] + counts[1]
    testing: list[dict[str, Any]] = [{"image": item["image"], "case_id": item["case_id"]} for item in items[second:]]
    if len(testing) > 1:
        testing[1]["image"] = [None if "/t1.nii" in path else path for path in testing[1]["image"]]
    return {
        "name": "brain phantoms",
        "description": DESCRIPTION,
        "licence": LICENCE,
        "recipe": recipe,
        "modality": {str(index): name for index, name in enumerate(SEQUENCES)},
        "labels": {"0": "background", "1": "lesion"},
        "training": items[:first],
        "validation": items[first:second],
        "testing": testing,
    }


def make_brain_phantoms(
    folder: str | os.PathLike[str],
    num_training: int = 28,
    num_validation: int = 6,
    num_testing: int = 2,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    hard: bool = False,
) -> Path:
    """Make a data set of brain phantoms on disk, or find the one that is there.

    Writes ``<folder>/phantom_000/{flair,t1,t1ce,t2,lesion}.nii.gz`` and so on, then ``<folder>/dataset.json``. The list
    comes last, so that an interrupted call starts again. The second testing case has no T1 (``null`` in the list).

    Args:
        folder: created if missing.
        num_training, num_validation, num_testing: number of cases of each part.
        seed: seed of the data set, from which the seeds of the cases are derived.
        workers: number of processes; None takes the number of usable cores.
        progress: show a progress bar.
        hard: make hard cases, see `make_brain_case`.

    Returns:
        Path of ``dataset.json``.

    Raises:
        InputError: the folder holds a ``dataset.json`` that was made from other arguments or by another program.
    """
    target = Path(folder) / "dataset.json"
    counts = (num_training, num_validation, num_testing)
    recipe = {"maker": "brain phantoms", "version": RECIPE_VERSION, "seed": seed, "counts": list(counts)}
    if hard:
        recipe["hard"] = True
    if already_made(target, recipe):
        return target
    datalist = _datalist(counts, recipe)
    seeds = np.random.SeedSequence(seed).generate_state(sum(counts)).tolist()
    jobs = []
    for item, case_seed in zip([*datalist["training"], *datalist["validation"], *datalist["testing"]], seeds):
        present = [name for name, path in zip(SEQUENCES, item["image"]) if path is not None]
        jobs.append((target.parent / item["case_id"], int(case_seed), present, hard))
    run_jobs(_write_case, jobs, workers, progress, "making brain phantoms")
    write_datalist(target, datalist)
    return target
