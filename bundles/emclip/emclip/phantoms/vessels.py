"""Retinal vessels: a branching tree that enters inside the cup, bends at its rim and leaves in four arcades.

Coordinates are those of `emclip.phantoms.eye`: disc radii, x towards the temple, y upwards. Calibres, branching angles
and the four arcades follow textbook descriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray

STEP = 0.08  # disc radii between two points of a centre line
REACH = 6.0  # disc radii from the disc's centre, beyond the field of every camera
MAIN_HALF_WIDTH = (0.055, 0.085)  # disc radii, of a vein in an arcade; its artery has 0.65 to 0.85 of it
THINNEST = 0.009  # half-width of the thinnest branch, disc radii
ARCADES = ((78, -9), (-78, 9), (112, 12), (-112, -12))  # heading at the disc in degrees, turn in degrees per radius
PROFILE = ((1.0, 0.5), (0.78, 0.8), (0.5, 1.0))  # of a blood column seen from above: share of the width, absorbance
SUPERSAMPLING = 3


class Curve(Protocol):
    """Interface of the cup's outline."""

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y)."""

    def rho(self, x: Array, y: Array) -> Array:
        """Return the distance from the centre relative to the curve: 1 on the curve."""


@dataclass(frozen=True)
class Vessel:
    """Centre line (N, 2) and half-width (N,) in disc radii; arteries are lighter, with a bright central reflex."""

    points: Array
    half_width: Array
    artery: bool


def _walk(rng: np.random.Generator, start: Array, heading: float, turn: float, length: float, swing: float) -> Array:
    """Draw a centre line (N, 2): `heading` in rad, `turn` in rad per radius, `swing` in rad, fading after the start."""
    s = np.arange(0, length, STEP)
    amplitudes, periods = rng.uniform(0, [[0.25], [0.2]]), rng.uniform([[1.5], [0.5]], [[4.0], [1.0]])  # slow, quick
    wiggle = (amplitudes * np.sin(2 * np.pi * (s / periods + rng.random((2, 1))))).sum(0)
    direction = heading + turn * s + wiggle - wiggle[:1] + swing * np.exp(-s / 0.22)
    moves = STEP * np.stack([np.cos(direction), np.sin(direction)], 1)
    return start + np.cumsum(moves, 0) - moves[:1]


def _grow(
    rng: np.random.Generator,
    out: list[Vessel],
    points: Array,
    half_width: float,
    artery: bool,
    bare: float,
    reach: float,
    depth: int = 0,
) -> None:
    """Add a vessel along `points` and its branches, which start at least `bare` radii from the disc's centre."""
    away = np.hypot(points[:, 0], points[:, 1])
    points = points[: int(np.argmax(away > reach)) or len(points)]
    number = rng.poisson(0.55 * STEP * len(points)) if depth < 3 and len(points) > 8 else 0
    places = np.sort(rng.integers(3, max(len(points) - 3, 4), number))
    places = places[np.hypot(*points[places].T) > bare] if number else places
    share = np.exp(-0.035 * STEP * np.arange(len(points)))
    for place in places:
        child = rng.uniform(0.35, 0.75)
        width = half_width * share[place] * child
        share[place:] *= (1 - child**3) ** (1 / 3)  # Murray's law: the cubes of the widths are conserved
        if width < THINNEST:
            continue
        ahead = points[min(place + 1, len(points) - 1)] - points[place - 1]
        side = rng.choice([-1, 1])
        heading = np.arctan2(ahead[1], ahead[0]) + side * rng.uniform(0.4, 1.1)
        length = rng.uniform(0.6, 1.0) * min(reach, 60 * width)
        line = _walk(rng, points[place], heading, -side * rng.uniform(0.0, 0.25), length, 0.0)
        _grow(rng, out, line, width, artery, bare, reach, depth + 1)
    taper = np.clip((len(points) - np.arange(len(points))) / 12, 0.3, 1) if half_width < 0.03 else 1.0
    out.append(Vessel(points, half_width * share * taper, artery))


def _bend(points: Array, cup: Curve, kink: float, steep: float) -> Array:
    """Shift points outside the cup sideways by `kink` radii and compress the ascent along its wall."""
    rho = cup.rho(points[:, 0], points[:, 1])
    spoke = points - np.array(cup.centre)
    spoke = spoke / (np.linalg.norm(spoke, axis=1, keepdims=True) + 1e-6)
    along = np.stack([-spoke[:, 1], spoke[:, 0]], 1)
    over = 1 / (1 + np.exp(-np.clip((rho - 1) / 0.06, -30, 30)))
    fade = np.exp(-np.maximum(rho - 1, 0) / 1.5)
    wall = np.exp(-(((rho - 0.8) / 0.2) ** 2))
    return points + along * (kink * over * fade)[:, None] + spoke * (steep * wall)[:, None]


