"""Synthetic scans of any contrast, made from label maps of whole heads, to train the brain extraction.

As in SynthSeg (Billot 2023) and SynthStrip (Hoopes 2022), every label gets a random intensity, so that a network cannot
rely on any contrast. In most scans the intensities follow a real sequence instead. Then come surface coils,
thick slices, a limited field of view, lesions, noise, and in some scans a stripped skull.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import grid_sample

from brainsegdmlf.phantoms.anatomy import Array, smooth_noise
from shared.core.errors import InputError
from shared.preparation.brain import FIELD, LARGEST_DISTANCE, SPACING, scale

GRID = FIELD  # voxels of a scan; 200 x 240 x 200 mm
STEPS_PER_MM = 10  # of stored distances, which are int8
CLOSING = 4  # mm; sulci narrower than twice this belong to the brain
SUBSAMPLES = 4  # points per voxel, for partial volume
TISSUES = {  # of each class of the head maps, by its name without "left" and "right" or by its FreeSurfer number
    "background": "air", "CSF": "csf", "lateral ventricle": "csf", "inferior lateral ventricle": "csf",
    "third ventricle": "csf", "fourth ventricle": "csf", "fifth ventricle": "csf", "cerebral white matter": "white",
    "cerebellar white matter": "white", "brain stem": "white", "ventral DC": "white", "optic chiasm": "white",
    "vessel": "vessel", 502: "vessel", 506: "eye", 507: "soft", 508: "muscle", 509: "mucosa", 511: "skin",
    512: "cord", 514: "vein", 515: "bone", 516: "marrow", 530: "white",
}  # fmt: skip
NOT_BRAIN = ("CSF", "optic chiasm")  # the fluid around the brain; a chiasm would draw the mask towards the orbits
BRIGHTEST_TISSUE = 2.0  # fat; white matter has 0.4 to 0.7
CUT = 0.3  # share of scans that end within the brain, below or above
REALISTIC = 0.7  # share of scans whose intensities follow a real sequence
OUTSIDE = 500  # FreeSurfer numbers from here on lie outside the brain
SEQUENCES = {  # typical intensities, of the brightest tissue
    "t1": dict(air=0, csf=0.15, grey=0.5, white=0.7, vessel=0.5, eye=0.15, soft=0.45, muscle=0.4, mucosa=0.5,
               skin=0.8, cord=0.65, vein=0.35, bone=0.08, marrow=0.7),
    "t1ce": dict(air=0, csf=0.15, grey=0.5, white=0.65, vessel=0.95, eye=0.15, soft=0.5, muscle=0.45, mucosa=0.9,
                 skin=0.8, cord=0.6, vein=0.95, bone=0.1, marrow=0.7),
    "t2": dict(air=0, csf=0.95, grey=0.6, white=0.42, vessel=0.1, eye=0.95, soft=0.35, muscle=0.2, mucosa=0.8,
               skin=0.6, cord=0.45, vein=0.2, bone=0.06, marrow=0.5),
    "flair": dict(air=0, csf=0.1, grey=0.65, white=0.52, vessel=0.15, eye=0.12, soft=0.35, muscle=0.25, mucosa=0.6,
                  skin=0.6, cord=0.5, vein=0.25, bone=0.06, marrow=0.45),
    "pd": dict(air=0, csf=0.75, grey=0.85, white=0.7, vessel=0.3, eye=0.8, soft=0.6, muscle=0.5, mucosa=0.7,
               skin=0.7, cord=0.7, vein=0.4, bone=0.15, marrow=0.5),
}  # fmt: skip


class Head(NamedTuple):
    """One head on a grid of 1 mm, axes to right, anterior and superior.

    Args:
        labels: uint8 (X, Y, Z), indices into the tissue table.
        distance: int8 (X, Y, Z), signed distance to the brain's surface in tenths of a millimetre, negative inside.
        centre: (3,), middle of the brain in voxels.
    """

    labels: torch.Tensor
    distance: torch.Tensor
    centre: Array


def head_files(heads_dir: str | os.PathLike[str], heads: Sequence[str] | None = None) -> list[Path]:
    """Return the label maps of a folder in the order of their names.

    Args:
        heads_dir: the folder.
        heads: names of the files that may be used, such as "head_01.nii.gz"; None for all.

    Raises:
        InputError: the folder holds no label maps that may be used, or no ``labels.json``.
    """
    folder = Path(heads_dir)
    files = [file for file in sorted(folder.glob("head_*.nii.gz")) if heads is None or file.name in heads]
    if not files or not (folder / "labels.json").is_file():
        raise InputError(f"{folder} holds no label maps of heads (labels.json, head_*.nii.gz): correct the folder")
    return files


def load_heads(heads_dir: str | Path, numbers: Sequence[int] | None = None) -> tuple[list[Head], list[str]]:
    """Read head label maps and measure the distance to the surface of each brain.

    The brain is everything inside the pia: tissue and ventricles, and the fluid of sulci up to 8 mm wide.

    Args:
        heads_dir: folder with ``labels.json`` (index -> name, freesurfer) and ``head_*.nii.gz`` at 1 mm.
        numbers: which files, counted from 0 in the order of their names; None for all.

    Returns:
        The heads, and the tissue of every label index.

    Raises:
        InputError: the folder holds no label maps.
    """
    folder = Path(heads_dir)
    files = head_files(folder)
    names = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    classes = [names[str(index)] for index in range(len(names))]
    tissues = [_tissue(entry["name"], entry["freesurfer"]) for entry in classes]
    inside = np.array([0 < entry["freesurfer"] < OUTSIDE and entry["name"] not in NOT_BRAIN for entry in classes])
    chosen = files if numbers is None else [files[number] for number in numbers]
    return [_read(file, inside) for file in chosen], tissues


def _tissue(name: str, number: int) -> str:
    plain = name.removeprefix("left ").removeprefix("right ")
    return str(TISSUES.get(number) or TISSUES.get(plain) or "grey")


def _read(file: Path, inside: Array) -> Head:
    image = nib.as_closest_canonical(nib.load(file))  # type: ignore[no-untyped-call]
    labels = np.asarray(image.dataobj).astype(np.uint8)
    distance = brain_distance(inside[labels])
    middle = np.argwhere(distance[::4, ::4, ::4] < 0).mean(0) * 4
    stored = np.rint(distance * STEPS_PER_MM).astype(np.int8)
    return Head(torch.from_numpy(labels), torch.from_numpy(stored), middle)


def brain_distance(tissue: Array) -> Array:
    """Measure the distance to the surface of the closed brain.

    Args:
        tissue: bool (X, Y, Z) at 1 mm, brain tissue and ventricles.

    Returns:
        float32 (X, Y, Z), mm, negative inside, clipped at +-12.
    """
    padded = np.pad(tissue, CLOSING + 1)
    near = ndimage.distance_transform_edt(~padded) <= CLOSING
    closed = ndimage.distance_transform_edt(near) > CLOSING
    closed = ndimage.binary_fill_holes(closed)[(slice(CLOSING + 1, -CLOSING - 1),) * 3]
    parts, _ = ndimage.label(closed)
    brain = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    distance = ndimage.distance_transform_edt(~brain) - ndimage.distance_transform_edt(brain)
    distance += np.where(brain, 0.5, -0.5)  # the surface runs between the voxels
    return np.clip(distance, -LARGEST_DISTANCE, LARGEST_DISTANCE).astype(np.float32)


def make_scan(rng: np.random.Generator, head: Head, tissues: Sequence[str]) -> tuple[Array, Array, Array]:
    """Draw one scan of a head.

    Args:
        rng: random generator; the same seed gives the same scan.
        head: its label map.
        tissues: tissue of every label index.

    Returns:
        image: float32 `GRID` in [0, 1], scaled as `shared.preparation.brain` scales a scan.
        distance: float32 `GRID`, mm to the brain's surface, negative inside.
        seen: bool `GRID`, the field of view.
    """
    places, size = _places(rng, head)
    distance = _sample(head.distance, places, "bilinear") / STEPS_PER_MM * size
    image = np.zeros(GRID, np.float32)
    means, spreads = _intensities(rng, tissues)
    textures = _textures(rng, means, tissues)
    for _ in range(SUBSAMPLES):
        shift = rng.uniform(-0.5, 0.5, 3).astype(np.float32) * SPACING
        labels = _sample(head.labels, places + shift[:, None, None, None], "nearest").astype(int)
        image += means[labels] + spreads[labels] * rng.standard_normal(GRID, dtype=np.float32)
        for index, texture in textures.items():
            image += np.where(labels == index, texture, 0)
    image /= SUBSAMPLES
    _add_lesions(rng, image, distance)
    image = np.clip(image, 0, None) * _coil(rng, distance)
    image = _thick_slices(rng, image)
    if rng.random() < 0.12:
        image = image * (distance < rng.uniform(-2, 6) + rng.uniform(0, 2) * _noise(rng, 20.0))
    noise = rng.uniform(0, 0.08) * image.max()
    parts = rng.standard_normal((2, *GRID), dtype=np.float32) * noise
    image = np.hypot(image + parts[0], parts[1]) if rng.random() < 0.5 else np.where(image > 0, image + parts[0], 0)
    seen = _field_of_view(rng, distance)
    image = np.clip(image, 0, None) * seen
    return scale(image) ** np.exp(rng.normal(0, 0.25)).astype(np.float32), distance, seen


class AnyContrastScans(torch.utils.data.Dataset):
    """Scans of random heads; the scan of an index is always the same.

    Args:
        heads, tissues: see `load_heads`.
        count: number of scans.
        seed: other seeds give other scans.

    Items are tensors ``image``, ``distance`` (float32) and ``seen`` (bool), each (1, X, Y, Z), see `make_scan`.
    """

    def __init__(self, heads: Sequence[Head], tissues: Sequence[str], count: int, seed: int = 0) -> None:
        self.heads, self.tissues, self.count, self.seed = heads, tissues, count, seed

    def __len__(self) -> int:
        """Return the number of scans."""
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Draw one scan."""
        rng = np.random.default_rng([self.seed, index])
        head = self.heads[int(rng.integers(len(self.heads)))]
        parts = zip(("image", "distance", "seen"), make_scan(rng, head, self.tissues))
        return {name: torch.from_numpy(array)[None] for name, array in parts}


