"""MR sequences of a head: tissue contrast, look-alikes of lesions, scanner effects.

Intensities are relative to healthy white matter (1). The tissues of each sequence are in their physical order; their
values are drawn from wide ranges (domain randomisation as in SynthSeg, Billot 2023, within one sequence's contrast), so
that z-scored contrast and noise cover those of public MR.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from brainsegdmlf.phantoms import artefacts
from brainsegdmlf.phantoms.anatomy import Anatomy, Array, sigmoid, smooth_noise
from brainsegdmlf.phantoms.lesions import Lesions

SEQUENCES = ("flair", "t1", "t1ce", "t2")
# (low, high) of: CSF, grey matter, deep nuclei relative to grey matter, lesion minus white matter
MEANS = {
    "flair": ((0.10, 0.50), (1.05, 1.30), (0.85, 1.00), (0.55, 0.95)),
    "t1": ((0.20, 0.45), (0.68, 0.86), (1.02, 1.18), (-0.30, -0.06)),
    "t1ce": ((0.22, 0.50), (0.74, 0.90), (1.02, 1.15), (-0.28, -0.05)),
    "t2": ((2.40, 4.00), (1.20, 1.60), (0.80, 1.00), (0.60, 1.30)),
}
WIDE_SHARE = 0.25  # share of the rough images whose tissues follow `WIDE`
WIDE = {  # as `MEANS`, with wider ranges than real sequences have; only the sign of a lesion's contrast is kept
    "flair": ((0.05, 0.90), (0.85, 1.40), (0.75, 1.00), (0.40, 1.20)),
    "t1": ((0.05, 0.80), (0.50, 1.05), (0.90, 1.40), (-0.50, -0.05)),
    "t1ce": ((0.05, 0.80), (0.50, 1.05), (0.90, 1.40), (-0.50, -0.05)),
    "t2": ((1.50, 5.00), (0.90, 1.90), (0.60, 1.00), (0.40, 1.80)),
}
NOISE = {"flair": (0.015, 0.06), "t1": (0.008, 0.05), "t1ce": (0.008, 0.05), "t2": (0.02, 0.08)}  # standard deviation
TEXTURE = (0.015, 0.02)  # patchiness of tissue at 12 and at 4 mm
CAPS, PLEXUS = (0.5, 0.6), (0.9, 1.2)  # greatest brightness in FLAIR: usual, hard cases
HORN_TIPS = ((20, 34, 4), (-20, 34, 4), (27, -62, 8), (-27, -62, 8))  # mm MNI: places of the caps
CORTICOSPINAL = ((9, -20, -24), (15, -17, -10), (24, -17, 6), (26, -21, 26), (24, -25, 44))  # mm MNI, right side
CHOROID = ((21, -38, 10), (-21, -38, 10), (12, -24, 17), (-12, -24, 17), (0, -10, 10))  # mm MNI, in the ventricles


def _blob(mni: Array, centre: Sequence[float], radius: float) -> Array:
    """Return a Gaussian of height 1 around `centre` (mm MNI) with standard deviation `radius` mm."""
    squared = sum((mni[axis] - centre[axis]) ** 2 for axis in range(3))
    return np.exp(-squared / (2 * radius**2))


def _tubes(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], scale: float, width: float
) -> Array:
    """Draw a random network of thin curves: the places where two smooth fields are zero."""
    one, two = (smooth_noise(rng, shape, spacing, scale) for _ in range(2))
    return np.exp(-(one**2 + two**2) / (2 * width**2))


def flair_lookalikes(rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float], hard: bool) -> Array:
    """Draw healthy structures that are bright in FLAIR, in units of lesion contrast: rims, caps, tracts, haze."""
    mni, shape = anatomy.mni, anatomy.wm.shape
    vent = np.maximum(anatomy.ventricle_distance, 0)
    rim = rng.uniform(0, 0.5) * np.exp(-vent / rng.uniform(0.5, 1.1))
    caps = sum(_blob(mni, tip, rng.uniform(3, 7) if hard else 6.0) * rng.uniform(0, CAPS[hard]) for tip in HORN_TIPS)
    caps = caps * np.exp(-vent / 2.5)
    right = mni.copy()
    right[0] = np.abs(right[0])
    tract = np.max([_blob(right, point, 4.5) for point in CORTICOSPINAL], axis=0) * rng.uniform(0, 0.3)
    haze = np.clip(smooth_noise(rng, shape, spacing, 25.0), 0, 2) * np.exp(-vent / 12) * rng.uniform(0, 0.3)
    cortex = np.clip(smooth_noise(rng, shape, spacing, 18.0), 0, 2) * anatomy.gm * rng.uniform(0, 0.4)
    insula = (_blob(right, (39, 2, 0), 14.0) + _blob(right, (5, 20, 30), 14.0)) * anatomy.gm * rng.uniform(0, 0.4)
    return (rim + caps + tract + haze) * anatomy.wm + cortex + insula


def shared_details(rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float]) -> dict[str, Array]:
    """Draw the structures that several sequences show, once per case so that the sequences agree."""
    mni, shape = anatomy.mni, anatomy.wm.shape
    sulci = anatomy.csf - anatomy.ventricle
    plexus = sum(_blob(mni, centre, rng.uniform(2.5, 5)) for centre in CHOROID) * anatomy.ventricle
    sinus = np.exp(-((mni[0] / 2.5) ** 2)) * sigmoid(-(anatomy.depth - 4)) * ((mni[1] < 20) & (mni[2] > -5))
    spaces = _tubes(rng, shape, spacing, 6.0, 0.22) * (smooth_noise(rng, shape, spacing, 25.0) > rng.uniform(0.3, 2.0))
    return {
        "plexus": np.clip(plexus * (1 + 0.5 * smooth_noise(rng, shape, spacing, 3.0)), 0, 1),
        "vessels": np.clip(_tubes(rng, shape, spacing, 9.0, 0.2) * sulci * 1.5 + sinus, 0, 1),
        "flow": np.clip(smooth_noise(rng, shape, spacing, 10.0) - 0.7, 0, 1.5) * anatomy.csf,
        "meninges": np.clip(smooth_noise(rng, shape, spacing, 14.0) - 0.5, 0, 1)
        * sigmoid(-(anatomy.depth + 0.3) / 0.4),
        "spaces": 0.8 * spaces * (anatomy.wm + anatomy.deep) * (anatomy.cortex_distance > 2),  # Virchow-Robin
    }


def contrast_of(
    name: str,
    rng: np.random.Generator,
    anatomy: Anatomy,
    lesions: Lesions,
    details: dict[str, Array],
    bright: Array,
    hard: bool,
    rough: bool = False,
) -> Array:
    """Return the noise-free image of one sequence; `bright` holds the look-alikes in units of lesion contrast."""
    means = WIDE if rough and rng.random() < WIDE_SHARE else MEANS
    fluid, grey, deep, contrast = (rng.uniform(*limits) for limits in means[name])
    image = anatomy.wm + grey * (1 + (deep - 1) * anatomy.deep) * anatomy.gm + fluid * anatomy.csf
    image += details["spaces"] * (fluid - 1)
    if name in ("flair", "t2"):
        shown = lesions.bright * (1 if name == "flair" else rng.uniform(0.7, 1.2))
        image += contrast * (shown + (bright if name == "flair" else 0.4 * bright) * (1 - lesions.volume))
        if name == "t2":
            image += lesions.hole * rng.uniform(0.1, 0.5)
    else:
        image += contrast * lesions.volume + lesions.hole * rng.uniform(0.3, 0.9) * (fluid - 1)
    image += lesions.fluid * (fluid - image) * rng.uniform(0.6, 1.0)
    if name == "flair":
        image += details["flow"] * rng.uniform(0, 0.6) + details["plexus"] * rng.uniform(0.2, PLEXUS[hard])
        image += details["meninges"] * rng.uniform(0, 0.8)
    if name == "t1ce":
        image += (details["vessels"] + 0.7 * details["plexus"]) * rng.uniform(0.4, 1.4)
        image += lesions.enhancing * rng.uniform(0.3, 0.9) + details["meninges"] * rng.uniform(0, 0.8)
    if name == "t2":
        image -= details["vessels"] * rng.uniform(0, 0.6) * anatomy.csf * fluid + 0.4 * details["plexus"] * fluid
    return image


def _degrade(
    rng: np.random.Generator, image: Array, spacing: Sequence[float], noise_range: tuple[float, float]
) -> Array:
    """Add the effects of scanner and resampling: texture, blur, thick slices, bias field, shift, noise, gamma."""
    shape = image.shape
    image = image * (1 + rng.uniform(0.3, 1.2) * smooth_noise(rng, shape, spacing, 12.0, 4.0, amplitudes=TEXTURE))
    blur = rng.uniform(0.15, 0.6)  # mm, in addition to the partial volume of the maps
    thick = rng.uniform(0.0, 1.3) if spacing[2] < 2 and rng.random() < 0.6 else 0.0  # mm, thicker than the grid
    image = ndimage.gaussian_filter(image, [blur / d for d in spacing[:2]] + [thick / spacing[2]], truncate=3)
    image *= np.exp(rng.uniform(0.01, 0.08) * smooth_noise(rng, shape, spacing, 90.0))
    for axis in range(2):  # registration leaves errors of a fraction of a voxel
        part = rng.uniform(0, 0.5)
        image = (1 - part) * image + part * np.roll(image, rng.choice([-1, 1]), axis)
    level, grain = rng.uniform(*noise_range), rng.uniform(0.3, 0.8)
    noise = rng.standard_normal((2, *shape), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0, grain, grain, grain if spacing[2] < 2 else 0), truncate=2)
    noise *= level / noise.std()
    image = np.hypot(image + noise[0], noise[1])
    return np.power(image, rng.uniform(0.85, 1.2))


def make_sequences(
    rng: np.random.Generator,
    anatomy: Anatomy,
    lesions: Lesions,
    spacing: Sequence[float],
    names: Sequence[str],
    hard: bool = False,
    rough: bool = False,
) -> dict[str, Array]:
    """Return the images of the named sequences on the grid of `anatomy`.

    Each sequence has its own random stream, so that leaving one out does not change the others.

    Args:
        rng: random generator.
        anatomy: the head.
        lesions: its lesions, on the same grid.
        spacing: mm per voxel.
        names: of `SEQUENCES`.
        hard: brighter look-alikes.
        rough: by chance unusual contrasts, and the effects of `artefacts.spoil`.

    Returns:
        float32 (X, Y, Z) per name; white matter is about 1.
    """
    streams = dict(zip(SEQUENCES, rng.spawn(len(SEQUENCES))))
    details = shared_details(rng, anatomy, spacing)
    bright = flair_lookalikes(rng, anatomy, spacing, hard)
    images = {}
    for name in names:
        clean = contrast_of(name, streams[name], anatomy, lesions, details, bright, hard, rough).astype(np.float32)
        if rough:
            clean = artefacts.spoil(streams[name], clean, spacing)
        images[name] = _degrade(streams[name], clean, spacing, NOISE[name]).astype(np.float32)
    return images