def grow_vessels(
    rng: np.random.Generator, disc_rho: Callable[[Array, Array], Array], cup: Curve, reach: float = REACH
) -> list[Vessel]:
    """Draw the vessels of one eye to `reach` disc radii, thin ones first, which is the order of painting."""
    vessels: list[Vessel] = []
    trunk = np.array([-rng.uniform(0.02, 0.4), rng.normal(0, 0.06)])  # on the nasal side of the centre
    bulk = rng.uniform(*MAIN_HALF_WIDTH)
    shift = rng.normal(0, 6)

    def start(heading: float, width: float, artery: bool, turn: float, swing: float, length: float = 2 * reach) -> None:
        root = trunk + rng.normal(0, [0.06, 0.1])
        line = _bend(_walk(rng, root, heading, turn, length, swing), cup, rng.normal(0, 0.07), rng.uniform(-0.02, 0.1))
        _grow(rng, vessels, line, width, artery, 0.8 if width > 0.03 else 1.1, reach)

    for degrees, turn in ARCADES:
        for artery in (False, True):
            width = bulk * rng.uniform(0.8, 1.1) * (rng.uniform(0.65, 0.85) if artery else 1.0)
            width *= 1.0 if abs(degrees) < 90 else rng.uniform(0.6, 0.85)  # nasal arcades are thinner
            heading = np.deg2rad(degrees + shift + rng.normal(0, 10))
            start(heading, width, artery, np.deg2rad(turn + rng.normal(0, 5)), rng.normal(0, 1.2))
    for _ in range(rng.integers(3, 8)):  # small ones, straight to the macula and to the nasal side
        side = 0.0 if rng.random() < 0.55 else np.pi
        start(side + rng.normal(0, 0.5), rng.uniform(0.012, 0.026), rng.random() < 0.5, rng.normal(0, 0.1), 0.0, 4.0)
    return sorted(vessels, key=lambda vessel: float(vessel.half_width.max()))


def _reach(line: Array, half_width: Array) -> Array:
    """Return vectors (N, 2) of length `half_width` at right angles to the centre line `line`."""
    ahead = np.empty_like(line)
    ahead[1:-1], ahead[0], ahead[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    return ahead[:, ::-1] * [-1, 1] * (half_width / (np.hypot(*ahead.T) + 1e-9))[:, None]


def _corners(line: Array, reach: Array) -> list[float]:
    """Return the corners (x, y, x, y, ...) of the strip that extends by `reach` on both sides of `line`."""
    return np.concatenate([line + reach, (line - reach)[::-1]]).ravel().tolist()


def paint_vessels(vessels: Sequence[Vessel], matrix: Array, size: int) -> tuple[Array, Array]:
    """Paint the blood and the central reflexes of `vessels` in a square picture.

    Args:
        vessels: in the order of painting.
        matrix: (2, 3), eye coordinates to pixels (column, row).
        size: side in pixels.

    Returns:
        Absorbance relative to the thickest vein, and brightness of the arteries' central reflex; both float32
        (size, size) in [0, 1].
    """
    factor = SUPERSAMPLING
    fine = matrix * factor
    fine[:, 2] += (factor - 1) / 2
    scale = float(np.sqrt(abs(np.linalg.det(fine[:, :2]))))
    blood, reflex = (Image.new("L", (size * factor, size * factor)) for _ in range(2))
    blood_pen, reflex_pen = ImageDraw.Draw(blood), ImageDraw.Draw(reflex)
    for vessel in vessels:
        if len(vessel.points) < 2:
            continue
        depth = float(np.clip((vessel.half_width.max() / 0.06) ** 0.5, 0.3, 1.0)) * (0.8 if vessel.artery else 1.0)
        line = vessel.points @ fine[:, :2].T + fine[:, 2]
        reach = _reach(line, vessel.half_width * scale)
        for share, strength in PROFILE:
            blood_pen.polygon(_corners(line, share * reach), fill=round(255 * depth * strength))
        if vessel.half_width.max() > 0.025:
            reflex_pen.polygon(_corners(line, reach), fill=0)
            reflex_pen.polygon(_corners(line, 0.28 * reach), fill=255 if vessel.artery else 80)
    return tuple(np.asarray(layer.reduce(factor), np.float32) / 255 for layer in (blood, reflex))  # type: ignore[return-value]