def _noise(rng: np.random.Generator, *scales: float) -> Array:
    return smooth_noise(rng, GRID, (SPACING,) * 3, *scales, amplitudes=(1.0,) * len(scales))


def _places(rng: np.random.Generator, head: Head) -> tuple[Array, float]:
    """Draw where in the head each voxel lies (3, X, Y, Z), in voxels of the head, and the size of the drawn head."""
    angles = np.deg2rad(rng.normal(0, 10, 3))
    cos, sin = np.cos(angles), np.sin(angles)
    turn = (
        np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
        @ np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
        @ np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    )
    size = rng.uniform(0.85, 1.15)
    mirror = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0])
    matrix = mirror @ (turn + np.triu(rng.normal(0, 0.03, (3, 3)), 1)) / (size * rng.uniform(0.95, 1.05, 3))
    middle = np.array(GRID, np.float32)[:, None, None, None] / 2
    offset = (np.indices(GRID, dtype=np.float32) - middle) * SPACING
    places = np.einsum("ij,jxyz->ixyz", matrix.astype(np.float32), offset)
    shift = rng.uniform(-25, 25, 3) + np.array([0, 0, -15])  # heads reach further down than up from the brain
    places += (head.centre + shift).astype(np.float32)[:, None, None, None]
    for axis in range(3):
        places[axis] += rng.uniform(0, 4) * _noise(rng, 60.0) + rng.uniform(0, 1.5) * _noise(rng, 20.0)
    return places, float(size)


