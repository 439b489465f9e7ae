"""Four synthetic fundus cameras, the domains: field of view, light, colour, tone, sharpness, noise, compression.

Each parameter is a range from which every photograph draws its value. Camera A resembles a table-top camera with a wide
crop and warm, soft pictures. Camera B has a narrow crop and red, sharpened, compressed pictures. Camera C is pale and
cool, with a washed-out disc. Camera D is hand-held: dark, green, noisy, blurred. Ranges were set by comparison with
public photographs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

Array = np.ndarray
Range = tuple[float, float]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, which JPEG uses
HAZE = np.array([1.0, 0.85, 0.7], np.float32)  # colour of the light that a cloudy lens scatters
SHOULDER = 0.75  # brightness above which the sensor compresses
PIVOT = 0.4  # brightness that a change of contrast keeps
SHARPEN_WIDTH = 0.04  # disc radii


@dataclass(frozen=True)
class Camera:
    """Parameters of one camera; each photograph draws uniformly from the ranges.

    Attributes:
        name: domain.
        size: side of the picture in pixels.
        field: side of the picture in disc radii.
        shift: greatest distance of the disc's centre from the middle, as a share of the side.
        roll: greatest tilt in degrees.
        exposure: factor of the brightness.
        slant: change of the flash from one side to the other.
        vignette: loss of light in the corners.
        haze: light scattered by the lens of the eye.
        balance: factors of red, green and blue.
        saturation: 1 keeps the colours.
        wash: degree to which bright parts turn white.
        gamma: exponent, above 1 darker.
        contrast: slope in the middle of the tone curve.
        blur: standard deviation in disc radii.
        sharpen: strength of the unsharp mask.
        noise: standard deviation at mid grey.
        quality: of the JPEG compression.
        aperture: share of the photographs that show the round field stop.
    """

    name: str
    size: int
    field: Range
    shift: float
    roll: float
    exposure: Range
    slant: Range
    vignette: Range
    haze: Range
    balance: tuple[Range, Range, Range]
    saturation: Range
    wash: Range
    gamma: Range
    contrast: Range
    blur: Range
    sharpen: Range
    noise: Range
    quality: tuple[int, int]
    aperture: float = 0.0


CAMERA_A = Camera(
    name="camera_a", size=288, field=(3.9, 5.9), shift=0.15, roll=5,
    exposure=(0.7, 1.25), slant=(0.0, 0.35), vignette=(0.05, 0.35), haze=(0.0, 0.04),
    balance=((0.95, 1.05), (0.92, 1.06), (0.6, 1.1)), saturation=(0.95, 1.15), wash=(0.0, 0.15),
    gamma=(0.95, 1.15), contrast=(0.95, 1.1),
    blur=(0.014, 0.04), sharpen=(0.0, 0.4), noise=(0.002, 0.006), quality=(88, 96),
)  # fmt: skip
CAMERA_B = Camera(
    name="camera_b", size=256, field=(2.9, 3.6), shift=0.05, roll=5,
    exposure=(1.0, 1.3), slant=(0.0, 0.3), vignette=(0.0, 0.15), haze=(0.02, 0.07),
    balance=((1.05, 1.15), (0.82, 0.98), (1.2, 1.9)), saturation=(0.85, 1.1), wash=(0.0, 0.2),
    gamma=(0.9, 1.05), contrast=(1.05, 1.25),
    blur=(0.018, 0.05), sharpen=(0.3, 1.0), noise=(0.002, 0.008), quality=(60, 85),
)  # fmt: skip
CAMERA_C = Camera(
    name="camera_c", size=240, field=(4.2, 6.0), shift=0.10, roll=8,
    exposure=(1.0, 1.35), slant=(0.0, 0.3), vignette=(0.1, 0.4), haze=(0.06, 0.16),
    balance=((0.86, 0.96), (1.05, 1.20), (1.4, 2.2)), saturation=(0.65, 0.9), wash=(0.4, 0.9),
    gamma=(0.75, 0.95), contrast=(0.75, 0.95),
    blur=(0.015, 0.035), sharpen=(0.0, 0.5), noise=(0.004, 0.010), quality=(75, 92),
)  # fmt: skip
CAMERA_D = Camera(
    name="camera_d", size=208, field=(5.2, 6.8), shift=0.12, roll=12,
    exposure=(0.8, 1.2), slant=(0.1, 0.5), vignette=(0.3, 0.7), haze=(0.0, 0.06),
    balance=((0.80, 0.95), (1.02, 1.18), (0.7, 1.1)), saturation=(0.75, 1.0), wash=(0.0, 0.25),
    gamma=(1.0, 1.3), contrast=(1.0, 1.2),
    blur=(0.04, 0.075), sharpen=(0.0, 0.5), noise=(0.008, 0.022), quality=(45, 75), aperture=0.3,
)  # fmt: skip
CAMERAS = {camera.name: camera for camera in (CAMERA_A, CAMERA_B, CAMERA_C, CAMERA_D)}


def aim(rng: np.random.Generator, camera: Camera, size: int) -> Array:
    """Draw the view: a (2, 3) matrix from eye coordinates to pixels (column, row), mirrored in half of the cases."""
    scale = size / rng.uniform(*camera.field)
    roll = np.deg2rad(rng.uniform(-camera.roll, camera.roll))
    mirror = rng.choice([-1.0, 1.0])
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    centre = (size - 1) / 2 + size * rng.uniform(-camera.shift, camera.shift, 2)
    return np.concatenate([scale * turn @ np.diag([mirror, -1.0]), centre[:, None]], 1)  # rows grow downwards


def _frame(size: int) -> tuple[Array, Array]:
    """Return column and row of every pixel, float32 (size, size) from -1 to 1."""
    row, column = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 2, indexing="ij")
    return column, row


def _flash(rng: np.random.Generator, camera: Camera, size: int) -> Array:
    """Draw the brightness of the flash, float32 (size, size): slanted, and darker away from an off-centre point."""
    u, v = _frame(size)
    direction, slant, dark = rng.uniform(0, 2 * np.pi), rng.uniform(*camera.slant), rng.uniform(*camera.vignette)
    middle = rng.uniform(-0.4, 0.4, 2)
    slope = np.clip(1 + slant * (u * np.cos(direction) + v * np.sin(direction)), 0.1, None)
    fall = np.clip(((u - middle[0]) ** 2 + (v - middle[1]) ** 2) / 2, 0, 1)
    return (slope * (1 - dark * fall)).astype(np.float32)


def _veil(rng: np.random.Generator, size: int) -> Array:
    """Draw uneven haze (size, size) with mean about 1."""
    coarse = ndimage.gaussian_filter(rng.standard_normal((8, 8), np.float32), 1.5)
    coarse = 1 + 0.4 * coarse / (coarse.std() + 1e-6)
    return np.clip(ndimage.zoom(coarse, size / 8, order=1, grid_mode=True, mode="nearest"), 0, None)


def _field_stop(rng: np.random.Generator, size: int) -> Array:
    """Draw the round field stop, which cuts one side or corner: float32 (size, size), 1 inside, 0 outside."""
    u, v = _frame(size)
    direction, radius = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 3.0)
    away = radius - rng.uniform(0.75, 1.0)
    far = np.hypot(u - away * np.cos(direction), v - away * np.sin(direction))
    return np.clip((radius - far) * size / 6, 0, 1).astype(np.float32)


def _colour(rng: np.random.Generator, camera: Camera, image: Array) -> Array:
    """Apply white balance, saturation and wash."""
    image = image * np.array([rng.uniform(*limits) for limits in camera.balance], np.float32)[:, None, None]
    grey = np.tensordot(LUMA, image, 1)
    image = grey + rng.uniform(*camera.saturation) * (image - grey)
    bright = np.clip((grey - 0.4) / 0.6, 0, 1)
    return image + rng.uniform(*camera.wash) * bright * (image.max(0) - image)


def _tone(rng: np.random.Generator, camera: Camera, image: Array) -> Array:
    """Apply shoulder, gamma and contrast, which is linear below 1 and an S-curve with fixed black and white above."""
    image = np.clip(image, 0, None)
    rest = 1 - SHOULDER
    image = np.where(image > SHOULDER, 1 - rest * np.exp((SHOULDER - image) / rest), image)
    image = image ** rng.uniform(*camera.gamma)
    gain = rng.uniform(*camera.contrast) - 1
    return image + gain * (image - PIVOT) * (4 * image * (1 - image) if gain > 0 else 1)


def _as_jpeg(image: Array, quality: int) -> Array:
    """Compress a picture, uint8 (H, H, 3), as JPEG and read it back."""
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality)
    return np.array(Image.open(packed))


def photograph(rng: np.random.Generator, camera: Camera, image: Array, scale: float) -> Array:
    """Photograph an eye.

    Args:
        rng: random generator of this photograph.
        camera: the camera.
        image: float32 (3, H, H), reflectance.
        scale: pixels per disc radius.

    Returns:
        uint8 (H, H, 3), red, green, blue.
    """
    size = image.shape[-1]
    image = image * _flash(rng, camera, size) * rng.uniform(*camera.exposure)
    image = image + HAZE[:, None, None] * (rng.uniform(*camera.haze) * _veil(rng, size))
    image = _colour(rng, camera, image)
    blur = rng.uniform(*camera.blur) * scale
    image = _tone(rng, camera, ndimage.gaussian_filter(image, (0, blur, blur), truncate=3))
    if rng.random() < camera.aperture:
        image = image * _field_stop(rng, size)
    grain = ndimage.gaussian_filter(rng.standard_normal(image.shape, np.float32), (0, 0.5, 0.5), truncate=2)
    shot = np.sqrt(np.clip(image, 0.02, 1) / 0.5)  # shot noise grows with the light
    image = image + rng.uniform(*camera.noise) / float(grain.std()) * grain * shot
    wide = SHARPEN_WIDTH * scale
    image = image + rng.uniform(*camera.sharpen) * (image - ndimage.gaussian_filter(image, (0, wide, wide), truncate=2))
    whole = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    return _as_jpeg(np.ascontiguousarray(whole), int(rng.integers(*camera.quality, endpoint=True)))
