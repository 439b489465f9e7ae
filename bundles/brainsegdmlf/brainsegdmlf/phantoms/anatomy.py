"""Head anatomy: MNI152 tissue maps, sharpened, randomly deformed and sampled on any grid.

The template is MNI152 2009a symmetric (Fonov 2009, 2011) as shipped with nilearn. A group average is blurred where the
folds differ between people, so the tissue maps are sharpened with the template's own T1 and roughened at random for
each case. Array axes run towards right, anterior and superior; lengths are in mm.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from shared.core.errors import InputError

Array = np.ndarray

TEMPLATE_MARGIN = 10  # mm of air around the template's brain; no deformation reaches further
T1_MEANS = (100.0, 170.0, 222.0)  # CSF, grey, white: measured in the sharpened template
T1_SPREADS = (28.0, 16.0, 14.0)
WARP_SCALES, WARP_AMPLITUDES = (60.0, 22.0, 9.0), np.array([2.5, 1.3, 0.6])  # mm: head shape, lobes, gyri
CHANNELS = ("csf", "gm", "wm", "depth", "ventricle_distance", "cortex_distance", "deep")


@dataclass(frozen=True)
class Template:
    """The anatomy from which heads are drawn: the MNI template, or the label map of one head.

    Attributes:
        volumes: (1, 7, X, Y, Z) at 1 mm, `CHANNELS` divided by `steps`; tissues as the logarithms of their fractions.
        origin: MNI position of the first voxel, mm.
        steps: unit of each channel, float32 (7, 1, 1, 1); None if all are 1.
        matrix: 3 x 3, from mm in MNI space to voxels; None for the identity.
        cortex_thinning: largest thinning of the cortex, added to the logarithm of the white matter's fraction.
        ventricle_growth: largest widening of the ventricles in mm.
        septum: paint the septum between the lateral ventricles.
    """

    volumes: torch.Tensor
    origin: Array
    steps: Array | None = None
    matrix: Array | None = None
    cortex_thinning: float = 1.2  # averaging over people made the cortex too thick
    ventricle_growth: float = 3.5
    septum: bool = True


@dataclass(frozen=True)
class Anatomy:
    """One head on a grid; arrays are float32 (X, Y, Z) unless noted.

    Attributes:
        mni: (3, X, Y, Z), position of each voxel in the template, mm.
        csf, gm, wm: tissue fractions, sum 1.
        ventricle: fraction of ventricle, included in `csf`.
        deep: fraction of deep nuclei, included in `gm`.
        depth: distance below the brain's surface in mm, negative outside.
        ventricle_distance: distance to the nearest ventricle wall in mm, negative inside.
        cortex_distance: distance to cortical grey matter in mm.
    """

    mni: Array
    csf: Array
    gm: Array
    wm: Array
    ventricle: Array
    deep: Array
    depth: Array
    ventricle_distance: Array
    cortex_distance: Array


def signed_distance(mask: Array, step: int = 1) -> Array:
    """Measure the distance to the border of `mask` in voxels, positive outside, on every `step`-th voxel."""
    few = mask[::step, ::step, ::step]
    distance = ndimage.distance_transform_edt(~few) - ndimage.distance_transform_edt(few)
    return ndimage.zoom(step * distance.astype(np.float32), np.divide(mask.shape, few.shape), order=1, grid_mode=False)


def ventricle_distances(mask: Array) -> Array:
    """Measure the signed distance to the ventricles, capped at 24 mm to save time."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(s.start - 24, 0), s.stop + 24) for s in found)
    out = np.full(mask.shape, 24, np.float32)
    out[box] = np.minimum(signed_distance(mask[box]), 24)
    return out


def _ventricles(csf: Array, mni: Array) -> Array:
    """Find the lateral and third ventricles: the largest CSF component in a central box without the cisterns."""
    x, y, z = np.abs(mni[0]), mni[1], mni[2]
    box = (x < 36) & (y > -68) & (y < 42) & (z > -3) & (z < 36) & ~((y < -25) & (x < 9) & (z < 8))
    parts, _ = ndimage.label((csf > 0.5) & box)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def _deep_nuclei(gm: Array, mni: Array) -> Array:
    """Return a soft mask of thalamus, caudate, putamen and pallidum: grey matter inside a central ellipsoid."""
    x, y, z = mni
    inside = (x / 33) ** 2 + ((y + 2) / 31) ** 2 + ((z - 5) / 19) ** 2
    return np.clip(gm * 1.3, 0, 1) / (1 + np.exp(np.clip((inside - 1) * 12, -30, 30)))


