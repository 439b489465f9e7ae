"""Opacities of the lungs, and look-alikes that the report does not name.

An X-ray alone does not show which of two faint shadows is the pneumonia and which an old scar or soft tissue in front
of the lung; the report does. Opacities and look-alikes are therefore drawn by the same process with the same densities
and differ only by the zones that the sentence names. This makes the benefit of the sentence measurable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tmca.phantoms.anatomy import Array
from tmca.phantoms.painting import blur, noise
from tmca.phantoms.sentence import SIDES, SMALLEST_AREA, ZONES, Findings, LungFrame, find_areas

SPREADS = {  # zones of one lung: share of the infected lungs; as in QaTa's sentences, but with fewer lungs of all zones
    ("lower",): 0.30,
    ("upper", "middle", "lower"): 0.22,
    ("middle", "lower"): 0.14,
    ("middle",): 0.09,
    ("upper",): 0.09,
    ("upper", "lower"): 0.08,
    ("upper", "middle"): 0.08,
}
# ranges of the top of a region by its first zone and of the bottom by its last zone, in heights of the lungs
TOPS = {"upper": (-0.02, 0.12), "middle": (0.30, 0.37), "lower": (0.54, 0.68)}
BOTTOMS = {"upper": (0.26, 0.38), "middle": (0.55, 0.63), "lower": (0.88, 1.10)}
BOTH_SIDES = 0.62  # share of the patients
LOOKALIKES = 0.6  # share of the lungs with a look-alike, if they have a free zone
GAP = 0.035  # least distance of a look-alike from an opacity, in heights of the picture


@dataclass(frozen=True)
class Opacities:
    """Shadows in a picture (H, W).

    Attributes:
        density: float32, their attenuation.
        mask: bool, opacities that the sentence names.
        lookalikes: bool, the other shadows.
    """

    density: Array
    mask: Array
    lookalikes: Array


@dataclass(frozen=True)
class _Style:
    """Appearance that the shadows of one picture share; `soft`, `grain` and `waves` (of the border) are in pixels."""

    density: float
    soft: float
    grain: float
    patchy: float
    waves: float


def _runs(zones: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the first and last zone of each group of adjoining zones."""
    if zones == ("upper", "lower"):
        return [("upper", "upper"), ("lower", "lower")]
    return [(zones[0], zones[-1])]


def _width(rng: np.random.Generator, lung: Array, around: Array, rows: Array) -> Array:
    """Draw the horizontal extent of a region: the whole lung, a band along the chest wall, or one around the hilum.

    Args:
        rng: random generator.
        lung: bool (H, W).
        around: (H, W), distance from the spine in pixels.
        rows: (H, W), distance from the region's middle row in pixels.

    Returns:
        (H, W), distance inside the extent in pixels, negative outside.
    """
    kind = rng.random()
    if kind < 0.48:
        return np.full(lung.shape, len(lung), np.float32)
    inner, outer = around[lung].min(), np.where(lung, around, 0).max(1, keepdims=True)
    share = rng.uniform(0.5, 0.9) * (outer.max() - inner)
    slant = rng.uniform(-0.5, 0.5) * rows
    return (around - outer + share if kind < 0.88 else inner + share - around) - slant


def _region(
    rng: np.random.Generator, lung: Array, run: tuple[str, str], frame: LungFrame, waves: float, room: Array | None
) -> Array:
    """Draw one smooth region (H, W) of a lung in the zones of `run` where `room` (H, W) is positive; may be empty."""
    size = len(lung)
    rows, columns = np.indices(lung.shape, np.float32)
    height = (frame.bottom - frame.top) * size
    start, end = (frame.top * size + height * rng.uniform(*limits) for limits in (TOPS[run[0]], BOTTOMS[run[1]]))
    around = np.abs(columns - frame.midline * size)
    above, below = rng.normal(0, 0.25, (2, 1, 1)) * (around - around[lung].mean())  # slanted borders
    upright = np.minimum(rows - start - above, end - rows + below)
    field = np.minimum(upright, _width(rng, lung, around, rows - (start + end) / 2))
    field = blur(field, 0.025 * size) + waves * noise(rng, size, rng.uniform(0.06, 0.16) * size)
    if room is not None:
        field = np.minimum(field, room)
    parts, _ = ndimage.label((field > 0) & lung)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return ndimage.binary_fill_holes((parts == areas.argmax()) & (parts > 0)) & lung


