"""The back of a made eye round its optic disc: outlines of disc and cup, the vessels, and how the tissue looks.

An eye is drawn once and holds no pixels, so any camera can look at it. Coordinates are (x, y) in units of the disc's
vertical radius, origin at the disc's centre, x towards the temple (the fovea's side), y upwards. Layout and variants
follow textbook descriptions of the optic nerve head (Jonas 1999, Quigley 1990): cup-to-disc ratio, the ISNT rule of rim
width, atrophy zones alpha and beta, vessels that bend at the cup's rim. Numbers and ranges are our choice, set beside
public photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emclip.phantoms.vessels import Vessel, grow_vessels

Array = np.ndarray

VERTICAL_RATIOS = (0.2, 0.9)  # vertical cup-to-disc ratio
DISC_ASPECTS = (0.82, 1.03)  # width / height
RIM_LEFT = 0.97  # the cup ends here at the latest, as a fraction of the disc's radius in that direction


@dataclass(frozen=True)
class Outline:
    """Closed curve round `centre`: an ellipse of half axes `radii` (x, y) with wavy radius.

    waves: (n, 2) cosine and sine amplitudes of orders 2, 3, ...
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    waves: Array

    def rho(self, x: Array, y: Array) -> Array:
        """Distance from the centre relative to the curve's in that direction: below 1 inside, 1 on the curve."""
        u, v = (x - self.centre[0]) / self.radii[0], (y - self.centre[1]) / self.radii[1]
        angle = np.arctan2(v, u)
        turn = np.linspace(-np.pi, np.pi, 721)  # a table of the radius: quicker than sines of every point
        wavy = sum(a * np.cos(n * turn) + b * np.sin(n * turn) for n, (a, b) in enumerate(self.waves.tolist(), 2))
        return (np.hypot(u, v) / np.interp(angle, turn, 1 + wavy)).astype(np.float32)


@dataclass(frozen=True)
class Look:
    """Colours and extras of one eye; colours are RGB reflectances in [0, 1], lengths in disc radii.

    retina, rim, cup, beta_tint: mean colours, float32; haemoglobin: absorbance of the thickest vein for R, G, B.
    cup_slope: half-width of the transition from rim to cup; pallor: cup radius / radius of its pale part.
    edge: half-width of the disc's border; ring: brightness of the scleral ring.
    beta, alpha: widest pale and dark atrophy beside the disc, alpha outside beta; darkness: of alpha, in [0, 1];
    atrophy_angle: where they are widest (rad, 0 = towards the temple).
    tessellation: contrast of the choroid; fibres: strength of the nerve-fibre sheen; reflexes: of bright wet reflexes.
    bleeding, exudates: numbers of haemorrhages and of groups of exudates.
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
    """Disc and cup outlines, vessels from thin to thick, the look, and the seed of its random textures.

    A point belongs to the cup where `cup_rho` is below 1, to the disc where ``disc.rho`` is.
    """

    disc: Outline
    cup: Outline
    vessels: list[Vessel]
    look: Look
    texture_seed: int

    def cup_rho(self, x: Array, y: Array) -> Array:
        """As ``cup.rho``, but never below 1 outside the disc: the rim may be thin, it never vanishes."""
        return np.maximum(self.cup.rho(x, y), self.disc.rho(x, y) / RIM_LEFT)


def _waves(rng: np.random.Generator, size: float, orders: int = 5) -> Array:
    """Random (orders, 2) amplitudes that fall with the order."""
    return size * rng.standard_normal((orders, 2)) / np.arange(1, orders + 1)[:, None]


def _outlines(rng: np.random.Generator) -> tuple[Outline, Outline]:
    """Disc and cup; the rim is widest below, then above, on the nose's side, the temple's (ISNT), with exceptions."""
    disc = Outline((0.0, 0.0), (float(rng.uniform(*DISC_ASPECTS)), 1.0), _waves(rng, 0.012))
    low, high = VERTICAL_RATIOS
    ratio = low + (high - low) * rng.beta(2.2, 1.9)
    free = 1 - ratio
    centre = (float(rng.uniform(0.0, 0.45) * free * disc.radii[0]), float(rng.normal(0.08, 0.15) * free))
    across = ratio * disc.radii[0] * rng.uniform(0.9, 1.1)
    cup = Outline(centre, (float(across), float(ratio)), _waves(rng, 0.03))
    return disc, cup


def _look(rng: np.random.Generator) -> Look:
    """Colours of one person: pigment, age of the lens, health of the rim."""
    pigment = rng.beta(2, 2)  # 0 fair and red, 1 dark and brown
    lens = np.array([1.0, rng.uniform(0.88, 1.1), np.exp(rng.normal(-0.3, 0.35))])  # it yellows with age
    fair, dark = np.array([0.62, 0.27, 0.110]), np.array([0.36, 0.185, 0.085])
    retina = (fair + pigment * (dark - fair)) * np.exp(rng.normal(0, [0.08, 0.12, 0.15]))
    pale = rng.beta(1.6, 3)  # a rim that lost nerve fibres
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


def draw_eye(rng: np.random.Generator) -> Eye:
    """Draw one eye; the same stream gives the same eye."""
    shape, tree, look, texture = rng.spawn(4)
    disc, cup = _outlines(shape)
    return Eye(disc, cup, grow_vessels(tree, disc.rho, cup), _look(look), int(texture.integers(2**63)))