@functools.lru_cache(maxsize=1)
def load_template() -> Template:
    """Read nilearn's MNI152 files, sharpen the tissue maps and measure the distances, once per process."""
    package = importlib.util.find_spec("nilearn")  # only its files are needed, so it is not imported
    if package is None or package.origin is None:
        raise InputError("the brain phantoms need the MNI152 files of nilearn: pip install nilearn")
    folder = Path(package.origin).parent / "datasets" / "data"
    images = [nib.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("t1", "gm", "wm")]
    t1, gm, wm = (np.asanyarray(image.dataobj).astype(np.float32) for image in images)  # type: ignore[attr-defined]
    gm, wm = gm / 255, wm / 255
    brain = ndimage.binary_fill_holes(t1 > 0)
    corners = [np.flatnonzero(brain.any(tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    crop = tuple(slice(low, high + 1) for low, high in corners)
    t1, gm, wm, brain = (np.pad(volume[crop], TEMPLATE_MARGIN) for volume in (t1, gm, wm, brain))
    origin = images[0].affine[:3, 3] + [low - TEMPLATE_MARGIN for low, _ in corners]  # type: ignore[attr-defined]
    mni = np.indices(t1.shape, dtype=np.float32) + origin[:, None, None, None].astype(np.float32)

    weight = ndimage.gaussian_filter(brain.astype(np.float32), 2.0) + 1e-3
    sharp = t1 + 1.5 * (t1 - ndimage.gaussian_filter(t1, 2.0) / weight)  # unsharp mask, normalised inside the brain
    prior = np.stack([np.clip(brain - gm - wm, 0, 1), gm, wm])
    log = 1.2 * np.log(prior + 0.02)
    log -= np.stack([(sharp - mean) ** 2 / (2 * spread**2) for mean, spread in zip(T1_MEANS, T1_SPREADS)])
    log -= log.max(0)
    log = np.where(brain, np.clip(log, -8, 0), np.array([0, -8, -8], np.float32)[:, None, None, None])

    fractions = np.exp(log) / np.exp(log).sum(0)
    deep = _deep_nuclei(gm, mni)
    cortex = (fractions[1] > 0.5) & (deep < 0.3)
    channels = [
        *log,
        -signed_distance(brain, step=2),
        ventricle_distances(_ventricles(fractions[0], mni)),
        np.maximum(signed_distance(cortex, step=2), 0),
        deep,
    ]
    volumes = torch.from_numpy(np.stack(channels, dtype=np.float32, casting="same_kind"))[None]
    return Template(volumes.contiguous(memory_format=torch.channels_last_3d), origin)  # one cache line per point


def _upsample(field: Array, shape: Sequence[int]) -> Array:
    """Interpolate `field` trilinearly to `shape`, corners aligned."""
    coarse = torch.from_numpy(field)[None, None]
    return torch.nn.functional.interpolate(coarse, tuple(shape), mode="trilinear", align_corners=True)[0, 0].numpy()


def smooth_noise(
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float] | Array,
    *scales: float,
    amplitudes: Sequence[float] | Array = (1.0,),
) -> Array:
    """Draw a sum of Gaussian random fields with mean about 0.

    Args:
        rng: random generator.
        shape: grid size.
        spacing: mm per voxel.
        scales: correlation lengths in mm, coarse to fine.
        amplitudes: standard deviation of the field of each scale.

    Returns:
        float32 array of `shape`.
    """
    total = np.zeros((1, 1, 1), np.float32)
    for scale, amplitude in zip(scales, amplitudes):
        coarse = [max(4, int(np.ceil(n * d / (scale / 2))) + 2) for n, d in zip(shape, spacing)]
        field = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), 1.0)
        total = _upsample(total, coarse) + field * (amplitude / (field.std() + 1e-6))
    return _upsample(total, shape)


