"""The back of an eye around its optic disc: outlines of disc and cup, vessels, and colours of the tissue.

An eye holds shapes and colours but no pixels, so that every camera can photograph it. Coordinates are (x, y) in units
of the disc's vertical radius, with the origin at the disc's centre, x towards the temple (the side of the fovea) and y
upwards. Layout and variants follow textbook descriptions of the optic nerve head (Jonas 1999, Quigley 1990):
cup-to-disc ratio, the ISNT rule of rim width, atrophy zones alpha and beta, vessels that bend at the cup's rim. Ranges
were set by comparison with public photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emclip.phantoms.vessels import REACH, Vessel, grow_vessels

Array = np.ndarray

VERTICAL_RATIOS = (0.2, 0.9)  # vertical cup-to-disc ratio
DISC_ASPECTS = (0.82, 1.03)  # width / height
LARGEST_CUP = 0.97  # largest extent of the cup, relative to the disc's radius in each direction


@dataclass(frozen=True)
class Outline:
    """Closed curve: an ellipse with a wavy radius.

    Attributes:
        centre: (x, y).
        radii: half axes (x, y).
        waves: (n, 2), cosine and sine amplitudes of orders 2, 3, ...
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    waves: Array

    def rho(self, x: Array, y: Array) -> Array:
        """Return the distance from the centre relative to the curve: below 1 inside, 1 on the curve."""
        u, v = (x - self.centre[0]) / self.radii[0], (y - self.centre[1]) / self.radii[1]
        angle = np.arctan2(v, u)
        turn = np.linspace(-np.pi, np.pi, 721)  # interpolating a table is faster than a sine per point
        wavy = sum(a * np.cos(n * turn) + b * np.sin(n * turn) for n, (a, b) in enumerate(self.waves.tolist(), 2))
        return (np.hypot(u, v) / np.interp(angle, turn, 1 + wavy)).astype(np.float32)


@dataclass(frozen=True)
class Look:
    """Colours and details of one eye; colours are RGB reflectances in [0, 1], lengths are in disc radii.

    Attributes:
        retina, rim, cup, beta_tint: mean colours, float32 (3,).
        haemoglobin: absorbance of the thickest vein for red, green and blue, float32 (3,).
        cup_slope: half-width of the transition from rim to cup.
        pallor: radius of the cup relative to its pale part.
        edge: half-width of the disc's border.
        beta: greatest width of the pale atrophy beside the disc.
        alpha: greatest width of the dark atrophy outside `beta`.
        darkness: darkness of `alpha`, in [0, 1].
        atrophy_angle: direction in which both are widest, rad, 0 towards the temple.
        ring: brightness of the scleral ring.
        tessellation: contrast of the choroid.
        fibres: strength of the nerve-fibre sheen.
        reflexes: strength of the bright reflexes of the wet surface.
        bleeding: number of haemorrhages.
        exudates: number of groups of exudates.
    """

    retina: Array
    rim: Array
    cup: Array
    beta_tint: Array
    haemoglobin: Array
    cup_slope: float
    pallor: float
    edge: float
    beta: float
    alpha: float
    darkness: float
    atrophy_angle: float
    ring: float
    tessellation: float
    fibres: float
    reflexes: float
    bleeding: int
    exudates: int


@dataclass(frozen=True)
class Eye:
    """One eye. A point belongs to the cup where `cup_rho` is below 1, to the disc where ``disc.rho`` is below 1.

    Attributes:
        disc, cup: outlines.
        vessels: from thin to thick.
        look: colours and details.
        texture_seed: seed of its random textures.
    """

    disc: Outline
    cup: Outline
    vessels: list[Vessel]
    look: Look
    texture_seed: int

    def cup_rho(self, x: Array, y: Array) -> Array:
        """Return ``cup.rho``, at least 1 outside the disc: some rim is left in every direction."""
        return np.maximum(self.cup.rho(x, y), self.disc.rho(x, y) / LARGEST_CUP)


def _waves(rng: np.random.Generator, size: float, orders: int = 5) -> Array:
    """Draw amplitudes (orders, 2) that decrease with the order."""
    return size * rng.standard_normal((orders, 2)) / np.arange(1, orders + 1)[:, None]


