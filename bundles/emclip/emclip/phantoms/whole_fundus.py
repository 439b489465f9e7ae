"""Whole fundus photographs: disc, arcades and macula in a round field of 30 to 60 degrees, for finding the disc.

Not clinical data. The eye and its colours are those of the other phantoms; this module adds the macula, lesions that
are as bright as a disc, and what the camera adds to a whole picture: field stop, dark rim, reflections and text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from emclip.phantoms.appearance import BLOOD, EXUDATE, blend, reflectance, sigmoid, texture
from emclip.phantoms.cameras import CAMERA_A, CAMERA_B, CAMERA_C, CAMERA_D, photograph
from emclip.phantoms.eye import Array, Eye, draw_eye
from emclip.phantoms.vessels import paint_vessels

CAMERAS = (CAMERA_A, CAMERA_B, CAMERA_C, CAMERA_D)
RADIUS = 3.1  # degrees of the field per disc radius
FIELDS = (30.0, 60.0)  # degrees from edge to edge
SIZE_SPREAD = 0.12  # standard deviation of a disc's size, relative
FOVEA = (4.9, -0.5)  # disc radii from the disc's centre
REACH = 16.0  # disc radii from the disc to the far edge of the largest field
COTTON = np.array([0.85, 0.72, 0.5], np.float32)  # colour of a cotton-wool spot, and of a pale scar
PIGMENT = np.array([0.12, 0.06, 0.04], np.float32)
WORDS = ("OD", "OS", "R", "L", "50", "45 deg", "ID 0042", "2019-04-11", "TRC")


@dataclass(frozen=True)
class WholeFundus:
    """One whole photograph.

    Attributes:
        image: uint8 (H, W, 3), red, green, blue.
        disc: bool (H, W), the optic disc where the field shows it.
        centre: row and column of the disc's centre, pixels; it may lie outside of the picture.
        radius: of the disc, pixels.
        field: bool (H, W), the pixels within the field stop.
    """

    image: Array
    disc: Array
    centre: tuple[float, float]
    radius: float
    field: Array


def make_whole_fundus(seed: int, size: int = 256, with_disc: bool = True, frame: bool = True) -> WholeFundus:
    """Make one whole photograph; the same arguments give the same picture on one machine.

    Args:
        seed: any non-negative integer.
        size: height in pixels; the width is 1 to 1.5 times as much.
        with_disc: False points the camera elsewhere, at the macula or the periphery.
        frame: False leaves out text and notch, and keeps the picture square.
    """
    rng = np.random.default_rng([seed, 7])
    eye_stream, view, paint, camera_stream, rim = rng.spawn(5)
    eye = draw_eye(eye_stream, REACH)
    fill = view.uniform(0.9, 1.0) if view.random() < 0.7 else view.uniform(1.0, 1.25)  # above 1: cut above and below
    half = view.uniform(*FIELDS) / 2 / RADIUS / float(np.exp(view.normal(0, SIZE_SPREAD)))  # disc radii
    half = half if with_disc else min(half, 7.0)
    scale = size * fill / (2 * half)  # pixels per disc radius
    matrix = _aim(view, half, scale, size, with_disc)
    side = round(size * max(fill, 1.0))
    rows, columns = np.indices((size, side), np.float32)
    back = np.linalg.inv(matrix[:, :2]).astype(np.float32)
    across = np.float32((side - 1) / 2)  # the matrix holds the middle of a square
    dx = columns - across + np.float32((size - 1) / 2 - matrix[0, 2])
    dy = rows - np.float32(matrix[1, 2])
    x, y = back[0, 0] * dx + back[0, 1] * dy, back[1, 0] * dx + back[1, 1] * dy

    colour = _square(_tissue(paint, eye, x, y, matrix, side, size), side)
    camera = CAMERAS[camera_stream.integers(len(CAMERAS))]
    picture = photograph(camera_stream, camera, colour, scale)[(side - size) // 2 :][:size]
    far = np.hypot(columns - across, rows - (size - 1) / 2)
    inside = np.clip(size * fill / 2 - far, 0, 1)
    whole = picture * inside[..., None] + _glare(rim, far / (size * fill / 2))[..., None] * inside[..., None]
    disc = (eye.disc.rho(x, y) < 1) & (inside > 0.5)
    centre = float(matrix[1, 2]), float(matrix[0, 2] + (side - size) / 2)
    return _framed(rim, whole, disc, inside > 0.5, centre, scale, frame)


def _aim(rng: np.random.Generator, half: float, scale: float, size: int, with_disc: bool) -> Array:
    """Draw the view: a (2, 3) matrix from eye coordinates to pixels (column, row) of a square picture."""
    kind = rng.random()
    if not with_disc:
        away = half + 1.2 + rng.uniform(0, 3)
        # towards the macula, as in a picture centred on it, or anywhere
        direction = rng.normal(0, 0.3) if kind < 0.6 else rng.uniform(0, 2 * np.pi)
        middle = away * np.array([np.cos(direction), np.sin(direction)])
    elif kind < 0.5:
        middle = np.array(FOVEA) + rng.normal(0, 0.7, 2)
    elif kind < 0.7:
        middle = rng.normal(0, 0.8, 2)
    else:
        direction, away = rng.uniform(0, 2 * np.pi), rng.uniform(0, max(half - 1, 1))
        middle = away * np.array([np.cos(direction), np.sin(direction)])
    far = float(np.hypot(*middle))
    if with_disc and far > half - 0.7:  # most of the disc lies in the field
        middle = middle * (half - 0.7) / far
    roll, mirror = np.deg2rad(rng.normal(0, 7)), rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    linear = scale * turn @ np.diag([mirror, -1.0])
    return np.concatenate([linear, ((size - 1) / 2 - linear @ middle)[:, None]], 1)


def _tissue(rng: np.random.Generator, eye: Eye, x: Array, y: Array, matrix: Array, side: int, size: int) -> Array:
    """Return the colour (3, size, side) of the eye with its macula and lesions."""
    shifted = matrix.copy()
    shifted[0, 2] += (side - size) / 2
    blood, reflex = (layer[:size] for layer in paint_vessels(eye.vessels, shifted, side))
    fovea = np.hypot(x - FOVEA[0], y - FOVEA[1])
    free = 1 - 0.95 * np.exp(-((fovea / 1.1) ** 2))  # no large vessel crosses the fovea
    image = reflectance(eye, x, y, blood * free, reflex * free)
    depth, wide = rng.uniform(0.15, 0.5), rng.uniform(0.9, 1.8)
    dark = depth * np.exp(-((fovea / wide) ** 2))
    image = image * (1 - dark * np.array([0.7, 1.0, 1.0], np.float32)[:, None, None])
    image = image + rng.uniform(0, 0.25) * (rng.random() < 0.4) * np.exp(-((fovea / 0.15) ** 2))
    return _lesions(rng, image, x, y, eye)


def _lesions(rng: np.random.Generator, image: Array, x: Array, y: Array, eye: Eye) -> Array:
    """Paint bright lesions, which could be taken for a disc, and dark ones, outside of the disc."""
    outside = sigmoid((eye.disc.rho(x, y) - 1.25) / 0.05)
    low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])

    def far_from(near_macula: bool, wide: float, stretch: float = 1.0) -> Array:
        place = np.array(FOVEA) + rng.normal(0, 1.6, 2) if near_macula else rng.uniform(low, high)
        angle = rng.uniform(0, np.pi)
        dx, dy = x - place[0], y - place[1]
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        return np.hypot(u / (wide * stretch), v / wide)

    if rng.random() < 0.35:  # hard exudates in groups
        for _ in range(rng.integers(1, 7)):
            spots = texture(rng, x, y, rng.uniform(0.08, 0.25)) - rng.uniform(0.3, 1.0)
            part = sigmoid((spots - 1.5 * far_from(rng.random() < 0.6, rng.uniform(0.3, 1.6)) ** 2) / 0.1)
            image = blend(image, EXUDATE, rng.uniform(0.5, 0.95) * part * outside)
    if rng.random() < 0.3:  # cotton-wool spots, pale scars and atrophy, some round and as large as a disc
        for _ in range(rng.integers(1, 4)):
            far = far_from(rng.random() < 0.3, rng.uniform(0.25, 1.2), rng.uniform(0.8, 1.5))
            rough = 0.25 * texture(rng, x, y, 0.25)
            edge = float(np.exp(rng.uniform(np.log(0.04), np.log(0.5))))
            image = blend(image, COTTON * rng.uniform(0.6, 1.1), rng.uniform(0.3, 0.9) * outside * sigmoid(
                (1 + rough - far) / edge))  # fmt: skip
            if rng.random() < 0.3:
                image = blend(image, PIGMENT, 0.7 * outside * np.exp(-(((far - 1) / 0.15) ** 2)))
    if rng.random() < 0.35:  # haemorrhages
        for _ in range(rng.integers(1, 8)):
            far = far_from(rng.random() < 0.3, rng.uniform(0.05, 0.5), rng.uniform(0.7, 2.0))
            image = blend(image, BLOOD, 0.8 * outside * sigmoid((1 + 0.3 * texture(rng, x, y, 0.1) - far) / 0.15))
    if rng.random() < 0.15:  # scars of a laser
        for _ in range(rng.integers(10, 50)):
            far = far_from(False, rng.uniform(0.12, 0.25))
            image = blend(image, COTTON, rng.uniform(0.2, 0.8) * outside * sigmoid((1 - far) / 0.2))
    return image.astype(np.float32)


def _square(image: Array, side: int) -> Array:
    """Pad a picture (3, H, side) above and below to a square, which `photograph` needs."""
    missing = side - image.shape[1]
    return np.pad(image, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)), mode="edge")


def _glare(rng: np.random.Generator, far: Array) -> Array:
    """Draw reflections of the lens, 0 to 255: a crescent along the edge of the field, or a blurred spot."""
    glare = np.zeros(far.shape, np.float32)
    rows, columns = np.indices(far.shape, np.float32) / max(far.shape)
    if rng.random() < 0.25:
        angle = rng.uniform(-np.pi, np.pi)
        facing = np.cos(np.arctan2(rows - 0.5, columns - 0.5) - angle)
        glare += rng.uniform(20, 140) * np.exp((far - 1) / 0.06) * np.clip(facing - rng.uniform(0, 0.7), 0, 1)
    if rng.random() < 0.15:
        away = np.hypot(rows - rng.random(), columns - rng.random())
        glare += rng.uniform(20, 150) * sigmoid((rng.uniform(0.02, 0.07) - away) / 0.008)
    return glare


def _framed(
    rng: np.random.Generator,
    whole: Array,
    disc: Array,
    field: Array,
    centre: tuple[float, float],
    radius: float,
    frame: bool,
) -> WholeFundus:
    """Lay a picture on the camera's dark frame, with a notch and with text in a corner."""
    size, side = field.shape
    width = max(round(size * rng.uniform(1.0, 1.5)), side) if frame and rng.random() < 0.7 else side
    left = (width - side) // 2
    margins = ((0, 0), (left, width - side - left))
    image = np.pad(whole, (*margins, (0, 0))) + rng.uniform(0, 6)
    image = np.clip(image, 0, 255).astype(np.uint8)
    disc, field = np.pad(disc, margins), np.pad(field, margins)
    if frame and rng.random() < 0.4:
        drawn = Image.fromarray(image)
        pen, corner = ImageDraw.Draw(drawn), rng.integers(0, 2, 2)
        place = (corner * [width * 0.8, size * 0.92] + [2, 2]).tolist()
        text = " ".join(rng.choice(WORDS, rng.integers(1, 3)).tolist())
        pen.text(tuple(place), text, fill=(255, 255, int(rng.integers(100, 256))), font_size=max(size / 18, 6))
        image = np.array(drawn)
    return WholeFundus(image, disc, (centre[0], centre[1] + left), radius, field)
