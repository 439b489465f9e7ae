"""A whole head around the brain phantom: skull, scalp, eyes, air, face and neck, with their intensities in MR.

The brain is that of `anatomy`. The skull follows the brain's smoothed surface; the parts of the face are ellipsoids and
tubes at places in the template, so that they move, turn and grow with the brain. It is a plausible head for tests of
registration and brain extraction, not an anatomical atlas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage

from brainsegdmlf.phantoms.anatomy import Anatomy, Array, make_anatomy, sigmoid, smooth_noise
from brainsegdmlf.phantoms.contrast import contrast_of, flair_lookalikes, shared_details
from brainsegdmlf.phantoms.dataset import HEAD_MM, HEAD_SIZES
from brainsegdmlf.phantoms.lesions import Lesions, make_lesions

BEFORE, AFTER = (20, 24, 84), (20, 36, 18)  # mm of grid round the brain's box: left, back, below; right, front, above
DISTANCE_GRID = 2.0  # mm; distances are smooth, so they are measured on a coarse grid
SULCI = 8.0  # mm; the skull does not enter gaps of the brain up to twice this wide
SKULL, SMALLEST_SKULL, TABLE = 6.5, 2.5, 1.6  # mm: mean and least thickness, compact bone on both sides of the marrow
SCALP, SKIN, FAT = 5.5, 1.6, 4.0  # mm: scalp, of which skin; fat below the skin
TEMPLE = 11.0  # mm of muscle at the temples
BLUR = 0.55  # mm, partial volume at the borders of the labels
PLAIN_BRAIN = {"adc": (3.0, 0.85, 0.78)}  # CSF, grey, white of images that `contrast` does not know

# brightness relative to white matter; None: that of the fluid in the brain
TISSUES = ("air", "csf", "dura", "bone", "marrow", "fat", "skin", "muscle", "mucosa", "eye", "lens", "nerve", "vein")
INTENSITIES = {
    #         air csf   dura  bone  marrow fat  skin  muscle mucosa eye lens  nerve vein
    "flair": (0, None, 0.45, 0.10, 0.50, 0.80, 0.70, 0.42, 0.95, 0.20, 0.45, 0.95, 0.25),
    "t1":    (0, None, 0.50, 0.12, 1.00, 1.65, 1.00, 0.58, 0.65, 0.22, 0.60, 0.90, 0.55),
    "t1ce":  (0, None, 1.30, 0.12, 1.10, 1.85, 1.10, 0.68, 1.45, 0.24, 0.65, 0.90, 1.75),
    "t2":    (0, None, 0.45, 0.15, 0.90, 1.90, 1.20, 0.50, 2.00, 3.30, 0.55, 1.05, 0.35),
    "adc":   (0, 3.00, 0.30, 0.05, 0.10, 0.10, 0.20, 0.60, 1.00, 3.00, 0.50, 0.85, 0.10),
}  # fmt: skip
FAT_SATURATION = 0.3  # brightness of saturated fat relative to fat
FATTY = ("fat", "marrow")

# parts of the face in painting order, mm in the template; those off the midline are painted on both sides
ELLIPSOIDS = (  # tissue, centre, radii, share of the volume that is filled
    ("bone", (52, -42, -50), (13, 17, 19), 1.0),  # mastoid and its air cells
    ("air", (53, -40, -50), (9, 12, 15), 0.5),
    ("bone", (28, 54, -64), (19, 20, 20), 1.0),  # upper jaw and its sinus
    ("air", (28, 53, -64), (16, 17, 17), 1.0),
    ("bone", (0, 52, -81), (24, 30, 3.5), 1.0),  # palate
    ("mucosa", (0, 54, -60), (16, 34, 19), 1.0),  # nose
    ("air", (7, 56, -60), (6, 31, 17), 0.55),
    ("muscle", (0, 42, -99), (22, 29, 15), 1.0),  # tongue
    ("air", (0, 45, -84.5), (17, 24, 1.8), 1.0),
    ("fat", (30, 46, -37), (19, 27, 18), 1.0),  # orbit
    ("eye", (33, 63, -37), (12.5, 12.5, 12.5), 1.0),
    ("lens", (33, 72.5, -37), (4.5, 2.4, 4.5), 1.0),
    ("air", (8, 48, -39), (7, 22, 11), 0.7),  # ethmoid cells
    ("air", (8, 22, -38), (9, 12, 10), 1.0),  # sphenoid sinus
    ("air", (10, 79, -12), (12, 6, 10), 1.0),  # frontal sinus
    ("air", (6, 90, -69), (4, 11, 4), 1.0),  # nostrils
    ("fat", (48, 42, -72), (9, 14, 14), 0.8),  # cheek
    ("fat", (58, -4, -82), (9, 14, 20), 0.6),  # parotid gland
)  # fmt: skip
TUBES = (  # tissue, points, radius
    ("bone", ((0, 2, -38), (0, -20, -68)), 8.0),  # clivus
    ("marrow", ((0, 2, -38), (0, -20, -68)), 5.5),
    ("bone", ((62, -25, -42), (18, -16, -42)), 8.0),  # petrous bone
    ("air", ((84, -22, -46), (56, -22, -44)), 3.0),  # ear canal
    ("bone", ((46, 64, -52), (66, 30, -48), (66, 0, -46)), 4.0),  # cheekbone
    ("marrow", ((46, 64, -52), (66, 30, -48)), 2.0),
    ("bone", ((48, 12, -66), (46, 32, -106), (24, 70, -119), (0, 79, -121)), 7.0),  # lower jaw
    ("marrow", ((48, 14, -72), (46, 33, -107), (24, 70, -120), (0, 79, -122)), 4.0),
    ("bone", ((24, 42, -91), (17, 68, -91), (0, 76, -91)), 6.0),  # teeth
    ("muscle", ((23, 56, -37), (14, 22, -33)), 2.2),  # muscles of the eye
    ("muscle", ((44, 56, -37), (20, 22, -33)), 2.2),
    ("muscle", ((33, 56, -26), (16, 22, -30)), 2.0),
    ("muscle", ((33, 56, -48), (16, 22, -36)), 2.0),
    ("nerve", ((33, 50, -37), (13, 16, -31)), 2.2),
    ("air", ((0, 8, -66), (0, -4, -100), (0, 4, -176)), 6.5),  # throat
    ("csf", ((0, -40, -64), (0, -46, -90), (0, -46, -190)), 9.5),  # spinal canal
    ("nerve", ((0, -38, -66), (0, -45, -90), (0, -46, -190)), 5.5),
)
VERTEBRAE = tuple(range(-84, -190, -18))  # mm, heights of their middle


@dataclass(frozen=True)
class Head:
    """One head; its axes run towards right, anterior and superior, its origin is the middle of the brain.

    Attributes:
        tissue: uint8 (X, Y, Z), indices into `TISSUES`; the brain itself is in `anatomy`.
        affine: 4 x 4, voxel indices of `tissue` to mm.
        box: where in `tissue` the grid of `anatomy` lies.
        anatomy: the brain.
        lesions: its lesions, on the grid of `anatomy`.
    """

    tissue: Array
    affine: Array
    box: tuple[slice, ...]
    anatomy: Anatomy
    lesions: Lesions

    @property
    def spacing(self) -> float:
        """Edge of a voxel in mm."""
        return float(self.affine[0, 0])

    def enlarge(self, field: Array) -> Array:
        """Return a map of the brain's grid on the head's grid, 0 outside."""
        out = np.zeros(self.tissue.shape, np.float32)
        out[self.box] = field
        return out

    def brain(self) -> Array:
        """Return the share of brain in every voxel, float32 (X, Y, Z) in [0, 1]; fluid in the sulci belongs to it."""
        return self.enlarge(sigmoid(self.anatomy.depth / (0.4 * self.spacing)))


def make_head(rng: np.random.Generator, spacing: float) -> Head:
    """Draw a head with its brain and lesions.

    Args:
        rng: random generator; the same seed gives the same head.
        spacing: mm per voxel.
    """
    brain, spots, around = rng.spawn(3)
    size = float(brain.uniform(*HEAD_SIZES))
    step = max(1, round(DISTANCE_GRID / spacing))
    shape = np.ceil(size * np.array(HEAD_MM) / spacing).astype(int)
    before = np.ceil(np.array(BEFORE) / spacing).astype(int)
    whole = before + shape + np.ceil(np.array(AFTER) / spacing).astype(int)
    whole += -whole % step  # a whole number of cells of the coarse grid
    anatomy = make_anatomy(brain, shape.tolist(), [spacing] * 3, np.eye(3) / size)
    lesions = make_lesions(spots, anatomy, [spacing] * 3)
    box = tuple(slice(start, start + n) for start, n in zip(before.tolist(), shape.tolist()))
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = -spacing * (before + (shape - 1) / 2)
    depth = np.full(whole, -1, np.float32)
    depth[box] = anatomy.depth
    tissue = _Painter(around, depth, _to_template(anatomy, before), spacing, step).paint()
    return Head(tissue, affine, box, anatomy, lesions)


def make_image(rng: np.random.Generator, head: Head, name: str, details: dict[str, Array], bright: Array) -> Array:
    """Return the noise-free image of a head: float32 (X, Y, Z), white matter is about 1.

    Args:
        rng: random generator.
        head: the head.
        name: of `INTENSITIES`.
        details, bright: of `make_details`.
    """
    anatomy = head.anatomy
    if name in PLAIN_BRAIN:
        fractions = (anatomy.csf, anatomy.gm, anatomy.wm)
        brain = sum(mean * share for mean, share in zip(PLAIN_BRAIN[name], fractions)) + 0.4 * head.lesions.volume
    else:
        brain = contrast_of(name, rng, anatomy, head.lesions, details, bright, hard=False)
    fluid = float(np.median(brain[(anatomy.csf > 0.95) & (anatomy.depth > 1)]))
    saturation = FAT_SATURATION if name == "flair" and rng.random() < 0.5 else 1.0
    means = np.array([fluid if mean is None else mean * rng.uniform(0.88, 1.12) for mean in INTENSITIES[name]])
    means[[TISSUES.index(tissue) for tissue in FATTY]] *= saturation
    image = means.astype(np.float32)[head.tissue]
    spacing = [head.spacing] * 3
    image *= 1 + smooth_noise(rng, image.shape, spacing, 14.0, 5.0, amplitudes=(0.06, 0.05))
    image = ndimage.gaussian_filter(image, BLUR / head.spacing, truncate=3)
    share = sigmoid(anatomy.depth / (0.4 * head.spacing)).astype(np.float32)
    texture = 1 + smooth_noise(rng, brain.shape, spacing, 12.0, 4.0, amplitudes=(0.012, 0.015))
    image[head.box] += share * (brain * texture - image[head.box])
    return np.maximum(image, 0)


def make_details(rng: np.random.Generator, head: Head) -> tuple[dict[str, Array], Array]:
    """Draw what all images of a head share: vessels, plexus and the like, and bright spots that are no lesions."""
    spacing = [head.spacing] * 3
    return shared_details(rng, head.anatomy, spacing), flair_lookalikes(rng, head.anatomy, spacing, False)


def _to_template(anatomy: Anatomy, before: Array) -> Array:
    """Fit the affine map (3 x 4) from indices of the head's grid to the template: that of the brain, unwarped."""
    index = np.stack(np.meshgrid(*(np.arange(0, n, 6) for n in anatomy.wm.shape), indexing="ij"))
    places = np.vstack([index.reshape(3, -1) + before[:, None], np.ones((1, index[0].size))])
    targets = anatomy.mni[:, ::6, ::6, ::6].reshape(3, -1)
    return np.linalg.lstsq(places.T, targets.T, rcond=None)[0].T