def _outlines(rng: np.random.Generator) -> tuple[Outline, Outline]:
    """Draw disc and cup. Most rims are widest below, then above, then on the nasal, then the temporal side (ISNT)."""
    disc = Outline((0.0, 0.0), (float(rng.uniform(*DISC_ASPECTS)), 1.0), _waves(rng, 0.012))
    low, high = VERTICAL_RATIOS
    ratio = low + (high - low) * rng.beta(2.2, 1.9)
    free = 1 - ratio
    centre = (float(rng.uniform(0.0, 0.45) * free * disc.radii[0]), float(rng.normal(0.08, 0.15) * free))
    across = ratio * disc.radii[0] * rng.uniform(0.9, 1.1)
    cup = Outline(centre, (float(across), float(ratio)), _waves(rng, 0.03))
    return disc, cup


def _look(rng: np.random.Generator) -> Look:
    """Draw the colours of one person: pigment, age of the lens, health of the rim."""
    pigment = rng.beta(2, 2)  # 0: fair and red, 1: dark and brown
    lens = np.array([1.0, rng.uniform(0.88, 1.1), np.exp(rng.normal(-0.3, 0.35))])  # yellows with age
    fair, dark = np.array([0.62, 0.27, 0.110]), np.array([0.36, 0.185, 0.085])
    retina = (fair + pigment * (dark - fair)) * np.exp(rng.normal(0, [0.08, 0.12, 0.15]))
    pale = rng.beta(1.6, 3)  # loss of nerve fibres
    rim = np.array([0.76, 0.36, 0.15]) + pale * np.array([0.06, 0.13, 0.10]) + 0.25 * (retina - retina.mean())
    yellow = np.array([0.92, 0.62, 0.24])
    cup = yellow + rng.beta(1.5, 1.8) * np.array([0.02, 0.14, 0.33])
    cup = rim + rng.uniform(0.4, 1.0) * (cup - rim)
    atrophy = rng.random() < 0.55
    return Look(
        retina=(retina * lens).astype(np.float32),
        rim=(rim * lens * rng.uniform(0.9, 1.08)).astype(np.float32),
        cup=(cup * lens).astype(np.float32),
        beta_tint=((retina + rng.uniform(0.15, 0.6) * (cup * [0.80, 0.85, 1.0] - retina)) * lens).astype(np.float32),
        haemoglobin=(np.array([0.26, 1.0, 0.75]) * rng.uniform(0.8, 1.2) * np.exp(rng.normal(0, 0.08, 3))).astype(
            np.float32
        ),
        cup_slope=float(np.exp(rng.uniform(np.log(0.035), np.log(0.16)))),
        pallor=float(rng.uniform(0.98, 1.2)),
        edge=float(np.exp(rng.uniform(np.log(0.012), np.log(0.05)))),
        beta=float(rng.uniform(0.06, 0.45) if atrophy else 0.0),
        alpha=float(rng.uniform(0.04, 0.3) * (rng.random() < 0.5)),
        darkness=float(rng.uniform(0.25, 0.9)),
        atrophy_angle=float(rng.normal(0, 0.7)),
        ring=float(rng.uniform(0, 0.22) * (rng.random() < 0.6)),
        tessellation=float(rng.beta(0.8, 4.0) * (1.2 - 0.5 * pigment)),
        fibres=float(rng.beta(1.2, 2.5)),
        reflexes=float(rng.uniform(0.3, 1.0) * (rng.random() < 0.3)),
        bleeding=int(rng.integers(1, 4) * (rng.random() < 0.1)),
        exudates=int(rng.integers(1, 3) * (rng.random() < 0.06)),
    )


def draw_eye(rng: np.random.Generator, reach: float = REACH) -> Eye:
    """Draw one eye with vessels to `reach` disc radii; the same stream gives the same eye."""
    shape, tree, look, texture = rng.spawn(4)
    disc, cup = _outlines(shape)
    return Eye(disc, cup, grow_vessels(tree, disc.rho, cup, reach), _look(look), int(texture.integers(2**63)))