def _shadow(rng: np.random.Generator, region: Array, lung: Array, style: _Style) -> Array:
    """Draw the density of a region (H, W): hazy, cloudy or dense, fading at its border but not at the lung's."""
    soft = style.soft * rng.uniform(0.8, 1.2)
    whole = lung.astype(np.float32)
    part = blur(region.astype(np.float32), soft) / np.maximum(blur(whole, soft), 0.05)
    clouds = noise(rng, len(lung), style.grain) + 0.4 * noise(rng, len(lung), style.grain / 2.5)
    haze = style.density * rng.uniform(0.85, 1.2) * np.clip(1 + style.patchy * clouds, 0.4, 1.8)
    return (haze * np.clip(part, 0, 1) * blur(whole, 1.0)).astype(np.float32)


def _style(rng: np.random.Generator, size: int) -> _Style:
    unit = size / 224
    return _Style(
        density=float(np.exp(rng.uniform(np.log(0.09), np.log(0.30)))),
        soft=rng.uniform(1.5, 5.0) * unit,
        grain=rng.uniform(7, 20) * unit,
        patchy=rng.uniform(0.05, 0.35),
        waves=rng.uniform(3, 8) * unit,
    )


def _draw_spread(rng: np.random.Generator, allowed: set[str]) -> tuple[str, ...]:
    """Draw the zones of one lung from `allowed`; empty if there is no choice."""
    spreads = [zones for zones in SPREADS if allowed.issuperset(zones)]
    if not spreads:
        return ()
    weights = np.array([SPREADS[zones] for zones in spreads])
    return spreads[int(rng.choice(len(spreads), p=weights / weights.sum()))]


def draw_opacities(rng: np.random.Generator, lungs: Array, frame: LungFrame) -> Opacities:
    """Draw the shadows in the lungs of one patient.

    Args:
        rng: random generator.
        lungs: bool (2, H, W), on the left and on the right of the picture.
        frame: position of the lungs.

    Returns:
        At least one opacity. Look-alikes lie in zones that `find_areas` does not find in the mask.
    """
    size = lungs.shape[1]
    style = _style(rng, size)
    smallest = 3 * SMALLEST_AREA * size**2
    density = np.zeros(lungs.shape[1:], np.float32)
    mask, lookalikes = np.zeros((2, *density.shape), bool)
    both = rng.random() < BOTH_SIDES
    sides = (0, 1) if both else (int(rng.integers(2)),)
    while not mask.any():
        for side in sides:
            for run in _runs(_draw_spread(rng, set(ZONES))):
                region = _region(rng, lungs[side], run, frame, style.waves, None)
                if region.sum() >= smallest:
                    density = np.maximum(density, _shadow(rng, region, lungs[side], style))
                    mask |= region
    found: Findings = find_areas(mask, frame)
    room = ndimage.distance_transform_edt(~mask).astype(np.float32) - GAP * size
    for side, name in enumerate(SIDES):
        free = set(ZONES) - set(found.get(name, ()))
        if rng.random() > LOOKALIKES:
            continue
        for run in _runs(_draw_spread(rng, free)) if free else ():
            region = _region(rng, lungs[side], run, frame, style.waves, room)
            if region.sum() >= smallest and free.issuperset(find_areas(region, frame).get(name, ())):
                density = np.maximum(density, _shadow(rng, region, lungs[side], style))
                lookalikes |= region
    return Opacities(density, mask, lookalikes)
