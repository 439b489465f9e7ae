"""How well two scans of one head agree at a relative position: normalised mutual information at one resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.metrics import normalized_mutual_information

from shared.preparation.scan import Scan, from_itk, to_itk

BINS = 32  # of the joint histogram, along each scan
SEED = 1
BRIGHTEST = 99.5  # percentile of the values above the lowest; brighter ones are set to it, so that bins are not wasted
DARKEST_TISSUE = 0.6  # of Otsu's threshold
RIM = 8.0  # mm of air round the head that count, so that its outline is seen from both sides
LEAST_OVERLAP = 0.4  # of the reference's head and rim; the score of a position with less is reduced
FEWEST_POINTS = 100  # fewer points in common have no score
THINNEST = 4  # voxels along an axis that shrinking leaves


class Pair:
    """Two scans, and the places in the first one's head at which they are compared.

    Args:
        moving: float32, axes orthogonal.
        fixed: the reference, likewise.
        points: most places.

    Attributes:
        head: bool (X, Y, Z) on the grid of `fixed`.
        region: the head and the air close to it, likewise.
        points: (N, 3) of the region, RAS, mm, in the world of `fixed`.
    """

    def __init__(self, moving: Scan, fixed: Scan, points: int) -> None:
        self.moving, self.fixed = moving, fixed
        self.head = find_head(fixed)
        reach = np.maximum(1, np.round(RIM / fixed.spacing)).astype(int)
        self.region = ndimage.maximum_filter(self.head, 2 * reach + 1)
        places = np.argwhere(self.region)
        if len(places) > points:
            places = places[np.random.default_rng(SEED).choice(len(places), points, replace=False)]
        self.points = places @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        self._values = fixed.voxels[tuple(places.T)]
        self._in_head = self.head[tuple(places.T)]

    @property
    def centre(self) -> np.ndarray:
        """Centre of the points (RAS, mm)."""
        return self.points.mean(0)

    def score(self, matrix: np.ndarray, head_only: bool = False) -> float:
        """Return the normalised mutual information at a position: 0 for unrelated values, 1 for a one-to-one relation.

        Args:
            matrix: 4 x 4, from the world of `fixed` to the world of `moving` (RAS, mm).
            head_only: leave out the rim. The outlines of two different heads agree, their insides do not.
        """
        inside, seen = self._look(matrix)
        overlap = inside.mean()
        if head_only:
            seen, inside = seen[self._in_head[inside]], inside & self._in_head
        values = self._values[inside]
        if len(values) < FEWEST_POINTS or np.ptp(values) == 0 or np.ptp(seen) == 0:
            return 0.0
        shared = normalized_mutual_information(values, seen, bins=BINS) - 1
        return float(shared * min(1.0, overlap / LEAST_OVERLAP))

    def _look(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which points lie in the field of view of `moving`, bool (N,), and its values at those."""
        to_index = np.linalg.inv(self.moving.affine) @ matrix
        index = self.points @ to_index[:3, :3].T + to_index[:3, 3]
        inside = ((index >= -0.5) & (index <= np.array(self.moving.voxels.shape) - 0.5)).all(1)
        return inside, ndimage.map_coordinates(self.moving.voxels, index[inside].T, order=1, mode="nearest")


def find_head(scan: Scan) -> np.ndarray:
    """Return the largest bright piece of a scan with its holes filled: bool (X, Y, Z)."""
    bright = scan.voxels > DARKEST_TISSUE * threshold_otsu(scan.voxels)
    pieces, count = ndimage.label(ndimage.binary_opening(bright))
    if count == 0:
        return bright
    head = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    closed = ndimage.binary_closing(np.pad(head, 3), iterations=3)
    return ndimage.binary_fill_holes(closed)[3:-3, 3:-3, 3:-3]


def head_centre(scan: Scan) -> np.ndarray:
    """Return the centre of the head, or of the field of view where there is none (RAS, mm)."""
    head = find_head(scan)
    middle = np.argwhere(head).mean(0) if head.any() else (np.array(head.shape) - 1) / 2
    return scan.affine[:3, :3] @ middle + scan.affine[:3, 3]


def distance(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> float:
    """Return the mean distance, in mm, between where two 4 x 4 matrices send points (N, 3)."""
    apart = one - other
    return float(np.linalg.norm(points @ apart[:3, :3].T + apart[:3, 3], axis=1).mean())


def clip(scan: Scan) -> Scan:
    """Set the brightest half per cent of a scan to one value; float32."""
    voxels = scan.voxels.astype(np.float32)
    lowest = voxels.min()
    above = voxels[voxels > lowest]
    return scan._replace(voxels=np.clip(voxels, lowest, np.percentile(above, BRIGHTEST) if above.size else lowest))


def shrink(scan: Scan, edge: float) -> Scan:
    """Average whole blocks of voxels whose edges are about `edge` mm; float32."""
    factors = _factors(scan.spacing, scan.voxels.shape, edge)
    image = to_itk(scan._replace(voxels=scan.voxels.astype(np.float32)))
    return from_itk(SimpleITK.BinShrink(image, factors))


def _factors(spacing: np.ndarray, shape: Sequence[int], edge: float) -> list[int]:
    wanted = (int(edge / size + 0.35) for size in spacing)  # 0.35: up to 1.5 times the edge rather than half of it
    return [max(1, min(factor, count // THINNEST)) for factor, count in zip(wanted, shape)]
