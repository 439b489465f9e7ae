"""Raw studies of a whole head, as a scanner gives them, with the truth: to try the preparation, and to test it.

    python bundles/brainsegdmlf/brainsegdmlf/phantoms/raw_study.py --folder raw_study --seed 1 --dicom

Every sequence has its own grid and orientation, the head moves between the sequences, and the skull is there. All of it
is synthetic; the anatomy of the brain comes from the MNI152 template (`dataset.LICENCE`).
"""

from __future__ import annotations

import gzip
import json
import os
import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "prepare.py"))

import fire  # noqa: E402
import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from brainsegdmlf.phantoms.anatomy import Array, smooth_noise  # noqa: E402
from brainsegdmlf.phantoms.contrast import NOISE, SEQUENCES  # noqa: E402
from brainsegdmlf.phantoms.dataset import FULL_SCALE, LICENCE  # noqa: E402
from brainsegdmlf.phantoms.raw_dicom import DATE, PATIENT_ID, TIME, write_dicom  # noqa: E402
from brainsegdmlf.phantoms.raw_protocols import LOCALISER_PLANES, PROTOCOLS, Protocol, RawStudy, RawVolume  # noqa: E402
from brainsegdmlf.phantoms.whole_head import Head, make_details, make_head, make_image  # noqa: E402
from shared.core.errors import InputError  # noqa: E402
from shared.core.files import write_atomic  # noqa: E402

__all__ = ["RawStudy", "RawVolume", "make_raw_study", "write_dicom", "write_nifti", "write_truth"]

FINE, COARSE = 1.0, 2.5  # mm, grid of the head
COARSE_SLICES = 5.0  # mm, of slices of more than 2 mm in coarse studies
PARTS = 4  # samples through a slice, for its partial volume
POSITION = (5.0, 8.0)  # degrees, mm: spread of how the head lies in the scanner
MOVEMENT = (2.0, 2.0)  # degrees, mm: spread of the movement between two sequences
COIL = (0.05, 0.25)  # spread of the logarithm of the coil's field
SURFACE_COIL, SURFACE_REACH = 0.35, (90.0, 220.0)  # how often a study has one; mm in which its signal falls to 1 / e
COIL_DISTANCE = 120.0  # mm from the middle of the head
SLICE_GAIN = 0.015  # differences between the slices of a 2-D sequence
DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def make_raw_study(seed: int, sequences: Sequence[str] = SEQUENCES, coarse: bool = False) -> RawStudy:
    """Make a study; the same arguments give the same arrays on one machine.

    Args:
        seed: any non-negative integer.
        sequences: which of "flair", "t1", "t1ce", "t2" to make; leaving one out does not change the others.
        coarse: voxels of about 2.5 mm, for tests.

    Raises:
        InputError: a sequence is unknown, or none is given.
    """
    if unknown := [name for name in sequences if name not in SEQUENCES]:
        raise InputError(f"unknown sequence {unknown[0]!r}: choose from {', '.join(SEQUENCES)}")
    if not sequences:
        raise InputError(f"no sequence given: choose from {', '.join(SEQUENCES)}")
    anatomy, shared, place, *streams = np.random.default_rng(seed).spawn(5 + len(SEQUENCES))
    head = make_head(anatomy, COARSE if coarse else FINE)
    details, bright = make_details(shared, head)
    brain, lesion = head.brain(), head.enlarge(head.lesions.volume)
    poses, transforms = _poses(place)
    coil = _surface_coil(place, poses["flair"])
    protocols = {name: _coarser(protocol) if coarse else protocol for name, protocol in PROTOCOLS.items()}

    images, brains = {}, {}
    for name, stream in zip(SEQUENCES, streams):
        affine = _plan(stream, protocols[name], poses["flair"])
        if name == "flair":
            flair_affine = affine
            marked = _acquire(lesion, head, poses[name], affine, protocols[name]) > 0.5
        if name in sequences or name == "flair":
            brains[name] = (_acquire(brain, head, poses[name], affine, protocols[name]) > 0.5).astype(np.uint8)
        if name in sequences:
            clean = make_image(stream, head, name, details, bright)
            images[name] = _scan(stream, clean, head, poses[name], affine, protocols[name], coil, NOISE[name])
    first = next(name for name in SEQUENCES if name in sequences)
    scout, diffusion = streams[-2:]
    clean = make_image(scout, head, first, details, bright)
    localiser = []
    for axes in LOCALISER_PLANES:
        protocol = replace(protocols["localiser"], axes=axes)
        affine = _plan(scout, protocol, poses["flair"])
        localiser.append(_scan(scout, clean, head, poses["flair"], affine, protocol, coil, (0.03, 0.05)))
    clean = make_image(diffusion, head, "adc", details, bright)
    affine = _plan(diffusion, protocols["adc"], poses["flair"])
    adc = _scan(diffusion, clean, head, poses["flair"], affine, protocols["adc"], None, (0.05, 0.1))
    return RawStudy(
        seed=seed,
        images={name: images[name] for name in sequences},
        brains=brains,
        lesion=(marked & (brains["flair"] > 0)).astype(np.uint8),
        flair_affine=flair_affine,
        transforms={name: transforms[name] for name in SEQUENCES if name in brains},
        localiser=tuple(localiser),
        adc=adc,
    )


