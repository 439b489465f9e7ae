"""The slow brightness field of the receiving coil: how strong it is, and its correction with N4."""

from __future__ import annotations

import numpy as np
import SimpleITK
from scipy import ndimage

from shared.preparation.resampling import straighten
from shared.preparation.scan import Scan, from_itk, to_itk

SPACING = 4.0  # mm; the field is smooth, so N4 sees the scan at about this resolution
ITERATIONS = (30, 30, 20)  # N4's fitting levels; each halves the distance of the spline's knots
CONVERGED = 1e-3  # N4 stops a level at this change of the field
FEWEST_VOXELS = 200  # of SPACING; a smaller mask says nothing about a field
UNIT = 1000.0  # N4's histogram has one scale for every image: the median of the mask becomes this value
STRONGEST = 16.0  # the field stays within this factor of its median, as no coil's exceeds it


def correct_bias(scan: Scan, mask: np.ndarray) -> tuple[Scan, dict[str, float]]:
    """Divide a scan by the field that N4 (Tustison 2010) estimates in it.

    N4 runs at about 4 mm; the logarithm of its field is a spline, which is evaluated at every voxel. The median of the
    mask keeps its value. Negative values become 0, and zeros stay 0.

    Args:
        scan: one MR sequence; values finite.
        mask: bool (X, Y, Z), the brain or the head; only it shapes the field.

    Returns:
        The corrected scan (float32) and its figures: "strength" as `field_strength` gives it, "lowest" and "highest"
        of the field in the mask, relative to its median. A mask that is too small, or of one value, leaves the scan
        unchanged with a strength of 0.
    """
    voxels = np.clip(scan.voxels, 0, None).astype(np.float32)
    logarithm = _log_field(scan._replace(voxels=voxels), mask)
    if logarithm is None:
        return scan._replace(voxels=voxels), {"strength": 0.0, "lowest": 1.0, "highest": 1.0}
    inside = mask & (voxels > 0)
    corrected = voxels / np.exp(logarithm)
    corrected *= np.median(voxels[inside]) / np.median(corrected[inside])
    lowest, highest = np.exp(np.percentile(logarithm[inside], (1, 99)) - np.median(logarithm[inside]))
    figures = {"strength": _strength(logarithm[inside]), "lowest": float(lowest), "highest": float(highest)}
    return scan._replace(voxels=corrected.astype(np.float32)), figures


def field_strength(scan: Scan, mask: np.ndarray) -> float:
    """Return how strong the field in a scan is: the standard deviation of its logarithm in the mask.

    About 0.02 to 0.05 is left after a correction; 0.1 means that white matter varies by about a fifth from end to end.

    Args:
        scan: one MR sequence; values finite.
        mask: bool (X, Y, Z), the brain or the head.
    """
    voxels = np.clip(scan.voxels, 0, None).astype(np.float32)
    logarithm = _log_field(scan._replace(voxels=voxels), mask)
    return 0.0 if logarithm is None else _strength(logarithm[mask & (voxels > 0)])


def _strength(logarithm: np.ndarray) -> float:
    return float(np.std(logarithm, dtype=np.float64))


def _log_field(scan: Scan, mask: np.ndarray) -> np.ndarray | None:
    """Return the logarithm of N4's field, float32 (X, Y, Z), or None where there is nothing to estimate it from."""
    inside = mask & (scan.voxels > 0)
    if not inside.any() or np.ptp(scan.voxels[inside]) == 0:
        return None
    values = scan.voxels / np.median(scan.voxels[inside]) * UNIT
    # the average of the mask's own voxels, so that its edge is not darkened by the air outside
    share, total = (_shrink(scan._replace(voxels=part.astype(np.float32))) for part in (inside, values * inside))
    coarse = share.voxels > 0.5
    if coarse.sum() < FEWEST_VOXELS:
        return None
    image = to_itk(total._replace(voxels=np.where(coarse, total.voxels / np.maximum(share.voxels, 0.5), 0)))
    filter_ = SimpleITK.N4BiasFieldCorrectionImageFilter()
    filter_.SetMaximumNumberOfIterations(ITERATIONS)
    filter_.SetConvergenceThreshold(CONVERGED)
    filter_.Execute(image, to_itk(total._replace(voxels=coarse.astype(np.uint8))))
    field = from_itk(filter_.GetLogBiasFieldAsImage(image))
    to_index = np.linalg.inv(field.affine) @ scan.affine
    logarithm = ndimage.affine_transform(
        _extend(field.voxels, coarse),
        to_index[:3, :3],
        to_index[:3, 3],
        output_shape=scan.voxels.shape,
        order=1,
        mode="nearest",
    )
    middle = np.median(logarithm[inside])
    return np.clip(logarithm - middle, -np.log(STRONGEST), np.log(STRONGEST)).astype(np.float32)


def _extend(field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Continue a field outside a mask with its value at the nearest voxel: a spline runs away where it has no data."""
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return field[tuple(nearest)]


def _shrink(scan: Scan) -> Scan:
    straight = straighten(scan)
    factors = [min(size, max(1, round(SPACING / edge))) for edge, size in zip(straight.spacing, straight.voxels.shape)]
    return from_itk(SimpleITK.BinShrink(to_itk(straight), factors))
