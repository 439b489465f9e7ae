"""Do volumes that follow each other show one heartbeat? What only their voxels tell."""

from __future__ import annotations

import numpy as np
from scipy import fft

BRIGHTNESS = 0.3  # largest relative difference of a phase's mean from the median of all
LIKENESS = 0.6  # least correlation of neighbouring phases; end diastole and end systole of ACDC have 0.78 or more
JUMP_MM, JUMP_VOXELS = 3.0, 2  # shift of a slice between neighbouring phases; the beating heart moves none by a voxel


def check_phases(voxels: np.ndarray, affine: np.ndarray) -> None:
    """Check the phases of a cine.

    Args:
        voxels: float32 (X, Y, Z, T).
        affine: 4 x 4, mm.

    Raises:
        ValueError: NaN or infinite voxels, an empty phase, volumes of different contrasts, or a slice that jumps.
    """
    wrong = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
    if wrong:
        raise ValueError(f"it holds {wrong} NaN or infinite voxels: replace them, e.g. by 0 outside the body")
    flat = voxels.reshape(-1, voxels.shape[3])
    for phase in np.flatnonzero(~flat.any(axis=0)):
        raise ValueError(f"phase {phase + 1} is all zero: export the cine again")
    _check_one_contrast(flat)
    _check_jumps(voxels, np.linalg.norm(affine[:3, :3], axis=0))


def _check_one_contrast(flat: np.ndarray) -> None:
    means = flat.mean(axis=0, dtype=np.float64)
    middle = float(np.median(means))
    worst = int(np.abs(means - middle).argmax())
    if abs(means[worst] - middle) > BRIGHTNESS * abs(middle):
        change = f"volume {worst + 1} has a mean of {means[worst]:.3g}, the others about {middle:.3g}"
        raise ValueError(f"its volumes differ in contrast, as channels or echoes do ({change}): give a cine")
    likeness = [_correlation(flat[:, at], flat[:, at + 1]) for at in range(flat.shape[1] - 1)]
    worst = int(np.argmin(likeness))
    if likeness[worst] < LIKENESS:
        raise ValueError(
            f"volumes {worst + 1} and {worst + 2} show different things (correlation {likeness[worst]:.2f}), "
            "as channels do: give a cine, whose phases follow each other"
        )


def _correlation(first: np.ndarray, other: np.ndarray) -> float:
    first, other = first - first.mean(), other - other.mean()
    size = float(np.linalg.norm(first) * np.linalg.norm(other))
    return float(first @ other) / size if size else 1.0


def _check_jumps(voxels: np.ndarray, spacing: np.ndarray) -> None:
    """Raise ValueError if a slice lies elsewhere from one phase to the next: the patient breathed in between."""
    for index in range(voxels.shape[2]):
        spectra = fft.rfft2(voxels[:, :, index], axes=(0, 1))
        for phase in range(voxels.shape[3] - 1):
            shift = _shift(spectra[..., phase], spectra[..., phase + 1], voxels.shape[:2])
            away = float(np.hypot(*(shift * spacing[:2])))
            if np.abs(shift).max() >= JUMP_VOXELS and away >= JUMP_MM:
                raise ValueError(
                    f"slice {index + 1} jumps by {away:.0f} mm between phases {phase + 1} and {phase + 2}, as if they "
                    "came from two breath-holds: give the phases of one breath-hold"
                )


def _shift(first: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the shift, in whole voxels, at which two slices are most alike, from their spectra."""
    alike = fft.irfft2(first * other.conj(), s=shape)
    peak = np.array(np.unravel_index(int(alike.argmax()), alike.shape))
    return np.where(peak > np.array(shape) // 2, peak - np.array(shape), peak)
