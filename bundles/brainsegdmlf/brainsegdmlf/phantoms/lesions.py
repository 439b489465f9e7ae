"""White-matter lesions as MR readers describe them, painted as partial volumes.

Places and shapes follow descriptions of multiple sclerosis and small-vessel disease (Filippi 2019, Wardlaw 2013):
periventricular and at right angles to the ventricle, deep, juxtacortical, infratentorial, sometimes confluent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainsegdmlf.phantoms.anatomy import Anatomy, Array, sigmoid, smooth_noise

PLACES = ("periventricular", "deep", "juxtacortical", "infratentorial")
PLACE_WEIGHTS = (0.45, 0.28, 0.19, 0.08)
MEDIAN_NUMBER, NUMBER_SPREAD, NUMBERS = 24.0, 0.8, (4, 90)  # per case: log-normal, clipped
MEDIAN_RADIUS, RADIUS_SPREAD, RADII = 3.8, 0.4, (2.0, 10.0)  # mm, log-normal, clipped: most are 5 to 11 mm wide
BORDER = (0.35, 0.9)  # mm, half-width of the transition at a lesion's edge


@dataclass(frozen=True)
class Lesions:
    """The lesions of one head as fractions of each voxel; float32 (X, Y, Z).

    Attributes:
        volume: lesion, in [0, 1].
        bright: `volume` times the brightness of the lesion in FLAIR and T2.
        hole: lesion with loss of tissue, dark in T1.
        fluid: lesion that turned to fluid, dark in T1 and in FLAIR.
        enhancing: lesion that takes up contrast agent.
    """

    volume: Array
    bright: Array
    hole: Array
    fluid: Array
    enhancing: Array

    @classmethod
    def none(cls, shape: Sequence[int]) -> Lesions:
        """Return the maps of a healthy head on a grid of `shape`."""
        return cls(*(np.zeros(shape, np.float32) for _ in range(5)))

    def add(self, where: tuple[slice, ...], part: Array, bright: float, hole: float) -> None:
        """Merge one lesion (partial volume `part` in the box `where`) into the maps by their maximum."""
        for field, value in ((self.volume, part), (self.bright, bright * part), (self.hole, hole * part)):
            np.maximum(field[where], value, out=field[where])


def _candidates(anatomy: Anatomy) -> dict[str, Array]:
    """Return the flat indices of the voxels where a lesion of each place may have its centre."""
    x, y, z = anatomy.mni
    white, vent, cortex = anatomy.wm > 0.7, anatomy.ventricle_distance, anatomy.cortex_distance
    cerebrum = white & (z > -12) & (anatomy.depth > 3) & ~((np.abs(x) < 14) & (z < 0))
    masks = {
        "periventricular": cerebrum & (vent > 0.5) & (vent < 6) & (np.abs(x) > 5),
        "deep": cerebrum & (vent > 7) & (cortex > 3.5),
        "juxtacortical": cerebrum & (vent > 12) & (cortex > 0.5) & (cortex < 3),
        "infratentorial": white & (z < -14) & (y < -16) & (np.abs(x) < 40) & (anatomy.depth > 4),
    }
    return {place: np.flatnonzero(mask) for place, mask in masks.items()}


def _direction_from_ventricle(anatomy: Anatomy, centre: Sequence[int], spacing: Array) -> Array:
    """Return the unit vector at voxel `centre` that points away from the ventricles."""
    field = anatomy.ventricle_distance
    steps = []
    for axis in range(3):
        low, high = list(centre), list(centre)
        low[axis], high[axis] = max(centre[axis] - 2, 0), min(centre[axis] + 2, field.shape[axis] - 1)
        steps.append((field[tuple(high)] - field[tuple(low)]) / ((high[axis] - low[axis]) * spacing[axis]))
    vector = np.array(steps) + 1e-3
    return vector / np.linalg.norm(vector)


def _add_ellipsoid(
    rng: np.random.Generator, out: Lesions, anatomy: Anatomy, noise: Array, spacing: Array, place: str, index: int
) -> None:
    """Paint one rough ellipsoid at flat voxel `index`, limited to white matter and adjoining cortex."""
    shape = anatomy.wm.shape
    centre = [int(i) for i in np.unravel_index(index, shape)]
    radius = float(np.clip(rng.lognormal(np.log(MEDIAN_RADIUS), RADIUS_SPREAD), *RADII))
    axes = radius * rng.uniform(0.75, 1.3, 3)
    frame, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    if place == "periventricular":
        frame[:, 0] = _direction_from_ventricle(anatomy, centre, spacing)
        frame, _ = np.linalg.qr(frame)
        axes[0] *= rng.uniform(1.0, 1.9)
    reach = np.ceil((axes.max() * 1.5 + 2) / spacing).astype(int)
    where = tuple(slice(max(c - r, 0), min(c + r + 1, n)) for c, r, n in zip(centre, reach, shape))
    offsets = np.meshgrid(
        *((np.arange(s.start, s.stop) - c) * d for s, c, d in zip(where, centre, spacing)), indexing="ij"
    )
    local = np.tensordot(frame.T / axes[:, None], np.stack(offsets), 1)
    inside = 1 - np.sqrt((local**2).sum(0)) + rng.uniform(0.1, 0.3) * noise[where]
    tissue = anatomy.wm[where] + (0.8 if place == "juxtacortical" else 0.35) * anatomy.gm[where]
    part = sigmoid(inside * radius / rng.uniform(*BORDER)) * np.clip(tissue * 1.3, 0, 1)
    out.add(where, part.astype(np.float32), float(rng.uniform(0.8, 1.25)), float(rng.beta(1.2, 4)))
    kind = rng.random()
    if kind < 0.05 and radius > 2.5:  # a centre that turned to fluid
        core = sigmoid((inside - rng.uniform(0.45, 0.6)) * radius / 0.5).astype(np.float32) * part
        np.maximum(out.fluid[where], core, out=out.fluid[where])
    elif kind < 0.15:  # an active lesion: full or ring enhancement
        ring = np.abs(inside - 0.25) if rng.random() < 0.5 else -inside
        glow = sigmoid((0.18 - ring) * radius / 0.5).astype(np.float32) * part
        np.maximum(out.enhancing[where], glow, out=out.enhancing[where])


def _add_confluent(rng: np.random.Generator, out: Lesions, anatomy: Anatomy, spacing: Array) -> None:
    """Paint a patchy band along the ventricles whose width follows smooth noise."""
    shape = anatomy.wm.shape
    width = rng.uniform(2, 7) * (smooth_noise(rng, shape, spacing, 18.0) - rng.uniform(0.1, 0.9))
    rough = 0.7 * smooth_noise(rng, shape, spacing, 4.0)
    band = sigmoid((width + rough - anatomy.ventricle_distance) / 0.7) * (anatomy.mni[2] > -8)
    part = (band * (anatomy.ventricle_distance > -1) * (width > 0.8) * np.clip(anatomy.wm * 1.2, 0, 1)).astype(
        np.float32
    )
    out.add((slice(None),) * 3, part, float(rng.uniform(0.7, 1.1)), float(rng.uniform(0, 0.4)))


def _add_large(rng: np.random.Generator, out: Lesions, anatomy: Anatomy, spacing: Array) -> None:
    """Paint one oedema-like lesion of several cm that follows the white matter, often with an enhancing rim."""
    shape = anatomy.wm.shape
    centre = rng.choice(np.flatnonzero((anatomy.wm > 0.8) & (anatomy.mni[2] > 0) & (anatomy.depth > 12)))
    middle = anatomy.mni.reshape(3, -1)[:, centre]
    distance = np.sqrt(((anatomy.mni - middle[:, None, None, None]) ** 2).sum(0))
    radius = rng.uniform(12, 26)
    rough = 0.22 * smooth_noise(rng, shape, spacing, 16.0) + 0.06 * smooth_noise(rng, shape, spacing, 5.0)
    inside = 1 - distance / radius + rough
    tissue = np.clip(anatomy.wm * 1.2 + anatomy.gm * rng.uniform(0.1, 0.8), 0, 1)
    part = (sigmoid(inside * radius / 1.2) * tissue).astype(np.float32)
    out.add((slice(None),) * 3, part, float(rng.uniform(0.7, 1.2)), float(rng.uniform(0.2, 0.7)))
    if rng.random() < 0.6:
        core = sigmoid((inside - rng.uniform(0.45, 0.65)) * radius / 0.8) * tissue
        rim = np.exp(-(((inside - rng.uniform(0.5, 0.65)) / 0.08) ** 2)) * tissue
        np.maximum(out.fluid, 0.8 * core.astype(np.float32), out=out.fluid)
        np.maximum(out.enhancing, rim.astype(np.float32), out=out.enhancing)


def make_lesions(rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float]) -> Lesions:
    """Draw the lesions of one case, from a few dots to a heavy load, on the grid of `anatomy` (`spacing` in mm)."""
    mm = np.asarray(spacing, float)
    out = Lesions.none(anatomy.wm.shape)
    number = int(np.clip(rng.lognormal(np.log(MEDIAN_NUMBER), NUMBER_SPREAD), *NUMBERS))
    candidates = _candidates(anatomy)
    noise = smooth_noise(rng, anatomy.wm.shape, spacing, 4.0)
    for place in rng.choice(PLACES, number, p=PLACE_WEIGHTS):
        if len(candidates[place]):
            _add_ellipsoid(rng, out, anatomy, noise, mm, place, int(rng.choice(candidates[place])))
    if number > MEDIAN_NUMBER and rng.random() < 0.75:
        _add_confluent(rng, out, anatomy, mm)
    if rng.random() < 0.15:
        _add_large(rng, out, anatomy, mm)
    return out
