"""Makers of data for tests: volumes, DICOM files, and tiny data sets of brains, hearts and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy.ndimage import binary_dilation

SHAPE = (6, 5, 4)
AFFINE = np.array([[-1.0, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
SEQUENCES = ("flair", "t1", "t1ce", "t2")
BRAIN_SHAPE = (40, 48, 6)  # of the tiny cases, in RAS
BRAIN_SPACING = (1.0, 1.0, 3.0)  # mm: what `pixdim` asks for, so that nothing is resampled
HEART_SHAPE = (44, 36, 4)  # of the cardiac volumes: rows, columns, slices
HEART_SPACING = (1.5, 1.5, 8.0)  # mm: what `pixdim` asks for, so that nothing is resampled
SPLITS = ("training", "training", "validation", "testing")
EMPTY = ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def oblique() -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    if np.linalg.det(turn) < 0:
        turn[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, 1.1, 3.0])
    affine[:3, 3] = [10, -20, 30]
    return affine


def rotation(random: np.random.Generator) -> np.ndarray:
    """Axes along the body's, permuted and flipped, or turned by any angle."""
    if random.random() < 0.5:
        return np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)
    return np.linalg.qr(random.normal(size=(3, 3)))[0]


def random_affine(random: np.random.Generator, shear: float = 0) -> np.ndarray:
    """Voxels from 1 micrometre to 1 metre, at any place."""
    affine, size = np.eye(4), 10 ** random.uniform(-3, 3)
    skew = np.eye(3) + np.triu(random.uniform(-shear, shear, (3, 3)), 1)
    affine[:3, :3] = rotation(random) @ skew @ np.diag(size * random.uniform(1, 4, 3))
    affine[:3, 3] = random.normal(size=3) * size * 50
    return affine


