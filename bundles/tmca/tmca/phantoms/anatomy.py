"""Outlines of a chest in frontal projection: body, lungs, heart, bones, vessels, without pixels.

Coordinates are (x, y) in halves of the rib cage's greatest width, with the origin between the tops of the lungs, x to
the right of the picture (the patient's left, with the heart's apex) and y downwards. Layout and variants follow
textbook anatomy: rib courses, cardiothoracic ratio, aortic knob, domes of the diaphragm. Ranges were set by comparison
with public X-rays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Array = np.ndarray

HEIGHTS = (1.15, 2.0)  # height of the lungs, from poor to deep inspiration
RIBS = 11
WALL = np.array([(0, 0.40), (0.06, 0.56), (0.14, 0.68), (0.3, 0.81), (0.5, 0.91), (0.75, 0.98), (1, 1.02), (1.5, 0.98)])
"""Inner wall of the rib cage: (y / lung height, |x|)."""


@dataclass(frozen=True)
class Line:
    """A line with a width.

    Attributes:
        points: (N, 2).
        width: in chest coordinates.
        strength: 1 is the strongest.
        round: whether the ends are round.
    """

    points: Array
    width: float
    strength: float = 1.0
    round: bool = False


@dataclass(frozen=True)
class Chest:
    """One person as outlines (N, 2) and lines.

    Attributes:
        height: height of the lungs.
        lungs: on the left and on the right of the picture, including what the heart hides.
        heart: with the great vessels.
        body: trunk with neck, and arms.
        breasts: none or two.
        gas: bubbles in stomach and bowel.
        back_ribs, front_ribs: lines of the ribs.
        shoulders: lines of clavicles, shoulder blades and upper arms.
        vessels: lines of the lung vessels.
    """

    height: float
    lungs: tuple[Array, Array]
    heart: Array
    body: tuple[Array, ...]
    breasts: tuple[Array, ...]
    gas: tuple[Array, ...]
    back_ribs: tuple[Line, ...]
    front_ribs: tuple[Line, ...]
    shoulders: tuple[Line, ...]
    vessels: tuple[Line, ...]


def smooth_curve(corners: Array, closed: bool = True, roundness: float = 1.0) -> Array:
    """Return a smooth curve (80, 2) near `corners` (N, 2); larger `roundness` cuts them more."""
    ring = np.concatenate([corners, corners[:1]]) if closed else corners
    reach = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    places = np.linspace(0, reach[-1], 80, endpoint=not closed)
    points = np.stack([np.interp(places, reach, ring[:, axis]) for axis in (0, 1)], 1)
    return ndimage.gaussian_filter1d(points, 1.6 * roundness, axis=0, mode="wrap" if closed else "nearest")


def _ellipse(x: float, y: float, across: float, down: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], 1)


def _lung(rng: np.random.Generator, side: int, height: float, dome: float) -> Array:
    """Draw the lung of one side (-1 left, 1 right of the picture); `dome` is the height of the diaphragm's dome."""
    wall = WALL[(WALL[:, 0] > 0.1) & (WALL[:, 0] <= 0.75), ::-1]
    tip = rng.uniform(0.97, 1.03)
    base = [
        (1.0, tip),
        (0.82, tip - 0.55 * dome),
        (0.55, tip - dome),
        (0.28, tip - 0.85 * dome),
        (0.12, tip - 0.5 * dome),
    ]
    top = [(0.1, 0.3), (0.14, 0.1), (0.24, 0.02), (0.42, rng.uniform(-0.03, 0.01)), (0.6, 0.05)]
    corners = np.array([*top, *wall, *base], float)
    corners += rng.normal(0, 0.012, corners.shape)
    return smooth_curve(corners * [side, height], roundness=0.6)