def sigmoid(x: Array) -> Array:
    """Return the logistic function of `x`, which is in units of the transition's width."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _random_pose(rng: np.random.Generator) -> Array:
    """Draw a 3 x 3 matrix from head to template space: small rotation, slight shear, individual proportions."""
    a, b, c = rng.normal(0, np.deg2rad(4), 3)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    shear = np.eye(3) + np.triu(rng.normal(0, 0.02, (3, 3)), 1)
    return rx @ ry @ rz @ shear @ np.diag(rng.uniform(0.97, 1.03, 3))


def _sample(template: Template, mni: Array) -> Array:
    """Sample the template at `mni` (3, X, Y, Z), trilinearly with edge values outside: float32 (7, X, Y, Z)."""
    size = torch.tensor(template.volumes.shape[2:], dtype=torch.float32)
    index = mni - template.origin[:, None, None, None].astype(np.float32)
    if template.matrix is not None:
        index = np.tensordot(template.matrix.astype(np.float32), index, 1)
    grid = (2 * torch.from_numpy(index) / (size - 1)[:, None, None, None] - 1).flip(0).movedim(0, -1)[None]
    volumes = template.volumes.float()
    values = torch.nn.functional.grid_sample(volumes, grid, padding_mode="border", align_corners=True)[0].numpy()
    return values if template.steps is None else values * template.steps


def make_anatomy(
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float],
    matrix: Array,
    template: Template | None = None,
) -> Anatomy:
    """Draw one head: pose, smooth deformation, ventricle size, atrophy and individual folds.

    Args:
        rng: random generator; the same seed gives the same head.
        shape: grid size (X, Y, Z); its centre lies in the middle of the brain.
        spacing: mm per voxel along the three axes.
        matrix: 3 x 3 rotation from grid to head axes, divided by the head's size relative to the template.
        template: of `label_map.load_head`; None for the MNI template.
    """
    template = template or load_template()
    offsets = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * d for n, d in zip(shape, spacing)]
    to_mni = (_random_pose(rng) @ matrix).astype(np.float32)
    centre = np.array([0, -18, 10], np.float32) + rng.normal(0, 1.5, 3).astype(np.float32)
    mni = np.empty((3, *shape), np.float32)
    for axis in range(3):
        x, y, z = (to_mni[axis, k] * offsets[k] for k in range(3))
        mni[axis] = x[:, None, None] + y[None, :, None] + z[None, None, :] + centre[axis]
        mni[axis] += smooth_noise(
            rng, shape, spacing, *WARP_SCALES, amplitudes=WARP_AMPLITUDES * rng.uniform(0.6, 1.3, 3)
        )

    csf, gm, wm, depth, ventricle_distance, cortex_distance, deep = _sample(template, mni)
    csf += rng.uniform(-1.5, 1.2)  # atrophy opens the sulci
    wm += rng.uniform(0.0, template.cortex_thinning)
    for logit in (csf, gm, wm):
        logit += 0.9 * smooth_noise(rng, shape, spacing, 5.0)
    top = np.maximum(np.maximum(csf, gm), wm)
    csf, gm, wm = (np.exp(rng.uniform(1.0, 1.5) * (logit - top)) for logit in (csf, gm, wm))
    ventricle_distance -= (
        rng.beta(1, 2.5) * template.ventricle_growth - 0.3 + 0.4 * smooth_noise(rng, shape, spacing, 15.0)
    )
    x, y, z = mni
    septum = np.exp(-((x / 0.7) ** 2)) * sigmoid((y + 18) / 2) * sigmoid((30 - y) / 2) * sigmoid((z - 7 + y / 4) / 1.5)
    septum = septum if template.septum else np.zeros_like(septum)
    ventricle = sigmoid(-ventricle_distance / 0.35) * (1 - septum)
    total = csf + gm + wm
    gm, wm = (fraction / total * (1 - ventricle) for fraction in (gm, wm))
    wm += septum * sigmoid(-ventricle_distance / 0.35)
    csf = np.clip(1 - gm - wm, 0, 1)
    return Anatomy(mni, csf, gm, wm, ventricle, deep * gm, depth, ventricle_distance, cortex_distance)
