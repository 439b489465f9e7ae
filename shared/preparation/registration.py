"""Rigid registration of two sequences of one head that survives wrong headers and says when it failed.

A header may lack its origin, or describe another position of the patient. So several starts are scored at a coarse
resolution: the headers as they are, the centres of the fields of view, and the centres of the heads, each turned by a
grid of rotations. The best ones are refined by Mattes mutual information (SimpleITK), and the best result again at two
finer resolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import SimpleITK
from scipy.spatial.transform import Rotation

from shared.io.affine import LPS
from shared.preparation.resampling import in_field, resample, straighten
from shared.preparation.scan import Scan, to_itk
from shared.preparation.similarity import BINS, SEED, Pair, clip, distance, head_centre, shrink

__all__ = ["Registration", "agree", "looks_like_ct", "register", "resample"]

COARSE, MIDDLE, FINE = 8.0, 4.0, 2.0  # mm; edges of the voxels at the three resolutions
POINTS = {COARSE: 10_000, MIDDLE: 20_000, FINE: 60_000}  # most places at which a position is scored
TURNS = (-18, 0, 18)  # degrees about each axis; a start up to 10 degrees off is refined to the right place
LIFTS = (-40, -20, 0, 20, 40)  # mm along the body: scans cut the head at different heights, which moves its centre
STARTS, FINALISTS = 5, 2  # positions that are refined at the coarse and at the middle resolution
APART, FINALISTS_APART = 8.0, 3.0  # mm; positions closer than this count as one
ITERATIONS = 60
FINE_STEPS = (1.0, 0.5, 0.25)  # mm; first steps of the refinements at the fine resolution
CLEAR_GAIN = 0.015  # of the score; the headers are kept where a registration improves on them by less
DISPLACED = 6.0  # mm; a right position is clearly better than its neighbours at this distance
LEAST_QUALITY = 0.03  # between wrong and right positions, see `Registration.quality`
AIR_HU, AIR_SHARE = -500.0, 0.1  # CT: at least this share of the voxels lies below


class Registration(NamedTuple):
    """Where a sequence lies relative to the reference.

    Args:
        matrix: 4 x 4 rigid motion from the world of the reference to the world of the moving scan (RAS, mm).
        quality: normalised mutual information within the reference's head, less its mean at six places 6 mm away. 0
            means that the position is no better than its neighbours; 0.03 to 0.15 is usual for one patient.
        reliable: whether the result may be used.
        reason: why it may not; empty if it may.
        start: "kept" if the headers already agreed, so that `matrix` is the identity; else the start that led to the
            result: "headers", "fields" (of view) or "heads".
        coverage: share of the reference's voxels that lie in the field of view of the moving scan.
    """

    matrix: np.ndarray
    quality: float
    reliable: bool
    reason: str
    start: str
    coverage: float


class Position(NamedTuple):
    """A candidate: the start that it comes from, its matrix and its score."""

    start: str
    matrix: np.ndarray
    score: float


def register(moving: Scan, fixed: Scan) -> Registration:
    """Register a sequence to the reference by a rigid motion.

    The same input gives the same result. The number of threads is SimpleITK's global one.

    Args:
        moving: sequence to register; values finite. Sheared slices are resampled first.
        fixed: the reference, likewise.

    Returns:
        The position, with a figure of its quality. A sequence of another patient, a CT, an empty scan and a failure
        come back with `reliable` False and the reason.
    """
    problem = _unusable(moving, "the sequence") or _unusable(fixed, "the reference")
    if problem:
        return Registration(np.eye(4), 0.0, False, problem, "kept", float(in_field(moving, fixed, np.eye(4)).mean()))
    scans = [clip(shrink(straighten(scan), FINE)) for scan in (moving, fixed)]
    coarse, middle, fine = (
        Pair(shrink(scans[0], edge), shrink(scans[1], edge), POINTS[edge]) for edge in (COARSE, MIDDLE, FINE)
    )
    found = [(start, _refine(coarse, matrix, 1.0, step=4.0, last_step=0.1)) for start, matrix in _starts(coarse)]
    finalists = _best(middle, found, FINALISTS, FINALISTS_APART)
    found = [(one.start, _refine(middle, one.matrix, 0.5, step=2.0, last_step=0.05)) for one in finalists]
    start, matrix, _ = _best(middle, found, 1, 0.0)[0]
    for step in FINE_STEPS:  # the sampled metric is noisy, so a result counts only where it is better
        again = _refine(fine, matrix, 0.3, step, last_step=0.01)
        matrix = again if fine.score(again) > fine.score(matrix) else matrix
    if fine.score(matrix) < (1 + CLEAR_GAIN) * fine.score(np.eye(4)):
        start, matrix = "kept", np.eye(4)
    quality = _quality(fine, matrix)
    reason = "" if quality >= LEAST_QUALITY else "no position agrees clearly better than its neighbours"
    return Registration(matrix, quality, not reason, reason, start, float(in_field(scans[0], scans[1], matrix).mean()))


def agree(moving: Scan, fixed: Scan) -> bool:
    """Tell whether the headers of two sequences align them already; takes a tenth of a second.

    The quality of a registration is measured on voxels of 4 mm, with the sequences where their headers put them. It is
    0.05 to 0.1 in real patients, and less than 0.03 after a motion of 2 degrees and 3 mm.

    Args:
        moving, fixed: see `register`.
    """
    if _unusable(moving, "") or _unusable(fixed, ""):
        return False
    small, still = (clip(shrink(straighten(scan), MIDDLE)) for scan in (moving, fixed))
    return _quality(Pair(small, still, POINTS[MIDDLE]), np.eye(4)) >= LEAST_QUALITY


def looks_like_ct(scan: Scan) -> bool:
    """Tell whether the values of a scan are Hounsfield units: air lies at -1000."""
    return bool((scan.voxels < AIR_HU).mean() > AIR_SHARE)


def _unusable(scan: Scan, name: str) -> str:
    if looks_like_ct(scan):
        return f"{name} looks like CT"
    return f"{name} has one value everywhere" if np.ptp(scan.voxels) == 0 else ""


def _starts(pair: Pair) -> list[tuple[str, np.ndarray]]:
    """Return the headers as they are, and the best other starts."""
    heads = head_centre(pair.fixed), head_centre(pair.moving)
    places = [("headers", pair.centre, pair.centre), ("fields", pair.fixed.centre, pair.moving.centre)]
    places += [("heads", heads[0], heads[1] + (0, 0, lift)) for lift in LIFTS]
    angles = itertools.product(TURNS, repeat=3)
    turns = [Rotation.from_euler("xyz", three, degrees=True).as_matrix() for three in angles]
    tried = ((start, _motion(turn, here, there)) for start, here, there in places for turn in turns)
    return [("headers", np.eye(4)), *((one.start, one.matrix) for one in _best(pair, tried, STARTS, APART))]


def _best(pair: Pair, found: Iterable[tuple[str, np.ndarray]], most: int, apart: float) -> list[Position]:
    """Return up to `most` positions with the highest scores, each at least `apart` mm from the others."""
    scored = [Position(start, matrix, pair.score(matrix)) for start, matrix in found]
    kept: list[Position] = []
    for one in sorted(scored, key=lambda position: -position.score):
        if len(kept) < most and all(distance(one.matrix, other.matrix, pair.points[::20]) >= apart for other in kept):
            kept.append(one)
    return kept


def _refine(pair: Pair, matrix: np.ndarray, share: float, step: float, last_step: float) -> np.ndarray:
    """Climb to the nearest maximum of the mutual information; `share` of the voxels are sampled, steps are in mm."""
    transform = _to_euler(matrix, pair.centre)
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, SEED)
    # By default ITK blurs the gradient by the largest edge of a voxel. With thick slices that moves the result by 1 mm.
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricFixedMask(to_itk(pair.fixed._replace(voxels=pair.region.astype(np.uint8))))
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step, last_step, ITERATIONS, gradientMagnitudeTolerance=1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(to_itk(pair.fixed), to_itk(pair.moving))
    except RuntimeError:  # hardly any sample lies in the other scan's field of view
        return matrix
    return _from_euler(transform)


def _quality(pair: Pair, matrix: np.ndarray) -> float:
    """Return the score in the head, less its mean at six places DISPLACED mm away."""
    around = []
    for shift in (*np.eye(3), *-np.eye(3)):
        moved = np.eye(4)
        moved[:3, 3] = shift * DISPLACED
        around.append(pair.score(matrix @ moved, head_only=True))
    return pair.score(matrix, head_only=True) - float(np.mean(around))


def _to_euler(matrix: np.ndarray, centre: np.ndarray) -> SimpleITK.Euler3DTransform:
    lps, centre = LPS @ matrix @ LPS, LPS[:3, :3] @ centre
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(lps[:3, :3].ravel().tolist(), 1e-6)
    transform.SetTranslation((lps[:3, :3] @ centre + lps[:3, 3] - centre).tolist())
    return transform


def _from_euler(transform: SimpleITK.Euler3DTransform) -> np.ndarray:
    turn, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    return LPS @ _motion(turn, centre, centre + transform.GetTranslation()) @ LPS


def _motion(turn: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the 4 x 4 motion that turns, and sends the place `here` to `there`."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = there - turn @ here
    return matrix
