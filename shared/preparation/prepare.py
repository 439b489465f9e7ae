"""Prepare the sequences of a head: register them, extract the brain, correct the coil's field.

The steps in order, each left out where the sequences do not need it:
1. every sequence on another grid is registered to the reference and resampled onto its grid;
2. the brain is found in the reference;
3. if the skull is there, the field of the receiving coil is corrected and all but the brain becomes zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from shared.core.errors import InputError
from shared.io.affine import same_affine
from shared.preparation.bias import correct_bias
from shared.preparation.brain import Brain, BrainDistance, extract_brain
from shared.preparation.registration import looks_like_ct, register, resample
from shared.preparation.scan import Scan

VERSION = 1  # raise it when a change gives other images for the same input
SMALLEST_HEAD = 110.0  # mm along two axes; below it the file shows no head, or its voxel size is not the real one
FEWEST_SLICES = 8  # along each axis; fewer show too little of a head
SCALP_DISTANCE = 6.0  # mm from the brain's surface; what lies further out is not brain
SCALP_SHARE = 0.05  # of the brain's volume, so far outside, means that the skull is there

Say = Callable[[str], None]


class Prepared(NamedTuple):
    """The sequences of one head on the grid of the reference.

    Args:
        scans: by sequence; those that could not be registered are left out.
        brain: the brain in the reference.
        record: what was done, with figures; can be written as JSON. ``steps`` is empty where nothing was needed.
    """

    scans: dict[str, Scan]
    brain: Brain
    record: dict[str, Any]


def prepare(
    scans: Mapping[str, Scan], reference: str, network: BrainDistance, always: bool = False, say: Say = print
) -> Prepared:
    """Prepare the sequences of a head.

    Args:
        scans: by sequence, each on its own grid.
        reference: the sequence that keeps its grid; the others are brought to it.
        network: finds the brain.
        always: do every step, even where the sequences share one grid or the skull is gone.
        say: takes one line per step.

    Raises:
        InputError: the reference is no MR scan of a head; one line.
    """
    check_head(scans[reference], reference)
    record: dict[str, Any] = {"version": VERSION, "reference": reference, "steps": [], "seconds": {}, "warnings": []}
    moved = {name: scan for name, scan in scans.items() if name != reference}
    if not always:
        moved = {name: scan for name, scan in moved.items() if not same_grid(scan, scans[reference])}
    placed = dict(scans)
    if moved:
        record["registration"] = {}
    for name, scan in moved.items():
        with _step(record, f"register {name}", say) as figures:
            done, found = _place(name, scan, reference, scans[reference])
            record["registration"][name] = found
            figures.update(found)
        if done is None:
            del placed[name]
            record["warnings"].append(
                f"{name} could not be registered to {reference} and is left out ({figures['reason']}): is it of the "
                "same patient?"
            )
        else:
            placed[name] = done
    with _step(record, "find the brain", say, counts=False) as figures:
        brain = extract_brain(placed[reference], network)
        skull = has_skull(placed[reference], brain)
        figures.update(volume_ml=round(brain.volume(scans[reference])), skull=skull)
    record["brain"] = dict(figures)
    record["warnings"] += brain.warnings
    if skull or always:
        record["field"] = {}
        for name, scan in placed.items():
            with _step(record, f"correct the field of {name}", say) as figures:
                placed[name], found = correct_bias(scan, brain.mask)
                record["field"][name] = found
                figures.update(found)
        placed = {name: strip(scan, brain.mask) for name, scan in placed.items()}
        record["steps"].append("remove the skull")
    return Prepared(placed, brain, record)


def check_head(scan: Scan, where: str) -> None:
    """Check that a scan may show a head in MR.

    Raises:
        InputError: CT, too few slices, or too small for a head; one line.
    """
    if looks_like_ct(scan):
        raise InputError(f"{where} looks like CT (its air lies near -1000 HU): give MR")
    if min(scan.voxels.shape) < FEWEST_SLICES:
        raise InputError(
            f"{where} has {min(scan.voxels.shape)} slices where a head needs at least {FEWEST_SLICES}: give a whole "
            "scan, or --prepare off"
        )
    if not shows_head(scan):
        raise InputError(
            f"{where} is too small for a head ({_size(scan)} mm): correct its voxel size, or --prepare off"
        )


def shows_head(scan: Scan) -> bool:
    """Tell whether a scan has the size and the number of slices of a head."""
    large = np.sum(scan.spacing * scan.voxels.shape >= SMALLEST_HEAD) >= 2
    return bool(large) and min(scan.voxels.shape) >= FEWEST_SLICES


def has_skull(scan: Scan, brain: Brain) -> bool:
    """Tell whether a scan shows more than the brain.

    Args:
        scan: its background may be zero or noise.
        brain: the brain that was found in it.
    """
    outside = (brain.distance > SCALP_DISTANCE) & (scan.voxels > 0)
    return bool(outside.sum() > SCALP_SHARE * brain.mask.sum())


def strip(scan: Scan, mask: np.ndarray) -> Scan:
    """Set everything outside a mask to zero, and keep the voxels inside above zero wherever they were."""
    return scan._replace(voxels=np.where(mask, np.clip(scan.voxels, 0, None), 0).astype(np.float32))


def _place(name: str, scan: Scan, reference: str, fixed: Scan) -> tuple[Scan | None, dict[str, Any]]:
    """Register a scan and resample it onto the reference's grid; None if the registration is not reliable."""
    found = register(scan, fixed)
    figures = {
        "quality": round(float(found.quality), 3),
        "reliable": bool(found.reliable),
        "reason": found.reason,
        "start": found.start,
        "coverage": round(float(found.coverage), 3),
        "matrix": np.round(found.matrix, 6).tolist(),
    }
    return (resample(scan, fixed, found.matrix) if found.reliable else None), figures


def same_grid(first: Scan, second: Scan) -> bool:
    """Tell whether two scans have the same voxels in the world."""
    return first.voxels.shape == second.voxels.shape and same_affine(first.affine, second.affine)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _size(scan: Scan) -> str:
    return " x ".join(f"{edge:.0f}" for edge in scan.spacing * scan.voxels.shape)


@contextmanager
def _step(record: dict[str, Any], name: str, say: Say, counts: bool = True) -> Iterator[dict[str, Any]]:
    """Time a step, enter it in the record and say what it found; a step that only looks does not count."""
    begin, figures = time.perf_counter(), dict[str, Any]()
    yield figures
    seconds = time.perf_counter() - begin
    record["seconds"][name] = round(seconds, 1)
    if counts:
        record["steps"].append(name)
    shown = ", ".join(f"{key} {_text(value)}" for key, value in figures.items() if key != "matrix" and value != "")
    say(f"{name}: {shown} ({seconds:.0f} s)")