def save_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    numbers: list[int] | None = None,
    skip: tuple = (),
    uid: str = "",
) -> str:
    """Write `array` (X, Y, Z), whose affine maps voxels to RAS mm, as one DICOM file per slice along Z."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    columns, rows = (np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    uid = uid or generate_uid()
    for index in range(array.shape[2]):
        if index in skip:
            continue
        piece = pydicom.Dataset()
        piece.file_meta = FileMetaDataset()
        piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = MRImageStorage
        piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID = generate_uid()
        piece.SeriesInstanceUID = uid
        piece.FrameOfReferenceUID = piece.StudyInstanceUID = f"{uid[:60].rstrip(chr(46))}.1"
        piece.Modality = "MR"
        if numbers:
            piece.InstanceNumber = numbers[index]
        piece.ImageOrientationPatient = [f"{v:.9f}" for v in (*lps[:3, 0] / columns, *lps[:3, 1] / rows)]
        piece.ImagePositionPatient = [f"{v:.9f}" for v in (lps @ [0, 0, index, 1])[:3]]
        piece.PixelSpacing = [f"{v:.9f}" for v in (rows, columns)]
        piece.Rows, piece.Columns = array.shape[1], array.shape[0]
        piece.SamplesPerPixel, piece.PhotometricInterpretation = 1, "MONOCHROME2"
        piece.BitsAllocated = piece.BitsStored = 16
        piece.HighBit, piece.PixelRepresentation = 15, 0
        piece.PixelData = array[:, :, index].T.astype(np.uint16).tobytes()
        piece.save_as(folder / f"{hash((uid, index)) % 10**9:09d}.dcm", enforce_file_format=True)
    return str(folder)


def save_cine(folder: Path, array: np.ndarray, affine: np.ndarray, per_slice: bool = False, edit: Any = None) -> str:
    """Write `array` (X, Y, Z, T) as one DICOM file per slice and phase, 40 ms apart, called in any order.

    The phases are of one series, or of one per slice. `edit` changes each file by the numbers of its slice and phase;
    one for which it returns False is left out.
    """
    uid, slices, phases = generate_uid(), array.shape[2], array.shape[3]
    series = [generate_uid() for _ in range(slices)] if per_slice else [uid] * slices
    for phase in range(phases):
        part = folder / f"phase{phase}"
        save_series(part, array[..., phase], affine, list(range(slices)), uid=uid)
        for file in part.iterdir():
            piece = pydicom.dcmread(file)
            index = int(piece.InstanceNumber)
            piece.SeriesInstanceUID, piece.PatientID = series[index], "1"
            piece.InstanceNumber, piece.TriggerTime = index * phases + phase + 1, 40.0 * phase + index
            if edit is None or edit(piece, index, phase) is not False:
                piece.save_as(folder / f"{piece.SOPInstanceUID}.dcm")
            file.unlink()
        part.rmdir()
    return str(folder)


def save_frames(path: Path, array: np.ndarray, affine: np.ndarray, **change) -> str:
    """Write `array` (X, Y, Z) as one multi-frame file, by highdicom, its frames in random order.

    The slices stay beside it, in ``<stem>_slices``.
    """
    folder = path.parent / f"{path.stem}_slices"
    save_series(folder, array, affine)
    slices = []
    step = f"{np.linalg.norm(affine[:3, 2]):.9f}"
    for number, file in enumerate(sorted(folder.iterdir()), 1):
        piece = pydicom.dcmread(file)
        for word in (*EMPTY, "PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(piece, word, "")
        piece.InstanceNumber, piece.Manufacturer, piece.ImageType = number, "", ["ORIGINAL", "PRIMARY", "M"]
        piece.SpacingBetweenSlices = piece.SliceThickness = step
        piece.WindowCenter, piece.WindowWidth = 1, 2
        for word, value in change.items():
            setattr(piece, word, value)
        piece.save_as(file)
        slices.append(piece)
    LegacyConvertedEnhancedMRImage(slices, generate_uid(), 1, generate_uid(), 1).save_as(path)
    return str(path)


def make_enhanced(folder: Path) -> str:
    """Turn the slices of a folder into enhanced files of one frame each, as Siemens XA writes them."""
    groups = {
        "PerFrameFunctionalGroupsSequence": {
            "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
            "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
            "PixelValueTransformationSequence": {
                "RescaleSlope": "RescaleSlope",
                "RescaleIntercept": "RescaleIntercept",
            },
            "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
            "MRImageFrameTypeSequence": {"FrameType": "ImageType"},
        },
        "SharedFunctionalGroupsSequence": {
            "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness"},
            "MRTimingAndRelatedParametersSequence": {"RepetitionTime": "RepetitionTime"},
            "MRModifierSequence": {"InversionTimes": "InversionTime"},
        },
    }
    for file in folder.iterdir():
        piece = pydicom.dcmread(file)
        for level, sequences in groups.items():
            group = pydicom.Dataset()
            for sequence, words in sequences.items():
                setattr(group, sequence, [pydicom.Dataset()])
                for word, plain in words.items():
                    if plain in piece:
                        value = piece[plain].value
                        setattr(group[sequence][0], word, float(value) if word[:4] in ("Effe", "Inve") else value)
                        del piece[plain]
            setattr(piece, level, [group])
        piece.NumberOfFrames = 1
        piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = EnhancedMRImageStorage
        piece.save_as(file)
    return str(folder)


def radiograph(folder: Path, **change) -> Path:
    """Write one DICOM image of 6 x 5 pixels, values 0, 10, 20, ...; `change` sets attributes."""
    save_series(folder, np.arange(60).reshape(5, 6, 2) * 10, np.eye(4))
    first, second = sorted(folder.iterdir())
    second.unlink()
    piece = pydicom.dcmread(first)
    for name, value in change.items():
        setattr(piece, name, value)
    piece.save_as(first)
    return first


def make_brain(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Four sequences (int16) and a label map in RAS: an ellipsoid in air, with two balls that are bright in FLAIR."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in BRAIN_SHAPE), indexing="ij"))
    head = (grid**2).sum(0) < 0.9
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in BRAIN_SHAPE), indexing="ij"))
    label = np.zeros(BRAIN_SHAPE, np.int16)
    for centre in ((12 + seed % 3, 18, 2), (27, 30 - seed % 4, 3)):
        away = (voxels - np.array(centre).reshape(3, 1, 1, 1)) * np.array([1, 1, 2.5]).reshape(3, 1, 1, 1)
        label[(away**2).sum(0) < 20] = 1
    rim = binary_dilation(label) & (label == 0)
    contrast = {"flair": 300, "t1": -80, "t1ce": -40, "t2": 200}
    images = {}
    for number, (name, lesion) in enumerate(contrast.items()):
        smooth = 30 * np.sin(3 * grid[0] + number) + 20 * np.cos(2 * grid[1] + seed)
        image = 400 + 50 * number + smooth + lesion * label + 0.3 * lesion * rim + random.normal(0, 8, BRAIN_SHAPE)
        images[name] = np.where(head, image, 0).astype(np.int16)
    return images, (label * head).astype(np.uint8)


def brain_affine(angle: float = 0.0) -> np.ndarray:
    """RAS mm of a grid with `BRAIN_SPACING`, tilted about the left-right axis by `angle` degrees."""
    turn = np.deg2rad(angle)
    tilt = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    result = np.eye(4)
    result[:3, :3] = tilt @ np.diag(BRAIN_SPACING)
    result[:3, 3] = [-18.5, -25, -7]
    return result


def brain_image(array: np.ndarray, codes: str = "RAS", angle: float = 0.0) -> nib.Nifti1Image:
    """An array in RAS as a file with the axes `codes`; the same place in space."""
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    image = nib.Nifti1Image(array, brain_affine(angle))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted))
    return nib.Nifti1Image(np.asanyarray(turned.dataobj), turned.affine)


def write_brain(folder: Path, name: str, seed: int, codes: str = "RAS", angle: float = 0.0) -> dict[str, Any]:
    """Write one case; return its item with paths relative to `folder`."""
    images, label = make_brain(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for sequence, array in [*images.items(), ("seg", label)]:
        nib.save(brain_image(array, codes, angle), folder / f"{name}_{sequence}.nii.gz")
    return {"image": [f"{name}_{sequence}.nii.gz" for sequence in SEQUENCES], "label": f"{name}_seg.nii.gz"}


def make_heart(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume (int16) and its label map: a bright pool in a dark ring, a second pool beside it, and noise."""
    random = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.arange(n) for n in HEART_SHAPE), indexing="ij")
    left = np.hypot(x - 24 - seed % 3, y - 20 + 0.3 * z)
    right = np.hypot(x - 11 - seed % 3, y - 18)
    label = np.select([left < 5, left < 8, right < 5], [1, 2, 3], 0).astype(np.uint8)
    image = np.array([200, 700, 100, 650])[label] + random.normal(0, 30, HEART_SHAPE)
    return image.astype(np.int16), label