def _sample(volume: torch.Tensor, places: Array, mode: str) -> Array:
    """Read a volume of a head at `places`; the values of its border continue outside."""
    size = torch.tensor(volume.shape, dtype=torch.float32)
    grid = torch.from_numpy(places).movedim(0, -1)[None] * 2 / (size - 1) - 1
    air = (grid.abs() > 1).any(-1)[0] if mode == "nearest" else None
    values = grid_sample(
        volume[None, None].float(), grid.flip(-1), mode=mode, padding_mode="border", align_corners=True
    )[0, 0]
    return (values if air is None else values.masked_fill(air, 0)).numpy()


def _intensities(rng: np.random.Generator, tissues: Sequence[str]) -> tuple[Array, Array]:
    """Draw the mean and the spread of every label: at random, or as in a real sequence."""
    kinds = sorted(set(tissues))
    if rng.random() > REALISTIC:
        means = rng.uniform(0, 1, len(tissues))  # left and right are drawn apart; so are the nuclei of the brain
        if rng.random() < 0.6:
            by_kind = dict(zip(kinds, rng.uniform(0, 1, len(kinds))))
            means = np.array([by_kind[kind] for kind in tissues]) + rng.normal(0, 0.05, len(tissues))
        if rng.random() < 0.8:
            means[0] = rng.uniform(0, 0.05)
        spreads = rng.uniform(0.0, 0.12, len(tissues))
    else:
        table = dict(SEQUENCES[str(rng.choice(sorted(SEQUENCES)))])
        fat = rng.random()
        if fat < 0.3:
            table.update(skin=0.15, marrow=0.12)  # fat saturation
        elif fat < 0.7:  # fat outshines the brain, as in fast spin echo
            table.update({kind: table[kind] * rng.uniform(1, 2.5) for kind in ("skin", "marrow")})
        jitter = dict(zip(kinds, rng.normal(0, 0.08, len(kinds))))
        means = np.array([table[kind] + jitter[kind] * (kind != "air") for kind in tissues])
        means += rng.normal(0, 0.03, len(tissues)) * (means > 0)
        spreads = rng.uniform(0.01, 0.06, len(tissues))
    return np.clip(means, 0, BRIGHTEST_TISSUE).astype(np.float32), spreads.astype(np.float32)


