"""Lesions in the shapes of real ones: masks of patients in standard space, deformed and painted into a phantom.

Two kinds: white-matter lesions of multiple sclerosis, and strokes. A stroke is acute, or chronic with a cavity of
fluid. Masks carry no intensities, so brightness and its variation are drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from brainsegdmlf.phantoms.anatomy import Anatomy, Array, sigmoid, smooth_noise
from brainsegdmlf.phantoms.lesions import Lesions, make_lesions
from shared.core.errors import InputError

KINDS = ("ms", "stroke")
MIX = {"drawn": 0.22, "ms": 0.25, "stroke": 0.33, "both": 0.12, "none": 0.08}  # share of the cases
WARP_SCALES, WARP_MM = (30.0, 10.0), (2.5, 1.2)  # mm: smoothness and size of a mask's deformation
SHIFT_MM, STRETCH = 2.0, 0.06  # standard deviations of the shift (mm) and of the scale
SOFTNESS = (0.4, 1.0)  # voxels of 1 mm: blur of a mask before it is sampled
SHARPNESS = 6.0  # of the border after sampling
MIRRORED = 0.5  # share of masks whose sides are swapped
UNITED = 0.5  # share of MS cases with the lesions of two patients
CHRONIC = 0.35  # share of strokes with a cavity
T1_SILENT = 0.35  # share of acute strokes that are hardly darker in T1


@dataclass(frozen=True)
class Shapes:
    """Files of lesion masks in standard space, by kind; either kind may be empty."""

    ms: tuple[Path, ...]
    stroke: tuple[Path, ...]


def find_shapes(
    lesion_dir: str | os.PathLike[str], strokes: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> Shapes:
    """List the masks that may be used.

    Args:
        lesion_dir: folder with ``ms/*.nii.gz`` and ``stroke/*.nii.gz``: one binary mask per patient in MNI space.
        strokes: patients of ``stroke`` that may be used, such as "869"; None for all.
        exclude: patients of either folder that may not be used, such as "patient07".

    Raises:
        InputError: no mask is left, or a patient of `strokes` has no mask.
    """
    found = {kind: {file.name.removesuffix(".nii.gz"): file for file in _masks(lesion_dir, kind)} for kind in KINDS}
    allowed = {"ms": set(found["ms"]), "stroke": set(found["stroke"] if strokes is None else map(str, strokes))}
    if unknown := sorted(allowed["stroke"] - set(found["stroke"])):
        raise InputError(f"{lesion_dir}/stroke has no mask of patient {unknown[0]}: correct the list of strokes")
    left = {kind: tuple(found[kind][name] for name in sorted(allowed[kind] - set(map(str, exclude)))) for kind in KINDS}
    if not any(left.values()):
        raise InputError(f"{lesion_dir} has no mask (ms/*.nii.gz, stroke/*.nii.gz) that may be used: correct it")
    return Shapes(**left)


def _masks(lesion_dir: str | os.PathLike[str], kind: str) -> list[Path]:
    return sorted((Path(lesion_dir) / kind).glob("*.nii.gz"))


def mix_lesions(
    rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float], shapes: Shapes, kind: str | None = None
) -> tuple[Anatomy, Lesions]:
    """Draw the lesions of one case, of the given or a random kind, or none.

    Args:
        rng: random generator.
        anatomy: the head.
        spacing: mm per voxel.
        shapes: masks of patients.
        kind: of `MIX`; None draws one. "both" is a stroke beside lesions of white matter. Where a kind has no masks,
            lesions are drawn in their place.

    Returns:
        The anatomy, which a chronic stroke changes, and the lesions.
    """
    drawn = str(rng.choice(list(MIX), p=list(MIX.values())))
    kind = drawn if kind is None else kind
    white = "drawn" if rng.random() < 0.5 else "ms"
    out = Lesions.none(anatomy.wm.shape)
    kinds = {white, "stroke"} if kind == "both" else {kind}
    kinds = {"drawn" if name in KINDS and not getattr(shapes, name) else name for name in kinds}
    if "drawn" in kinds:
        out = make_lesions(rng, anatomy, spacing)
    if "ms" in kinds:
        add_white_matter_lesions(rng, out, anatomy, spacing, shapes)
    if "stroke" in kinds:
        anatomy = add_stroke(rng, out, anatomy, spacing, shapes)
    return anatomy, out


def place_mask(rng: np.random.Generator, file: Path, anatomy: Anatomy, spacing: Sequence[float]) -> Array:
    """Sample a mask where it lies in standard space, after a random mirroring, shift, stretch and smooth warp.

    Args:
        rng: random generator.
        file: binary mask in MNI space.
        anatomy: the head.
        spacing: mm per voxel.

    Returns:
        float32 (X, Y, Z), share of lesion in [0, 1] with soft borders; not yet limited to tissue.
    """
    image = nib.as_closest_canonical(nib.load(file))  # type: ignore[no-untyped-call]
    mask = np.asarray(image.dataobj) > 0
    side = -1.0 if rng.random() < MIRRORED else 1.0
    shift, stretch = rng.normal(0, SHIFT_MM, 3), 1 + rng.normal(0, STRETCH, 3)
    blur = rng.uniform(*SOFTNESS)
    warp = [smooth_noise(rng, anatomy.wm.shape, spacing, *WARP_SCALES, amplitudes=WARP_MM) for _ in range(3)]
    if not mask.any():
        return np.zeros(anatomy.wm.shape, np.float32)
    box = tuple(slice(max(s.start - 3, 0), s.stop + 3) for s in ndimage.find_objects(mask.astype(np.uint8))[0])
    soft = ndimage.gaussian_filter(np.pad(mask[box], 1).astype(np.float32), blur)
    to_voxel = np.linalg.inv(image.affine)
    middle = image.affine[:3, :3] @ np.array([(s.start + s.stop) / 2 for s in box]) + image.affine[:3, 3]
    grid = []
    for axis, (part, size) in enumerate(zip(box, soft.shape)):  # the axes of standard space run along those of voxels
        places = anatomy.mni[axis] * (side if axis == 0 else 1.0) + warp[axis]
        places = (places - shift[axis] - middle[axis]) / stretch[axis] + middle[axis]
        index = places * to_voxel[axis, axis] + to_voxel[axis, 3] - part.start + 1
        grid.append(2 * index / (size - 1) - 1)
    stacked = torch.from_numpy(np.stack(grid[::-1], -1, dtype=np.float32, casting="same_kind"))[None]
    sampled = torch.nn.functional.grid_sample(torch.from_numpy(soft)[None, None], stacked, align_corners=True)
    return sigmoid(SHARPNESS * 2 * (sampled[0, 0].numpy() - 0.5)).astype(np.float32) * (sampled[0, 0].numpy() > 0.05)


def add_white_matter_lesions(
    rng: np.random.Generator, out: Lesions, anatomy: Anatomy, spacing: Sequence[float], shapes: Shapes
) -> None:
    """Paint the lesions of one or two MS patients into `out`, each patient with one brightness that varies smoothly."""
    for file in rng.choice(np.array(shapes.ms, object), 2 if rng.random() < UNITED else 1):
        share = place_mask(rng, file, anatomy, spacing)
        part = share * np.clip(1.3 * (anatomy.wm + rng.uniform(0.1, 0.5) * anatomy.gm), 0, 1)
        noise = 1 + 0.15 * smooth_noise(rng, share.shape, spacing, 12.0)
        bright, hole = rng.uniform(0.6, 1.25) * noise, rng.beta(1.2, 3) * noise
        _merge(out, part, bright, hole)


def add_stroke(
    rng: np.random.Generator, out: Lesions, anatomy: Anatomy, spacing: Sequence[float], shapes: Shapes
) -> Anatomy:
    """Paint one stroke into `out`: acute and bright, or chronic with a cavity of fluid and a bright rim.

    Returns:
        The anatomy. Sulci inside the cavity of a chronic stroke become white matter.
    """
    file = shapes.stroke[int(rng.integers(len(shapes.stroke)))]
    share = place_mask(rng, file, anatomy, spacing)
    tissue = np.clip(1.3 * (anatomy.wm + anatomy.gm), 0, 1)
    inner = 1 + rng.uniform(0.05, 0.3) * smooth_noise(rng, share.shape, spacing, 15.0, 6.0, amplitudes=(1.0, 0.5))
    part = share * tissue
    if rng.random() < CHRONIC:
        depth = _depth(share > 0.5, spacing)
        rough = 0.8 * smooth_noise(rng, share.shape, spacing, 6.0)
        cavity = sigmoid((depth + rough - rng.uniform(0.5, 4.0)) / 0.6).astype(np.float32) * share
        _merge(out, part, rng.uniform(0.5, 1.2) * inner, rng.uniform(0.3, 0.9) * inner)
        np.maximum(out.fluid, cavity * rng.uniform(0.7, 1.0), out=out.fluid)
        np.maximum(out.volume, cavity, out=out.volume)
        sulci = np.clip(anatomy.csf - anatomy.ventricle, 0, 1) * cavity
        return replace(anatomy, csf=anatomy.csf - sulci, wm=anatomy.wm + sulci)
    hole = rng.uniform(0.0, 0.1) if rng.random() < T1_SILENT else rng.uniform(0.15, 0.6)
    _merge(out, part, rng.uniform(0.5, 1.5) * inner, hole * inner)
    if rng.random() < 0.15:  # gyri take up contrast agent
        np.maximum(out.enhancing, part * anatomy.gm * rng.uniform(0.3, 1.0), out=out.enhancing)
    return anatomy


def _merge(out: Lesions, part: Array, bright: Array, hole: Array) -> None:
    """Merge lesions whose brightness varies into the maps by their maximum."""
    for field, value in ((out.volume, part), (out.bright, part * bright), (out.hole, part * np.clip(hole, 0, 1))):
        np.maximum(field, np.maximum(value, 0), out=field)


def _depth(mask: Array, spacing: Sequence[float]) -> Array:
    """Return the distance below the surface of a mask in mm, 0 outside."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    out = np.zeros(mask.shape, np.float32)
    if found:
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in found[0])
        out[box] = ndimage.distance_transform_edt(mask[box], sampling=spacing)
    return out