def make_cine(phases: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A beating heart (int16, (X, Y, Z, T)) and its label map: the cavity is largest at first, smallest at 3/8."""
    x, y, z, t = np.meshgrid(*(np.arange(n) for n in (*HEART_SHAPE, phases)), indexing="ij")
    share = t / phases
    squeezed = np.where(share < 3 / 8, share * 8 / 3, (1 - share) * 8 / 5)
    left, right = np.hypot(x - 24, y - 20 + 0.3 * z), np.hypot(x - 11, y - 18)
    cavity = 6 - 2.5 * squeezed
    wall = np.sqrt(cavity**2 + 45)  # whose area stays the same
    label = np.select([left < cavity, left < wall, right < 6.5 - squeezed], [1, 2, 3], 0).astype(np.uint8)
    return np.array([200, 700, 100, 450])[label].astype(np.int16), label


def write_hearts(folder: Path) -> Path:
    """Four cases of a source vendor and one of each of two others, as NIfTI with a data list; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "testing": []}
    places = [("training", "A"), ("training", "A"), ("training", "A"), ("validation", "A")]
    places += [("testing", "B"), ("testing", "C")]
    for seed, (split, vendor) in enumerate(places):
        for name, array in zip(("image", "label"), make_heart(seed)):
            nib.save(nib.Nifti1Image(array, np.diag([*HEART_SPACING, 1])), folder / f"p{seed}_{name}.nii.gz")
        item = {"image": f"p{seed}_image.nii.gz", "label": f"p{seed}_label.nii.gz", "domain": vendor}
        lists[split].append({**item, "case_id": f"p{seed}"})
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


def write_pictures(folder: Path, disc: int, cup: int, text: str | None) -> None:
    """Four pictures of 48 x 40 with a disc, and a cup in it where that has a value of its own."""
    folder.mkdir()
    lists: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    rows, columns = np.mgrid[:40, :48]
    for number, split in enumerate(SPLITS):
        away = np.hypot(rows - 18 - number, columns - 24 + number)
        label = np.select([away < 5, away < 11], [cup, disc], 0).astype(np.uint8)
        noise = np.random.default_rng(number).integers(0, 40, (40, 48, 3))
        picture = (noise + 60 + 100 * (label > 0)[..., None] + 50 * (label == cup)[..., None]).astype(np.uint8)
        Image.fromarray(picture if text is None else picture[..., 0]).save(folder / f"p{number}.png")
        Image.fromarray(label).save(folder / f"p{number}_label.png")
        item = {"image": f"p{number}.png", "label": f"p{number}_label.png", "domain": "ab"[split == "testing"]}
        lists[split].append({**item, **({} if text is None else {"text": text})})
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")


def write_brains(folder: Path) -> None:
    """Four brains of four sequences."""
    lists: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for number, split in enumerate(SPLITS):
        lists[split].append({"case_id": f"p{number}", **write_brain(folder, f"p{number}", number)})
    (folder / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
