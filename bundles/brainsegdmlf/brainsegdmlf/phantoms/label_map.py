"""Heads from label maps: the anatomy of real people in place of the MNI template.

Every label has its share of grey and white matter. Blurring by less than a voxel gives the borders their partial
volume. An affine registration to the MNI template says where each voxel lies in standard space.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
import torch
from scipy import ndimage

from brainsegdmlf.phantoms.anatomy import (
    CHANNELS,
    TEMPLATE_MARGIN,
    Array,
    Template,
    load_template,
    signed_distance,
    ventricle_distances,
)
from brainsegdmlf.phantoms.any_contrast import NOT_BRAIN, OUTSIDE

FLUID = ("lateral ventricle", "inferior lateral ventricle", "third ventricle", "fourth ventricle", "fifth ventricle")
VENTRICLES = tuple(name for name in FLUID if name != "fourth ventricle")
WHITE = {  # share of white matter; the other labels of the brain are grey
    "cerebral white matter": 1.0, "cerebellar white matter": 1.0, "lesion": 1.0, "vessel": 0.8, "brain stem": 0.9,
    "ventral DC": 0.7, "thalamus": 0.45, "pallidum": 0.6, "substantia": 0.5,
}  # fmt: skip
DEEP = ("thalamus", "caudate", "putamen", "pallidum", "accumbens")
CORTEX = ("cerebral cortex", "cerebellar cortex")
CLOSING = 9.0  # mm; sulci narrower than twice this belong to the brain
VEINS = (502, 514)  # FreeSurfer numbers of vessels between the parts of the brain
BLUR = 0.7  # voxels, of the fractions
LEAST = 3e-4  # added to fractions, so that their logarithm is at least -8
STEPS = dict(csf=1 / 16, gm=1 / 16, wm=1 / 16, depth=1 / 8, ventricle_distance=1 / 5, cortex_distance=1 / 8, deep=1e-2)
FIT_SPACING, FIT_BLUR = 5.0, 3.0  # mm


@functools.lru_cache(maxsize=32)
def load_head(file: Path) -> Template:
    """Read one label map and register it to the MNI template, once per process (about 30 MB).

    Args:
        file: label map at 1 mm; ``labels.json`` beside it gives name and FreeSurfer number of every index.
    """
    names = json.loads((file.parent / "labels.json").read_text(encoding="utf-8"))
    classes = [names[str(index)] for index in range(len(names))]
    image = nib.as_closest_canonical(nib.load(file))  # type: ignore[no-untyped-call]
    return head_template(np.asarray(image.dataobj).astype(np.uint8), classes)


def head_template(labels: Array, classes: Sequence[dict[str, object]]) -> Template:
    """Turn a label map into an anatomy from which `make_anatomy` draws heads.

    Args:
        labels: uint8 (X, Y, Z) at 1 mm, axes to right, anterior and superior.
        classes: ``name`` and ``freesurfer`` number of every label; left and right are treated alike.
    """
    plain = [str(entry["name"]).removeprefix("left ").removeprefix("right ") for entry in classes]
    brain = [0 < int(str(entry["freesurfer"])) < OUTSIDE and entry["name"] not in NOT_BRAIN for entry in classes]
    labels = np.pad(labels[ndimage.find_objects(np.array(brain, np.uint8)[labels])[0]], TEMPLATE_MARGIN)
    around = np.array([entry["name"] == "CSF" or entry["freesurfer"] in VEINS for entry in classes])
    inside = _skull_stripped(np.array(brain)[labels], around[labels])

    def among(*chosen: str) -> Array:
        return np.array([name in chosen for name in plain])[labels] & inside

    solid = np.array(brain) & ~np.array([name in FLUID for name in plain])
    share = np.array([WHITE.get(name, 0.0) for name in plain], np.float32)
    white = ndimage.gaussian_filter(np.where(solid, share, 0).astype(np.float32)[labels] * inside, BLUR)
    grey = ndimage.gaussian_filter(np.where(solid, 1 - share, 0).astype(np.float32)[labels] * inside, BLUR)
    fluid = np.clip(1 - white - grey, 0, 1)
    cortex = among(*CORTEX)
    channels = dict(
        csf=np.log(fluid + LEAST),
        gm=np.log(grey + LEAST),
        wm=np.log(white + LEAST),
        depth=-signed_distance(inside, step=2),
        ventricle_distance=ndimage.gaussian_filter(ventricle_distances(among(*VENTRICLES)), BLUR),
        cortex_distance=np.maximum(signed_distance(cortex, step=2), 0),
        deep=ndimage.gaussian_filter(among(*DEEP).astype(np.float32), BLUR),
    )
    stored = [np.clip(np.rint(channels[name] / STEPS[name]), -128, 127).astype(np.int8) for name in CHANNELS]
    volumes = torch.from_numpy(np.stack(stored))[None].contiguous(memory_format=torch.channels_last_3d)
    to_voxels = fit(_looks(fluid, grey, white, inside))
    return Template(
        volumes,
        origin=-np.linalg.solve(to_voxels[:, :3], to_voxels[:, 3]),
        steps=np.array([STEPS[name] for name in CHANNELS], np.float32)[:, None, None, None],
        matrix=to_voxels[:, :3],
        cortex_thinning=0.0,
        ventricle_growth=1.5,
        septum=False,
    )


def _skull_stripped(tissue: Array, fluid: Array) -> Array:
    """Return the brain with the fluid of its sulci, cisterns and fissures, as tools for skull stripping leave it."""
    few = tissue[::2, ::2, ::2]
    near = ndimage.distance_transform_edt(~few, sampling=2) <= CLOSING
    closed = ndimage.distance_transform_edt(near, sampling=2).astype(np.float32) - CLOSING
    closed = ndimage.zoom(closed, np.divide(tissue.shape, few.shape), order=1, grid_mode=False) > 0
    parts, _ = ndimage.label(ndimage.binary_fill_holes(tissue | (closed & fluid)))
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def _looks(fluid: Array, grey: Array, white: Array, inside: Array) -> Array:
    """Return a T1-like image of tissue fractions, 0 outside the brain."""
    return ((0.3 * fluid + 0.7 * grey + white) * inside).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _template_image() -> SimpleITK.Image:
    """Return the T1-like image of the MNI template, blurred, in mm of MNI space."""
    template = load_template()
    log, depth = template.volumes[0, :3].numpy(), template.volumes[0, 3].numpy()
    fluid, grey, white = np.exp(log) / np.exp(log).sum(0)
    return _to_fit(_looks(fluid, grey, white, depth > 0), template.origin)


def _to_fit(image: Array, origin: Sequence[float] | Array) -> SimpleITK.Image:
    """Blur an image (X, Y, Z) at 1 mm and thin it out; `origin` is the position of the first voxel."""
    step = int(FIT_SPACING)
    small = ndimage.gaussian_filter(image, FIT_BLUR)[::step, ::step, ::step]
    out = SimpleITK.GetImageFromArray(np.ascontiguousarray(small.T))
    out.SetSpacing([FIT_SPACING] * 3)
    out.SetOrigin([float(value) for value in origin])
    return out


def fit(image: Array) -> Array:
    """Register a T1-like brain to the MNI template.

    Args:
        image: float32 (X, Y, Z) at 1 mm, with a margin of `TEMPLATE_MARGIN` around the brain.

    Returns:
        3 x 4, from mm in MNI space to voxels of the image.
    """
    fixed, moving = _template_image(), _to_fit(image, (0, 0, 0))
    size, goal = (np.array(shape) - 2 * TEMPLATE_MARGIN for shape in (image.shape, load_template().volumes.shape[2:]))
    start = SimpleITK.AffineTransform(3)
    start.SetMatrix(np.diag(size / goal).ravel().tolist())  # match the boxes of both brains
    start = SimpleITK.CenteredTransformInitializer(
        fixed, moving, start, SimpleITK.CenteredTransformInitializerFilter.MOMENTS
    )
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetNumberOfThreads(1)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.01, 300, gradientMagnitudeTolerance=1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    origin = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.stack([np.array(found.TransformPoint(tuple(row))) - origin for row in np.eye(3)], 1)
    return np.column_stack([matrix, origin])