def _textures(rng: np.random.Generator, means: Array, tissues: Sequence[str]) -> dict[int, Array]:
    """Divide the soft tissue and the skin of the head at random into parts, such as fat and muscle."""
    found = {}
    for index, kind in enumerate(tissues):
        if kind in ("soft", "skin"):
            border = rng.normal(0, 0.5)
            other = (
                rng.uniform(0, rng.choice([1, BRIGHTEST_TISSUE]))
                if kind == "soft" or rng.random() < 0.3
                else means[index]
            )
            texture = np.where(_noise(rng, rng.uniform(8, 40)) > border, other - means[index], 0)
            found[index] = (texture + rng.uniform(0, 0.15) * _noise(rng, 10.0)).astype(np.float32)
    return found


def _add_lesions(rng: np.random.Generator, image: Array, distance: Array) -> None:
    """Paint lesions of random size and brightness into the brain, up to its surface."""
    inside = np.argwhere(distance < 0)
    for _ in range(rng.poisson(1.5)):
        centre = inside[rng.integers(len(inside))]
        radius = rng.uniform(1, 4) if rng.random() < 0.8 else rng.uniform(4, 12)  # voxels
        low = np.maximum(centre - int(2 * radius) - 1, 0)
        box = tuple(slice(a, b) for a, b in zip(low, np.minimum(centre + int(2 * radius) + 2, GRID)))
        index = np.indices([s.stop - s.start for s in box]) + low[:, None, None, None]
        axes = rng.uniform(0.6, 1.4, 3)[:, None, None, None] * radius
        reach = np.sqrt((((index - centre[:, None, None, None]) / axes) ** 2).sum(0))
        share = np.clip((1 - reach) * radius + 0.5, 0, 1) * (distance[box] < 0.5) * rng.uniform(0.5, 1)
        image[box] = image[box] * (1 - share) + share * rng.uniform(0, 1.2)


def _coil(rng: np.random.Generator, distance: Array) -> Array:
    """Draw the sensitivity of the receiving coil: a smooth field, at times that of a coil on the surface."""
    field = np.exp(rng.uniform(0, 0.35) * _noise(rng, rng.uniform(80, 200)))
    if rng.random() < 0.25:
        side = rng.standard_normal(3)
        coil = np.array(GRID) / 2 + side / np.linalg.norm(side) * 40  # 100 mm from the middle
        reach = np.linalg.norm(np.indices(GRID) - coil[:, None, None, None], axis=0) * SPACING
        field = field * np.exp(-reach / rng.uniform(70, 200)).astype(np.float32)
    return field.astype(np.float32)


def _thick_slices(rng: np.random.Generator, image: Array) -> Array:
    """Blur a little; in most scans take slices of 2.5 to 6 mm along one axis and interpolate between them."""
    sigma = np.repeat(rng.uniform(0.0, 0.5), 3)
    if rng.random() < 0.3:
        return ndimage.gaussian_filter(image, sigma)
    axis, thickness = rng.choice(3, p=[0.15, 0.15, 0.7]), rng.uniform(2.5, 6) / SPACING
    sigma[axis] = thickness / 2.355
    blurred = ndimage.gaussian_filter(image, sigma)
    count = max(int(GRID[axis] / thickness), 2)
    places = np.linspace(0, GRID[axis] - 1, count)
    slices = np.take(blurred, np.rint(places).astype(int), axis)
    where = np.interp(np.arange(GRID[axis]), places, np.arange(count))
    low = np.minimum(where.astype(int), count - 2)
    share = (where - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.take(slices, low, axis) * (1 - share) + np.take(slices, low + 1, axis) * share


def _field_of_view(rng: np.random.Generator, distance: Array) -> Array:
    """Draw a box that the scan covers: often the brain with some margin, at times a part of the brain."""
    seen = np.ones(GRID, bool)
    inside = distance < 0
    for axis in range(3):
        reach = np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis})))
        low, high = (reach[0], reach[-1]) if len(reach) else (0, GRID[axis] - 1)
        cuts = rng.random(2) < (0.7 if axis == 2 else 0.2)
        margins = rng.uniform(-2 if axis == 2 else 1, 16, 2)
        if axis == 2 and rng.random() < CUT:
            margins = rng.uniform(-16, 0, 2)
        first = int(max(low - margins[0], 0)) if cuts[0] else 0
        last = int(min(high + margins[1], GRID[axis] - 1)) if cuts[1] else GRID[axis] - 1
        index = np.arange(GRID[axis])
        keep = (index >= first) & (index <= last)
        seen &= keep.reshape([-1 if a == axis else 1 for a in range(3)])
    return seen
