"""Prepare the sequences of a head: find the brain, register the sequences, correct the coil's field.

The steps in order; those after the first are left out where the sequences do not need them:
1. the brain is found in the reference;
2. every sequence that lies on another grid than the reference, or does not agree with it, is registered to it and
   resampled onto its grid;
3. if the skull is there, a strong field of the receiving coil is corrected and all but the brain becomes zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from shared.core.errors import InputError
from shared.io.affine import same_affine
from shared.preparation.bias import correct_bias
from shared.preparation.brain import Brain, BrainDistance, extract_brain
from shared.preparation.registration import Registration, agree, looks_like_ct, register, resample
from shared.preparation.scan import Scan

VERSION = 3  # raise it when a change gives other images for the same input
SMALLEST_HEAD = 110.0  # mm along two axes; below it the file shows no head, or its voxel size is not the real one
COARSEST = 3.0  # mm, of a voxel within its slice; coarser images were reduced, and have no scanner's anatomy
FEWEST_SLICES = 8  # along each axis; fewer show too little of a head
MARGIN = 1.0  # mm beyond the pia, where publishers of stripped brains cut (docs/results.md says how it was chosen)
LEAST_FIELD = 0.1  # strength, see `field_strength`; correcting a weaker field changes lesions as much as leaving it
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
    scans: Mapping[str, Scan],
    reference: str,
    network: BrainDistance,
    always: bool = False,
    say: Say = print,
    before: Callable[[], None] | None = None,
) -> Prepared:
    """Prepare the sequences of a head.

    Args:
        scans: by sequence, each on its own grid.
        reference: the sequence that keeps its grid; the others are brought to it.
        network: finds the brain.
        always: do every step, even where the sequences share one grid or the skull is gone.
        say: takes one line per step, and one per warning.
        before: called after the brain is found, if more steps follow; it may raise to stop, e.g. if the disk is full.

    Raises:
        NoBrain: no brain was found in the reference.
        InputError: the reference is no MR scan of a head; one line.
    """
    fixed = scans[reference]
    check_head(fixed, reference, _other_ways(scans, reference))
    record: dict[str, Any] = {"version": VERSION, "reference": reference, "steps": [], "seconds": {}, "warnings": []}

    with _step(record, "find the brain", say) as words:
        brain = extract_brain(fixed, network, MARGIN)
        skull = has_skull(fixed, brain)
        record["brain"] = {"volume_ml": round(brain.volume(fixed)), "skull": skull}
        words.append(f"brain of {record['brain']['volume_ml']} mL found{', with skull' if skull else ''}")
    _warn(record, brain.warnings, say)
    others = {name: scan for name, scan in scans.items() if name != reference}
    elsewhere = {name: scan for name, scan in others.items() if always or not _lie_together(scan, fixed)}
    if before is not None and (skull or always or elsewhere):
        before()

    placed = dict(scans)
    centre = _centre(brain.mask, fixed)
    for name, scan in elsewhere.items():
        with _step(record, f"register {name}", say) as words:
            found = register(scan, fixed)
            figures = _figures(found, centre)
            record.setdefault("registration", {})[name] = figures
            if found.reliable:
                placed[name] = resample(scan, fixed, found.matrix)
                words.append(f"{name} registered to {reference}: {_in_words(figures)}")
        if not found.reliable:
            del placed[name]
            line = f"{name} cannot be registered to {reference} and is left out ({found.reason}): is it of this head?"
            _warn(record, [line], say)
        record["steps"].append(f"register {name}")

    if skull or always:
        record["field"] = {}
        with _step(record, "correct the field", say) as words:
            strong = []
            for name, scan in placed.items():
                corrected, record["field"][name] = correct_bias(scan, brain.mask)
                if always or record["field"][name]["strength"] >= LEAST_FIELD:
                    placed[name] = corrected
                    strong.append(name)
            words.append(f"skull removed{', coil field corrected in ' if strong else ''}{', '.join(strong)}")
        placed = {name: strip(scan, brain.mask) for name, scan in placed.items()}
        record["steps"] += ["correct the field", "remove the skull"]
    return Prepared(placed, brain, record)


def check_head(scan: Scan, where: str, other_ways: str = "--prepare off") -> None:
    """Check that a scan may show a head in MR.

    Args:
        scan: the scan.
        where: name of the scan, begins the message.
        other_ways: options that help without another scan of this sequence; ends the message.

    Raises:
        InputError: CT, too few slices, or too small for a head; one line.
    """
    if looks_like_ct(scan):
        raise InputError(f"{where} looks like CT (its air lies near -1000 HU): give MR")
    if min(scan.voxels.shape) < FEWEST_SLICES:
        raise InputError(
            f"{where} has {min(scan.voxels.shape)} slices where a head needs at least {FEWEST_SLICES}: give a whole "
            f"scan, or {other_ways}"
        )
    if not shows_head(scan):
        size = " x ".join(f"{edge:.0f}" for edge in scan.spacing * scan.voxels.shape)
        raise InputError(
            f"{where} is too small or too coarse for a head ({size} mm, voxels of {np.sort(scan.spacing)[1]:.2g} mm): "
            f"correct its voxel size, or {other_ways}"
        )


def _other_ways(scans: Mapping[str, Scan], reference: str) -> str:
    """Return the options that help if the reference cannot be prepared."""
    if all(same_grid(scan, scans[reference]) for scan in scans.values()):
        return "--prepare off"
    others = [name for name, scan in scans.items() if name != reference and shows_head(scan)]
    return ", or ".join([*(f"--reference {name}" for name in others[:1]), f"{reference} alone"])


def shows_head(scan: Scan) -> bool:
    """Tell whether a scan has the size, the number of slices and the resolution of a scan of a head."""
    fine = bool(np.sort(scan.spacing)[1] <= COARSEST)
    return fine and _is_large(scan) and min(scan.voxels.shape) >= FEWEST_SLICES


def why_unseen(scan: Scan) -> str:
    """Return why the brain cannot be looked for in a scan that has the size of a head; empty for any other scan."""
    if not _is_large(scan) or shows_head(scan):
        return ""
    if min(scan.voxels.shape) < FEWEST_SLICES:
        return "has too few slices"
    return f"is too coarse (voxels of {np.sort(scan.spacing)[1]:.2g} mm)"


def _is_large(scan: Scan) -> bool:
    return bool(np.sum(scan.spacing * scan.voxels.shape >= SMALLEST_HEAD) >= 2)


def has_skull(scan: Scan, brain: Brain) -> bool:
    """Tell whether a scan shows more than the brain.

    Args:
        scan: its background may be zero or noise.
        brain: the brain that was found in it.
    """
    outside = (brain.distance > SCALP_DISTANCE) & (scan.voxels > 0)
    return bool(outside.sum() > SCALP_SHARE * brain.mask.sum())


def strip(scan: Scan, mask: np.ndarray) -> Scan:
    """Set everything outside a mask to zero, and negative values inside it."""
    return scan._replace(voxels=np.where(mask, np.clip(scan.voxels, 0, None), 0).astype(np.float32))


def same_grid(first: Scan, second: Scan) -> bool:
    """Tell whether two scans have the same voxels in the world."""
    return first.voxels.shape == second.voxels.shape and same_affine(first.affine, second.affine)


def _lie_together(first: Scan, second: Scan) -> bool:
    return same_grid(first, second) and agree(first, second)


def _centre(mask: np.ndarray, scan: Scan) -> np.ndarray:
    """Return the centre of a mask in the world (RAS, mm)."""
    return scan.affine[:3, :3] @ ndimage.center_of_mass(mask) + scan.affine[:3, 3]


def _figures(found: Registration, centre: np.ndarray) -> dict[str, Any]:
    """Return the figures of a registration for the record: how far it moves `centre`, and by how much it turns."""
    turn, shift = found.matrix[:3, :3], found.matrix[:3, 3]
    return {
        "moved_mm": round(float(np.linalg.norm(turn @ centre + shift - centre)), 1),
        "turned_degrees": round(float(np.degrees(Rotation.from_matrix(turn).magnitude())), 1),
        "quality": round(float(found.quality), 3),
        "reliable": bool(found.reliable),
        "reason": found.reason,
        "start": found.start,
        "coverage": round(float(found.coverage), 3),
        "matrix": np.round(found.matrix, 6).tolist(),
    }


def _in_words(figures: Mapping[str, Any]) -> str:
    if figures["start"] == "kept":
        return "it already lay right"
    return f"{figures['moved_mm']} mm, {figures['turned_degrees']} degrees"


def _warn(record: dict[str, Any], warnings: Iterable[str], say: Say) -> None:
    for warning in warnings:
        record["warnings"].append(warning)
        say(f"warning: {warning}")


@contextmanager
def _step(record: dict[str, Any], name: str, say: Say) -> Iterator[list[str]]:
    """Time a step, and say the words that it adds to the list."""
    begin, words = time.perf_counter(), list[str]()
    yield words
    seconds = time.perf_counter() - begin
    record["seconds"][name] = round(seconds, 1)
    for line in words:
        say(f"{line} ({seconds:.0f} s)")
