"""The heartbeat as an animated GIF: three slices side by side, with the contours of the masks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from shared.core.files import whole
from shared.results.overlays import CLASS_COLOURS
from shared.results.slices import radiological, view, window

SIDES = (240, 180, 120, 80)  # pixels of a slice's longest side; the first that keeps the file within `MOST_BYTES`
MOST_BYTES = 2_000_000
MOST_FRAMES = 40
MOST_SLICES = 3
MARGIN_MM = 25  # around the heart
GREYS, WHITE = 200, 250  # entries of the palette: grey values from 0, the colours of classes behind them, white
LOOP_MS, SLOWEST_MS, FASTEST_MS = 1000, 200, 20  # length of a loop of unknown speed; limits of a frame


def save_loop(
    path: str | os.PathLike,
    voxels: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    step_s: float | None = None,
    names: dict[int, str] | None = None,
) -> Path:
    """Write a cine as a GIF that repeats.

    Args:
        path: file to write.
        voxels: (X, Y, Z, T), intensities.
        labels: uint8 (X, Y, Z, T), classes 1, 2, ...; 0 is background.
        affine: 4 x 4, RAS, mm.
        step_s: time between phases in seconds; if None or implausible for a heartbeat, one loop takes one second.
        names: phase from 0 -> a word to write beside its number.

    Returns:
        The path. The file has at most 40 frames and, save for noise in 40 frames of three large slices, 2 MB.
    """
    axes, _ = view(affine)
    chosen = np.unique(np.linspace(0, voxels.shape[3] - 1, min(voxels.shape[3], MOST_FRAMES)).round().astype(int))
    films = [radiological(np.moveaxis(film[..., chosen], -1, 0), affine, axes) for film in (voxels, labels)]
    grey, masks = (film.numpy() for film in films)  # (T, X, Y, Z)
    sizes = np.asarray(films[0].pixdim, float)
    slices, box = _shown(masks, sizes)
    grey, masks = grey[:, box[0], box[1]][..., slices], masks[:, box[0], box[1]][..., slices]
    black, white = window(grey[:1])
    grey = np.clip((grey - black) / (white - black), 0, 1)
    words = [f"{phase + 1}/{voxels.shape[3]} {(names or {}).get(int(phase), '')}".strip() for phase in chosen]
    duration = _duration(step_s, voxels.shape[3], len(chosen))
    for side in SIDES:
        frames = [_frame(shown, mask, sizes, side, word) for shown, mask, word in zip(grey, masks, words)]
        with whole(path) as draft:
            frames[0].save(draft, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
        if Path(path).stat().st_size <= MOST_BYTES:
            break
    return Path(path)


def _shown(masks: np.ndarray, sizes: np.ndarray) -> tuple[list[int], tuple[slice, slice]]:
    """Return the slices and the box to show: base, middle and apex of the heart, with a margin."""
    found: Any = masks.any(axis=0)
    there = np.flatnonzero(found.any(axis=(0, 1)))
    if not there.size:
        there = np.arange(found.shape[2])
    slices = sorted({int(there[round(share * (len(there) - 1))]) for share in np.linspace(0.2, 0.8, MOST_SLICES)})
    box = []
    for axis in (0, 1):
        along = np.flatnonzero(found.any(axis=(1 - axis, 2)))
        margin = round(MARGIN_MM / max(sizes[axis], 1e-3))
        box.append(slice(max(along[0] - margin, 0), along[-1] + 1 + margin) if along.size else slice(None))
    return slices[::-1], (box[0], box[1])


def _duration(step_s: float | None, phases: int, frames: int) -> int:
    """Return the time of a frame in ms."""
    beat = step_s * phases * 1000 if step_s else 0.0
    each = (beat if 300 <= beat <= 2500 else LOOP_MS) / frames
    return int(min(max(each, FASTEST_MS), SLOWEST_MS))


def _frame(grey: np.ndarray, masks: np.ndarray, sizes: np.ndarray, side: int, word: str) -> Image.Image:
    """Draw one phase, (X, Y, slices) each, slices beside each other."""
    lengths = np.array(grey.shape[:2]) * sizes[:2]
    width, height = (int(max(1, round(side * length / lengths.max()))) for length in lengths)
    panels = [_panel(grey[..., index], masks[..., index], (width, height)) for index in range(grey.shape[2])]
    image = Image.fromarray(np.concatenate(panels, axis=1))  # indices of the palette
    image.putpalette(_palette())
    ImageDraw.Draw(image).text((4, 3), word, fill=WHITE)
    return image


def _panel(grey: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the indices (H, W) of one slice."""
    shown = np.asarray(Image.fromarray(grey.T.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    panel = (shown * (GREYS - 1)).round().clip(0, GREYS - 1).astype(np.uint8)
    for value in range(1, int(mask.max()) + 1):
        inside = Image.fromarray((value == mask.T).astype(np.float32))
        smooth = np.asarray(inside.resize(size, Image.Resampling.BILINEAR)) >= 0.5
        panel[find_boundaries(smooth, mode="inner")] = GREYS + (value - 1) % len(CLASS_COLOURS)
    return panel


def _palette() -> list[int]:
    colours = np.zeros((256, 3))
    colours[:GREYS] = np.linspace(0, 255, GREYS)[:, None]
    colours[GREYS : GREYS + len(CLASS_COLOURS)] = np.array([to_rgb(name) for name in CLASS_COLOURS]) * 255
    colours[WHITE] = 255
    return colours.round().astype(int).ravel().tolist()