def write_nifti(study: RawStudy, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the sequences and the derived series as dcm2niix does: a volume and a JSON side-car for each.

    Args:
        study: the study.
        folder: created if missing.

    Returns:
        The volumes, such as ``head_t2_tse_tra_obl_20240115090000_4.nii.gz``, in the order of their series numbers.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    for volume in sorted([*study.images.values(), study.adc], key=lambda one: one.protocol.number):
        protocol = volume.protocol
        stem = f"head_{protocol.description}_{DATE}{TIME}_{protocol.number}"
        written.append(_write_volume(Path(folder) / f"{stem}.nii.gz", volume.voxels, volume.affine))
        write_atomic(Path(folder) / f"{stem}.json", json.dumps(_sidecar(protocol), indent=2) + "\n")
    return written


def write_truth(study: RawStudy, folder: str | os.PathLike[str]) -> Path:
    """Write ``lesion.nii.gz`` and ``brain.nii.gz`` on the grid of FLAIR, and ``transforms.json``.

    Args:
        study: the study.
        folder: created if missing; not that of the images, where the label would be taken for a sequence.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = Path(folder)
    _write_volume(target / "lesion.nii.gz", study.lesion, study.flair_affine)
    _write_volume(target / "brain.nii.gz", study.brains["flair"], study.flair_affine)
    matrices = {f"flair_to_{name}": matrix.tolist() for name, matrix in study.transforms.items() if name != "flair"}
    write_atomic(target / "transforms.json", json.dumps({"licence": LICENCE, **matrices}, indent=2) + "\n")
    return target


def main(
    folder: str, seed: int = 1, dicom: bool = False, flat: bool = False, truth: str | None = None, coarse: bool = False
) -> None:
    """Make a raw study on disk.

    Args:
        folder: where to write the images.
        seed: another seed gives another head.
        dicom: write DICOM; else NIfTI with side-cars.
        flat: write all DICOM files into one folder.
        truth: another folder, for lesion label, brain mask and true transforms.
        coarse: voxels of about 2.5 mm, which is quicker.
    """
    study = make_raw_study(seed, coarse=coarse)
    if dicom:
        write_dicom(study, folder, flat)
    else:
        write_nifti(study, folder)
    if truth is not None:
        write_truth(study, truth)
    print(f"{folder}: a synthetic study of {', '.join(study.images)}. {LICENCE}")


def _poses(rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Array]]:
    """Draw where the head lies in each sequence (head -> world), and the movement since FLAIR (world -> world)."""
    first = _rigid(rng, *POSITION)
    moved = {name: first @ _rigid(rng, *MOVEMENT) @ np.linalg.inv(first) for name in SEQUENCES}
    transforms = {name: np.eye(4) if name == "flair" else moved[name] for name in SEQUENCES}
    return {name: matrix @ first for name, matrix in transforms.items()}, transforms


def _rigid(rng: np.random.Generator, degrees: float, mm: float) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.normal(0, degrees, 3) / np.sqrt(3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.normal(0, mm, 3)
    return matrix


def _surface_coil(rng: np.random.Generator, pose: Array) -> tuple[Array, float] | None:
    """Draw the place of a surface coil (world, mm) and its reach in mm; None: the study has none."""
    side, reach, drawn = rng.standard_normal(3), rng.uniform(*SURFACE_REACH), rng.random()
    place = pose[:3, 3] + COIL_DISTANCE * side / np.linalg.norm(side)
    return (place, float(reach)) if drawn < SURFACE_COIL else None


def _coarser(protocol: Protocol) -> Protocol:
    """Return the protocol with larger voxels and the same field of view."""
    spacing = tuple(max(edge, COARSE if edge < 2 else COARSE_SLICES) for edge in protocol.spacing)
    shape = tuple(max(1, round(n * old / new)) for n, old, new in zip(protocol.shape, protocol.spacing, spacing))
    return replace(protocol, spacing=spacing, shape=shape)


def _plan(rng: np.random.Generator, protocol: Protocol, pose: Array) -> Array:
    """Place a volume over the head as it lay at the start; return its affine."""
    turn = Rotation.from_euler("x", protocol.tilt + (rng.normal(0, 3) if protocol.tilt else 0), degrees=True)
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() @ np.array([DIRECTIONS[axis] for axis in protocol.axes], float).T
    affine[:3, :3] *= protocol.spacing
    centre = pose[:3, 3] + rng.normal(0, 2, 3) - [0, 0, protocol.lower]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(protocol.shape) - 1) / 2)
    return affine


def _acquire(field: Array, head: Head, pose: Array, affine: Array, protocol: Protocol) -> Array:
    """Sample a map of the head on the grid of a sequence, averaged through the slices: float32 (X, Y, Z)."""
    to_index = np.linalg.inv(pose @ head.affine) @ affine
    volume = torch.from_numpy(field)[None, None]
    size = np.array(field.shape)
    parts = min(PARTS, max(1, round(protocol.spacing[2] / head.spacing)))
    total = np.zeros(protocol.shape, np.float32)
    for shift in (np.arange(parts) + 0.5) / parts - 0.5:
        axes = [np.arange(n, dtype=np.float32) for n in protocol.shape]
        axes[2] = axes[2] + np.float32(shift)
        grid = torch.empty(*protocol.shape, 3)
        for axis in range(3):
            scale = 2 / (size[axis] - 1)
            x, y, z = (torch.from_numpy((to_index[axis, k] * scale * axes[k]).astype(np.float32)) for k in range(3))
            offset = float(to_index[axis, 3] * scale - 1)
            grid[..., 2 - axis] = x[:, None, None] + y[None, :, None] + (z + offset)[None, None, :]
        total += torch.nn.functional.grid_sample(volume, grid[None], align_corners=True)[0, 0].numpy()
    return total / parts


def _scan(
    rng: np.random.Generator,
    clean: Array,
    head: Head,
    pose: Array,
    affine: Array,
    protocol: Protocol,
    coil: tuple[Array, float] | None,
    noise_range: tuple[float, float],
) -> RawVolume:
    """Take one volume of a head: its grid, the coil's field, differences between slices, noise, whole numbers."""
    image = _acquire(clean, head, pose, affine, protocol)
    shape, spacing = protocol.shape, protocol.spacing
    image *= np.exp(rng.uniform(*COIL) * smooth_noise(rng, shape, spacing, 130.0))
    if coil is not None:
        place, reach = coil
        towards = np.linalg.inv(affine) @ [*place, 1.0]
        steps = [((np.arange(n) - c) * d) ** 2 for n, c, d in zip(shape, towards, spacing)]
        away = np.sqrt(steps[0][:, None, None] + steps[1][None, :, None] + steps[2][None, None, :])
        image *= np.exp((COIL_DISTANCE - away) / reach).astype(np.float32)
    if not protocol.is_3d:
        image *= 1 + SLICE_GAIN * rng.standard_normal(shape[2], dtype=np.float32)
    noise = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(rng.uniform(*noise_range))
    image = np.hypot(image + noise[0], noise[1])
    top = np.percentile(image, 99.9) / rng.uniform(0.3, 1.0)
    return RawVolume(np.clip(image / top * FULL_SCALE, 0, 32767).astype(np.int16), affine, protocol)


def _sidecar(protocol: Protocol) -> dict[str, object]:
    """Return what dcm2niix writes into the side-car; times in seconds."""
    times = {"RepetitionTime": protocol.tr, "EchoTime": protocol.te, "InversionTime": protocol.ti}
    return {
        "Modality": "MR",
        "Manufacturer": "Synthetic",
        "PatientID": PATIENT_ID,
        "SeriesDescription": protocol.description,
        "ProtocolName": protocol.description,
        "SeriesNumber": protocol.number,
        "ImageType": list(protocol.image_type),
        "ScanningSequence": "_".join(protocol.scanning),
        "SequenceVariant": "_".join(protocol.variant),
        "MRAcquisitionType": "3D" if protocol.is_3d else "2D",
        "SliceThickness": protocol.spacing[2],
        **{name: value / 1000 for name, value in times.items() if value is not None},
    }


def _write_volume(path: Path, voxels: Array, affine: Array) -> Path:
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    return write_atomic(path, gzip.compress(image.to_bytes(), 1, mtime=0))


if __name__ == "__main__":
    fire.Fire(main)