def _heart(rng: np.random.Generator, height: float) -> Array:
    """Draw heart, aortic knob and upper mediastinum with a cardiothoracic ratio of 0.42 to 0.66."""
    large = rng.uniform(0, 1)
    right, left = 0.24 + 0.12 * large + rng.normal(0, 0.03), 0.46 + 0.22 * large + rng.normal(0, 0.04)
    neck, knob = rng.uniform(0.13, 0.21), rng.uniform(0.20, 0.33)
    upper = [(-neck, -0.3), (-neck, 0.1), (-neck - 0.01, 0.3)]
    atrium = [(-0.7 * right, 0.48), (-right, 0.68), (-right, 0.84), (-0.7 * right, 0.98), (0, 1.1)]
    ventricle = [(0.8 * left, 1.02), (left, 0.92), (0.93 * left, 0.78), (0.72 * left, 0.6), (0.22, 0.44), (0.2, 0.37)]
    aorta = [(knob, 0.29), (0.9 * knob, 0.22), (neck, 0.16), (neck, -0.3)]
    corners = np.array([*upper, *atrium, *ventricle, *aorta])
    return smooth_curve(corners * [1, height], roundness=0.7)


def _ribs(rng: np.random.Generator, height: float) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Draw `RIBS` pairs of ribs: back parts from the spine outwards, front parts from the flank inwards and down."""
    back, front = [], []
    width, gap, slope = rng.uniform(0.055, 0.08), rng.uniform(0.98, 1.1), rng.uniform(0.10, 0.28)
    slope_front, show_front = rng.uniform(0.3, 0.55), rng.uniform(0.3, 0.9)
    t = np.linspace(0, 1, 14)
    for side in (-1, 1):
        for number in range(RIBS):
            start = (-0.02 + gap * number / (RIBS - 2.2)) * height + rng.normal(0, 0.008)
            fall = slope * (0.5 + number / RIBS)
            end = start + fall
            wall = np.interp(end / height, *WALL.T) + 0.03
            x = 0.1 + (wall - 0.1) * np.sin(t * np.pi / 2) ** 0.9
            y = start - 0.06 * np.sin(np.pi * np.minimum(1.4 * t, 1)) + fall * t**2
            back.append(Line(np.stack([side * x, y], 1), width * (0.8 + 0.3 * (number > 1))))
            if number < 7:
                inner = 0.30 + 0.055 * number
                x = wall + (inner - wall) * t
                y = end + slope_front * t**0.8 + 0.05 * np.sin(np.pi * t)
                front.append(Line(np.stack([side * x, y], 1), 1.25 * width, show_front))
    return tuple(back), tuple(front)


def _shoulders(rng: np.random.Generator, arms_up: bool) -> tuple[Line, ...]:
    """Draw clavicles, edges of the shoulder blades, heads and shafts of the upper arms."""
    lines = []
    lift, tilt = rng.uniform(-0.12, 0.16), rng.normal(0, 0.04)
    for side in (-1, 1):
        inner, outer = np.array([0.14, 0.16 + lift]), np.array([1.12, -0.02 + lift + side * tilt])
        t = np.linspace(0, 1, 14)[:, None]
        bone = inner + (outer - inner) * t + np.concatenate([0 * t, 0.07 * np.sin(2 * np.pi * t)], 1)
        lines.append(Line(bone * [side, 1], rng.uniform(0.075, 0.10), rng.uniform(0.7, 1.0), True))
        away = rng.uniform(0.8, 1.1)
        blade = np.array(
            [(away + 0.25, 0.05), (away, 0.35), (away - 0.02, 0.7), (away + 0.12, 1.0), (away + 0.22, 0.5)]
        )
        lines.append(Line(smooth_curve(blade + [0, lift]) * [side, 1], 0.03, rng.uniform(0.25, 0.7)))
        head = np.array([1.32, 0.14 + lift])
        shaft = head + np.array([0.2, -0.6] if arms_up else [rng.uniform(0.12, 0.3), 1.7])
        lines.append(Line(np.array([head, shaft]) * [side, 1], 0.17, 0.5, True))
        lines.append(Line(np.array([head, head + 0.01]) * [side, 1], 0.30, 0.55, True))
    return tuple(lines)


def _body(rng: np.random.Generator, height: float, arms_up: bool) -> tuple[Array, ...]:
    """Draw the trunk with the neck, and two arms."""
    fat, neck, slope = rng.uniform(0.08, 0.32), rng.uniform(0.3, 0.42), rng.uniform(-0.3, -0.12)
    half = [(neck, -1.5), (neck, -0.45), (0.75, slope), (1.3, slope + 0.12), (1.45, 0.25), (1.12 + fat, 0.6)]
    half += [(1.08 + fat, height), (1.06 + 1.2 * fat, 1.3 * height), (1.05 + 1.4 * fat, 4.0)]
    trunk = np.array([*half, *[(-x, y) for x, y in half[::-1]]])
    parts = [smooth_curve(trunk, roundness=0.5)]
    for side in (-1, 1):
        away, thick = rng.uniform(0.02, 0.35), rng.uniform(0.28, 0.42)
        down = 4.0 if not arms_up else -1.6
        elbow = 1.3 + fat + away
        arm = np.array(
            [(1.1, -0.02), (elbow, down), (elbow + thick, down), (1.5 + thick / 2, 0.1), (1.35, slope + 0.1)]
        )
        parts.append(smooth_curve(arm * [side, 1], roundness=0.5))
    return tuple(parts)


def _vessels(rng: np.random.Generator, height: float) -> tuple[Line, ...]:
    """Draw branches that fan out from each hilum and become thinner; the hila resemble small opacities."""
    lines = []
    for side, root in ((-1, (0.27, 0.5)), (1, (0.3, 0.46))):
        x, y = root + rng.normal(0, 0.02, 2)
        for direction in np.deg2rad(np.linspace(-65, 80, 8) + rng.normal(0, 10, 8)):
            stack = [(np.array([x, y * height]), direction, rng.uniform(0.035, 0.065), 0)]
            while stack:
                place, heading, width, depth = stack.pop()
                length = rng.uniform(0.15, 0.38)
                bend = np.cumsum(rng.normal(0, 0.12, 6)) + heading
                points = place + np.cumsum(length / 6 * np.stack([np.cos(bend), np.sin(bend)], 1), 0)
                lines.append(Line(np.concatenate([place[None], points]) * [side, 1], width, 0.9**depth))
                if depth < 2:
                    for turn in rng.uniform(0.1, 0.5, 2) * [-1, 1]:
                        stack.append((points[-1], bend[-1] + turn, width * rng.uniform(0.55, 0.8), depth + 1))
    return tuple(lines)


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw one person; the same stream gives the same person."""
    height = rng.uniform(*HEIGHTS)
    arms_up = bool(rng.random() < 0.3)
    dome = rng.uniform(0.12, 0.24)
    lungs = _lung(rng, -1, height, dome + rng.uniform(0, 0.05)), _lung(rng, 1, height, dome)
    breasts: tuple[Array, ...] = ()
    if rng.random() < 0.45:
        size, hang = rng.uniform(0.3, 0.48), rng.uniform(0.75, 1.05) * height
        breasts = tuple(
            _ellipse(side * rng.uniform(0.55, 0.68), hang - 0.6 * size + rng.normal(0, 0.03), size, 0.85 * size)
            for side in (-1, 1)
        )
    places = np.concatenate([rng.normal([[0.5, height + 0.12]], 0.05), rng.normal([0.4, height + 0.5], 0.25, (3, 2))])
    sizes = np.concatenate([rng.uniform([[0.12, 0.06]], [[0.28, 0.14]]), rng.uniform(0.06, 0.16, (3, 2))])
    bubbles = [_ellipse(*place, *size) for place, size in zip(places.tolist(), sizes.tolist())]
    back, front = _ribs(rng, height)
    return Chest(
        height=float(height),
        lungs=lungs,
        heart=_heart(rng, height),
        body=_body(rng, height, arms_up),
        breasts=breasts,
        gas=tuple(bubbles[: rng.integers(5)]),
        back_ribs=back,
        front_ribs=front,
        shoulders=_shoulders(rng, arms_up),
        vessels=_vessels(rng, height),
    )