class _Painter:
    """Paint the labels of one head.

    Args:
        rng: random generator.
        depth: (X, Y, Z), distance below the brain's surface in mm; only its sign counts.
        to_template: 3 x 4, voxel indices to mm in the template.
        spacing: mm per voxel.
        step: voxels per cell of the grid on which distances are measured.
    """

    def __init__(self, rng: np.random.Generator, depth: Array, to_template: Array, spacing: float, step: int) -> None:
        self.rng, self.to_template, self.spacing, self.step = rng, to_template, spacing, step
        self.shape = depth.shape
        self.tissue = np.zeros(self.shape, np.uint8)
        self.cell = spacing * step
        small = torch.nn.functional.avg_pool3d(torch.from_numpy((depth > 0).astype(np.float32))[None, None], step)
        self.small_brain = small[0, 0].numpy() > 0.5
        centres = np.indices(self.small_brain.shape, dtype=np.float32) * step + (step - 1) / 2
        self.small_places = self._in_template(centres)

    def paint(self) -> Array:
        """Return the labels, uint8 (X, Y, Z)."""
        x, y, z = self.small_places
        temple = np.exp(-(((y - 26) / 30) ** 2) - ((z + 16) / 30) ** 2) * sigmoid((np.abs(x) - 42) / 4)
        thickness = SKULL + 1.2 * self._small_noise(35.0) - 3.0 * temple - 2.0 * sigmoid((-38 - z) / 4)
        thickness = np.maximum(thickness, SMALLEST_SKULL)
        skull = self._skull_distance()
        scalp = thickness + TEMPLE * temple + SCALP + 0.8 * self._small_noise(50.0)
        head = (skull < scalp) | self._face() | self._neck() | self._ears()
        head = ndimage.gaussian_filter(head.astype(np.float32), 3.0 / self.cell) > 0.5
        below = ndimage.gaussian_filter(-self._signed_distance(head), 2.0 / self.cell)
        fat = SKIN + FAT * (1 + 0.25 * self._small_noise(25.0))
        skull, below, thickness, fat = (self._enlarge(field) for field in (skull, below, thickness, fat))
        self._layers(skull, below, thickness, fat)
        self._parts((skull > SMALLEST_SKULL * 0.8) & (below > SKIN))
        self._inside(skull)
        return self.tissue

    def _layers(self, skull: Array, below: Array, thickness: Array, fat: Array) -> None:
        """Paint skin, fat and muscle from the outside, then the bone."""
        self._put(below > 0, "skin")
        self._put(below > SKIN, "fat")
        self._put(below > fat, "muscle")
        sheets = np.abs(smooth_noise(self.rng, self.shape, [self.spacing] * 3, 22.0, 7.0, amplitudes=(1.0, 0.25)))
        self._put((below > fat) & (sheets < 0.16) & (skull > thickness + 4), "fat")
        bone = (skull < thickness) & (below > SKIN)
        self._put(bone, "bone")
        self._put(bone & (skull > TABLE) & (skull < thickness - TABLE), "marrow")

    def _parts(self, free: Array) -> None:
        """Paint the parts of face and neck, where `free` leaves space for them."""
        for height in VERTEBRAE:
            for tissue, rim in (("bone", 1.5), ("marrow", 0.0)):
                self._ellipsoid(tissue, (0, -27, height), (12 + rim, 7 + rim, 7 + rim), free)
                self._ellipsoid(tissue, (0, -66, height - 5), (3 + rim, 12 + rim, 4 + rim), free)
        for tissue, centre, radii, share in ELLIPSOIDS:
            for side in (1, -1) if centre[0] else (1,):
                self._ellipsoid(tissue, (side * centre[0], *centre[1:]), radii, free, share)
        for tissue, points, radius in TUBES:
            for side in (1, -1) if points[0][0] else (1,):
                mirrored = [(side * point[0], *point[1:]) for point in points]
                for start, end in pairwise(mirrored):
                    self._tube(tissue, start, end, radius, free)

    def _inside(self, skull: Array) -> None:
        """Paint what lies between skull and brain: fluid, dura, and the large vein below the vault."""
        self._put(skull < 0, "csf")
        self._put((skull < 0.4) & (skull > -0.9), "dura")
        x, y, z = self._in_template(np.indices(self.shape, dtype=np.float32))
        channel = (np.abs(x) < 3.0 - 0.5 * skull) & (np.abs(skull + 1) < 3)
        self._put(channel & (y < 55) & (z > -15) & ((z > 30) | (y < -60)), "vein")
        self._put_canal()

    def _put_canal(self) -> None:
        """Open the skull towards the spinal canal."""
        everywhere = np.ones(self.shape, bool)
        for tissue, points, radius in TUBES[-2:]:
            self._tube(tissue, points[0], points[1], radius, everywhere)

    def _skull_distance(self) -> Array:
        """Return the distance outside the inner surface of the skull on the coarse grid, mm, negative inside."""
        far = ndimage.distance_transform_edt(~self.small_brain, sampling=self.cell)
        closed = ndimage.distance_transform_edt(far <= SULCI, sampling=self.cell) > SULCI
        distance = ndimage.gaussian_filter(self._signed_distance(closed), 2.5 / self.cell)
        return distance - np.clip(2.2 + 0.7 * self._small_noise(45.0), 1.0, 4.0)

    def _face(self) -> Array:
        x, y, z = self.small_places
        half_width = np.interp(z, (-125, -60, -25, 0), (47, 66, 68, 60))
        front = np.interp(z, (-132, -124, -100, -84, -40, -18, 0), (60, 84, 84, 90, 82, 84, 80))
        face = (np.abs(x) / half_width) ** 2.6 + (np.maximum(y + 10, 0) / (front + 10)) ** 2.6 < 1
        nose = (x / np.interp(z, (-70, -30), (13, 7))) ** 2 + ((y - 80) / np.interp(z, (-66, -25), (27, 6))) ** 2 < 1
        return (face & (z < 0) & (z > -130) & (y > -30)) | (nose & (z > -72) & (z < -25) & (y > 70))

    def _neck(self) -> Array:
        x, y, z = self.small_places
        back = np.interp(z, (-150, -110, -60), (60, 56, 66))
        reach = np.where(y > -32, 46, back)
        return ((x / 58) ** 2 + ((y + 32) / reach) ** 2 < 1) & (z < -45)

    def _ears(self) -> Array:
        x, y, z = self.small_places
        flap = ((np.abs(x) - 72 + 0.3 * (y + 25)) / 5) ** 2 + ((y + 32) / 17) ** 2 + ((z + 44) / 29) ** 2 < 1
        return flap & (np.abs(x) > 60)

    def _ellipsoid(
        self, tissue: str, centre: Sequence[float], radii: Sequence[float], free: Array, share: float = 1.0
    ) -> None:
        box = self._box(np.array([centre]), max(radii))
        if min(part.stop - part.start for part in box) < 1:
            return
        places = self._in_template(self._indices(box))
        away = np.sqrt(sum(((places[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3)))
        inside = (away < 1) & free[box]
        if share < 1:  # cells with walls, or parts of a gland
            noise = smooth_noise(self.rng, away.shape, [self.spacing] * 3, 4.0)
            inside &= noise < np.quantile(noise, share)
        self.tissue[box][inside] = TISSUES.index(tissue)

    def _tube(self, tissue: str, start: Sequence[float], end: Sequence[float], radius: float, free: Array) -> None:
        first, last = np.array(start, float), np.array(end, float)
        box = self._box(np.array([first, last]), radius)
        if min(part.stop - part.start for part in box) < 1:
            return
        places = self._in_template(self._indices(box)) - first[:, None, None, None]
        along = last - first
        part = np.clip(np.tensordot(along / (along @ along), places, 1), 0, 1)
        away = np.sqrt(((places - along[:, None, None, None] * part) ** 2).sum(0))
        self.tissue[box][(away < radius) & free[box]] = TISSUES.index(tissue)

    def _put(self, where: Array, tissue: str) -> None:
        self.tissue[where] = TISSUES.index(tissue)

    def _box(self, points: Array, radius: float) -> tuple[slice, ...]:
        """Return the part of the grid that holds all places within `radius` of `points` (N, 3) of the template."""
        matrix, offset = self.to_template[:, :3], self.to_template[:, 3]
        index = np.linalg.solve(matrix, (points - offset).T)
        reach = 1.2 * radius / self.spacing + 1
        low = np.clip(np.floor(index.min(1) - reach), 0, self.shape).astype(int)
        high = np.clip(np.ceil(index.max(1) + reach) + 1, 0, self.shape).astype(int)
        return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist()))

    def _indices(self, box: tuple[slice, ...]) -> Array:
        start = np.array([part.start for part in box], np.float32)
        return np.indices([part.stop - part.start for part in box], np.float32) + start[:, None, None, None]

    def _in_template(self, index: Array) -> Array:
        matrix = self.to_template.astype(np.float32)
        return np.tensordot(matrix[:, :3], index, 1) + matrix[:, 3, None, None, None]

    def _signed_distance(self, mask: Array) -> Array:
        """Return the distance to the border of a mask of the coarse grid in mm, negative inside, float32."""
        outside = ndimage.distance_transform_edt(~mask, sampling=self.cell)
        return (outside - ndimage.distance_transform_edt(mask, sampling=self.cell)).astype(np.float32)

    def _small_noise(self, scale: float) -> Array:
        return smooth_noise(self.rng, self.small_brain.shape, [self.cell] * 3, scale)

    def _enlarge(self, field: Array) -> Array:
        """Interpolate a field of the coarse grid to the head's grid."""
        batch = torch.from_numpy(np.ascontiguousarray(field, dtype=np.float32))[None, None]
        return torch.nn.functional.interpolate(batch, self.shape, mode="trilinear", align_corners=False)[0, 0].numpy()
