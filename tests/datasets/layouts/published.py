"""Tiny folders of the shape in which public data sets are published; each maker returns the labels that must result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

Expected = dict[str, np.ndarray]
AFFINE = np.diag([1.0, 1.5, 3.0, 1.0])
ROWS, COLUMNS = np.mgrid[:24, :32]
DISC = (abs(ROWS - 12) < 7) & (abs(COLUMNS - 9) < 6)
CUP = (abs(ROWS - 12) < 3) & (abs(COLUMNS - 9) < 3)
NONE = np.zeros_like(DISC)
EYE = np.select([CUP, DISC], [200, 100], 0)


def blocks(*values: int) -> np.ndarray:
    """A label map (10, 6, 3) with a block of each value."""
    label = np.zeros((10, 6, 3), np.int16)
    for number, value in enumerate(values):
        label[2 * number : 2 * number + 2, 1:4, 1:] = value
    return label


def volume(path: Path, array: np.ndarray | None = None) -> None:
    """Write a label map, or without one an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(len(path.name)).integers(50, 900, (10, 6, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


def picture(path: Path, array: np.ndarray | None = None, wide: int = 1) -> None:
    """Write a grey mask of 8 bits, or without one a photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(len(path.name)).integers(0, 255, (24, 32 * wide, 3))
    Image.fromarray(array.astype(np.uint8)).save(path)


def sheet(path: Path, rows: dict[str, str]) -> None:
    """Write a table of sentences as LViT shares them."""
    table = pd.DataFrame({"Image": list(rows), "Description": list(rows.values())})
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_excel(path, index=False) if path.suffix == ".xlsx" else table.to_csv(path, index=False)


def brats2021(root: Path) -> Expected:
    cases = [f"HGG/Brats18_TCIA01_{n}_1" for n in range(3)] + [f"BraTS2021_{n:05d}" for n in range(4)]
    for place in [*cases, "Validation/BraTS2021_09999"]:
        folder, case = root / place, Path(place).name
        end = "nii" if case.endswith("00001") else "nii.gz"
        for name in ("flair", "t1", "t1ce", "t2"):
            volume(folder / f"{case}_{name}.{end}")
        if place in cases:
            volume(folder / f"{case}_seg.{end}", blocks(1, 2, 4))
    return {Path(place).name: blocks(1, 2, 4) for place in cases}


def brats2023(root: Path) -> Expected:
    cases = [f"BraTS-GLI-{n:05d}-{scan:03d}" for n in range(4) for scan in range(2)] + ["BraTS-MEN-00001-000"]
    for case in [*cases, "BraTS-PED-00001-000"]:
        for name in ("t2f", "t1n", "t1c", "t2w"):
            volume(root / case / f"{case}-{name}.nii.gz")
        volume(root / case / f"{case}-seg.nii.gz", blocks(1, 2, 3, 4))
    return {case: blocks(1, 2, 3, 0) for case in cases}


def msd_brain(root: Path) -> Expected:
    cases = [f"BRATS_{n:03d}" for n in range(1, 6)]
    for place in [f"imagesTr/{case}" for case in cases] + ["imagesTs/BRATS_485", "imagesTr/._BRATS_001"]:
        volume(root / "Task01_BrainTumour" / f"{place}.nii.gz", np.full((10, 6, 3, 4), 7, np.int16))
    for case in cases:
        slope = 0.9999999 if case == "BRATS_002" else 1
        volume(
            root / "Task01_BrainTumour" / "labelsTr" / f"{case}.nii.gz", (slope * blocks(1, 2, 3)).astype(np.float32)
        )
    (root / "Task01_BrainTumour" / "dataset.json").write_text("{}", encoding="utf-8")
    return {case: blocks(2, 1, 4) for case in cases}


def isles2022(root: Path) -> Expected:
    cases = [f"sub-strokecase{n:04d}" for n in range(1, 6)]
    for case in cases:
        stem = f"{case}_ses-0001"
        for place in ("dwi/{}_dwi", "dwi/{}_adc", "anat/{}_FLAIR"):
            volume(root / case / "ses-0001" / f"{place.format(stem)}.nii.gz")
        volume(root / "derivatives" / case / "ses-0001" / f"{stem}_msk.nii.gz", blocks(1))
    return {f"{case}_ses-0001": blocks(1) for case in cases}


def wmh2017(root: Path) -> Expected:
    places = [f"training/Utrecht/{n}" for n in (0, 2)] + [f"training/Amsterdam/GE3T/{n}" for n in (100, 101)]
    for place in [*places, "test/Singapore/30"]:
        for name in ("pre/FLAIR", "pre/T1", "orig/FLAIR"):
            volume(root / place / f"{name}.nii.gz")
        volume(root / place / "wmh.nii.gz", blocks(1, 2))
    cases = ["Utrecht_0", "Utrecht_2", "GE3T_100", "GE3T_101", "Singapore_30"]
    return {case: blocks(1, 0) for case in cases}


def atlas2(root: Path) -> Expected:
    stems = [f"sub-r{site:03d}s{n:03d}_ses-1" for site in (1, 2) for n in (1, 2, 3)]
    space = "space-MNI152NLin2009aSym"
    for stem in [*stems, "sub-r009s001_ses-1"]:
        part = "Training" if stem in stems else "Testing"
        folder = root / "ATLAS_2" / part / stem[4:8].upper() / stem[:12] / "ses-1" / "anat"
        volume(folder / f"{stem}_{space}_T1w.nii.gz")
        if stem in stems:
            volume(folder / f"{stem}_{space}_label-L_desc-T1lesion_mask.nii.gz", blocks(1))
    return {stem: blocks(1) for stem in stems}


def open_ms(root: Path) -> Expected:
    cases = [f"patient{n:02d}" for n in range(1, 5)]
    for case in cases:
        folder = root / "cross_sectional" / "coregistered" / case
        start = f"{case}_" if case == "patient03" else ""
        for name in ("FLAIR", "T1W", "T1WKS", "T2W", "brainmask"):
            volume(folder / f"{start}{name}.nii.gz")
            volume(root / "cross_sectional" / "raw" / case / f"{name}.nii.gz")
        volume(folder / f"{start}consensus_gt.nii.gz", blocks(1))
        volume(root / "longitudinal" / "coregistered" / case / "study1_FLAIR.nii.gz")
    return {case: blocks(1) for case in cases}


def drishti_gs(root: Path) -> Expected:
    cases = {f"drishtiGS_{n:03d}": n > 4 for n in range(1, 7)}
    for case, test in cases.items():
        part, truth = ("Test", "Test_GT") if test else ("Training", "GT")
        picture(root / "Drishti-GS1_files" / part / "Images" / "GLAUCOMA" / f"{case}.png")
        maps = root / "Drishti-GS1_files" / part / truth / case / "SoftMap"
        picture(maps / f"{case}_ODsegSoftmap.png", np.select([DISC, abs(ROWS - 12) < 9], [191, 128], 0))
        picture(maps / f"{case}_cupsegSoftmap.png", np.select([CUP, DISC], [255, 64], 0))
    return dict.fromkeys(cases, EYE)


def rim_one_r2(root: Path) -> Expected:
    expected = {}
    for n in range(1, 6):
        folder = root / "RIM-ONE r2" / ("Normal" if n < 4 else "Glaucoma and suspicious")
        picture(folder / f"Im{n:03d}.jpg")
        points = [(15, 12), (5, 4), (25, 4), (25, 20), (5, 20)]  # the first is the centre
        lines = ["Points", *(str(number) for point in points for number in point), "Ellipse parameters", "15", "12"]
        (folder / f"Im{n:03d}-gs.txt").write_text("\r\n".join(lines), encoding="utf-8")
        outline = Image.new("L", (32, 24), 0)
        ImageDraw.Draw(outline).polygon(points[1:], fill=100)
        expected[f"Im{n:03d}"] = np.asarray(outline)
    return expected


def rim_one_r3(root: Path) -> Expected:
    names = ["Healthy/N-1-L", "Healthy/N-1-R", "Healthy/N-2-R", "Glaucoma and suspects/G-1-L"]
    names += ["Glaucoma and suspects/S-1-L"]
    for name in names:
        folder, case = (root / "RIM-ONE r3" / name).parent, Path(name).name
        picture(folder / "Stereo Images" / f"{case}.jpg", wide=2)
        for what, mask in (("Disc", DISC), ("Cup", CUP)):
            picture(folder / "Average_masks" / f"{case}-{what}-Avg.png", 255 * np.hstack([mask, NONE]))
    return {Path(name).name: EYE for name in names}


def refuge(root: Path) -> Expected:
    places = {
        "Training400/Glaucoma/g0001": "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001",
        "Training400/Non-Glaucoma/n0001": "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n0001",
        "Training400/Non-Glaucoma/n0002": "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n0002",
        "REFUGE-Validation400/V0001": "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001",
        "Test400/T0001": "REFUGE-Test-GT/Disc_Cup_Masks/T0001",
    }
    for image, mask in places.items():
        picture(root / f"{image}.jpg")
        picture(root / f"{mask}.bmp", np.select([CUP, DISC], [0, 128], 255))
    return {Path(image).name: EYE for image in places}


def riga_plus(root: Path) -> Expected:
    places = [f"BinRushed/BinRushed{n}/image{n}" for n in (1, 2, 3)] + ["Magrabia/MagrabiFemale/image1"]
    places += ["MESSIDOR_Base1/Labeled/image1", "MESSIDOR_Base2/Labeled/image1"]
    for place in places:
        picture(root / "RIGA" / f"{place}.tif")
        for rater in range(1, 7):
            mask = np.select([CUP, DISC], [128, 255], 0) if rater == 1 else 0 * ROWS
            picture(root / "RIGA-mask" / f"{place}-{rater}.tif", mask)
    picture(root / "RIGA" / "MESSIDOR_Base1" / "Unlabeled" / "image9.tif")
    return {place.replace("/", "_"): EYE for place in places}


def idrid(root: Path) -> Expected:
    parts = {"a. Training Set": range(1, 5), "b. Testing Set": range(55, 57)}
    for part, numbers in parts.items():
        for n in numbers:
            picture(root / "A. Segmentation" / "1. Original Images" / part / f"IDRiD_{n:02d}.jpg")
            masks = root / "A. Segmentation" / "2. All Segmentation Groundtruths" / part
            red = np.stack([255 * DISC, NONE, NONE], -1)
            picture(masks / "5. Optic Disc" / f"IDRiD_{n:02d}_OD.tif", red)
    picture(root / "B. Disease Grading" / "1. Original Images" / "a. Training Set" / "IDRiD_001.jpg")
    return {f"IDRiD_{n:02d}": 100 * DISC for numbers in parts.values() for n in numbers}


def mnms(root: Path) -> Expected:
    rows = []
    expected = {}
    places = [(f"Training/Labeled/A{n}B{n}C{n}", "AB"[n % 2]) for n in range(4)]
    places += [("Validation/V1V1V1", "A"), ("Validation/V2V2V2", "C"), ("Testing/T1T1T1", "D")]
    for place, vendor in [*places, ("Training/Unlabeled/U1U1U1", "C")]:
        code = Path(place).name
        masks = [0 * blocks(), 0 * blocks(), blocks(1, 2, 3), blocks(3, 2, 1)]
        volume(root / "OpenDataset" / place / f"{code}_sa.nii.gz", np.full((10, 6, 3, 4), 9, np.int16))
        if "Unlabeled" not in place:
            volume(root / "OpenDataset" / place / f"{code}_sa_gt.nii.gz", np.stack(masks, -1))
            expected |= {f"{code}_ED": masks[2], f"{code}_ES": masks[3]}
        rows.append({"": 0, "External code": code, "VendorName": "x", "Vendor": vendor, "Centre": 1, "ED": 2, "ES": 3})
    name = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    pd.DataFrame(rows).to_csv(root / "OpenDataset" / name, index=False)
    return expected


def acdc(root: Path) -> Expected:
    expected = {}
    for n, part in ((1, "training"), (2, "training"), (3, "training"), (101, "testing")):
        folder = root / "database" / part / f"patient{n:03d}"
        for frame, phase in (("01", "ED"), ("12", "ES")):
            volume(folder / f"patient{n:03d}_frame{frame}.nii.gz")
            volume(folder / f"patient{n:03d}_frame{frame}_gt.nii.gz", blocks(1, 2, 3))
            expected[f"patient{n:03d}_{phase}"] = blocks(3, 2, 1)
        volume(folder / f"patient{n:03d}_4d.nii.gz", np.zeros((10, 6, 3, 5), np.int16))
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\n", encoding="utf-8")
    return expected


def ms_cmrseg(root: Path) -> Expected:
    expected = {}
    for n in range(1, 6):
        for name, domain in (("C0", "bSSFP"), ("LGE", "LGE"), ("T2", "T2")):
            volume(root / "images" / f"patient{n}_{name}.nii.gz")
            volume(root / "labels" / f"patient{n}_{name}_manual.nii.gz", blocks(200, 500, 600))
            expected[f"patient{n}_{domain}"] = blocks(2, 1, 3)
    volume(root / "images" / "patient6_LGE.nii.gz")
    return expected


def ms_cmrseg_processed(root: Path) -> Expected:
    expected = {}
    for n in range(1, 5):
        for domain in ("bSSFP", "LGE"):
            volume(root / "processed" / domain / f"image_{n}.nii.gz")
            volume(root / "processed" / domain / f"label_{n}.nii.gz", blocks(1, 2, 3))
            expected[f"patient{n}_{domain}"] = blocks(2, 1, 3)
    return expected


def qata_cov19(root: Path) -> Expected:
    names = [f"sub-S{n}_ses-{scan}_vp-ap_cr" for n in (1, 2, 3) for scan in (1, 2)] + ["covid_1", "covid_2"]
    for name, part in [(name, "Train") for name in names] + [("sub-S9_ses-1_vp-ap_cr", "Test")]:
        picture(root / f"{part} Set" / "Images" / f"{name}.png")
        picture(root / f"{part} Set" / "Ground-truths" / f"mask_{name}.png", 255 * DISC)
    sheet(root / "Train_text.xlsx", {f"mask_{name}.png": f"infection of {name}" for name in names[:-1]})
    sheet(root / "Test_text.csv", {"mask_sub-S9_ses-1_vp-ap_cr.png": "one infected area"})
    return dict.fromkeys([*names, "sub-S9_ses-1_vp-ap_cr"], DISC)


def mosmed_plus(root: Path) -> Expected:
    names = [f"Morozov_study_{scan:04d}_{n}" for scan in (255, 256, 257) for n in range(3)]
    names += [f"Jun_coronacases_case7_{n}" for n in range(2)] + ["bjorke_1"]
    for number, name in enumerate(names):
        part = ("Train", "Val", "Test")[number % 3]
        picture(root / f"{part}_Folder" / "img" / f"{name}.png")
        picture(root / f"{part}_Folder" / "labelcol" / f"{name}.png", DISC)
        sheet(root / f"{part}_text.xlsx", {f"{n}.png": f"infection of {n}" for n in names[number % 3 :: 3]})
    return dict.fromkeys(names, DISC)


def kvasir_seg(root: Path) -> Expected:
    for n in range(5):
        picture(root / "Kvasir-SEG" / "images" / f"cju{n}.jpg")
        picture(root / "Kvasir-SEG" / "masks" / f"cju{n}.jpg", 255 * (abs(COLUMNS - 16) < 8))
    return {f"cju{n}": abs(COLUMNS - 16) < 8 for n in range(5)}


def busi(root: Path) -> Expected:
    for kind in ("benign", "malignant", "normal"):
        for n in (1, 2):
            stem = root / "Dataset_BUSI_with_GT" / kind / f"{kind} ({n})"
            picture(stem.with_name(f"{stem.name}.png"))
            picture(stem.with_name(f"{stem.name}_mask.png"), 255 * (CUP if kind != "normal" else NONE))
            if kind == "benign":
                picture(stem.with_name(f"{stem.name}_mask_1.png"), 255 * (DISC & ~CUP))
    labels = {"benign": DISC, "malignant": CUP, "normal": NONE}
    return {f"{kind}_{n}": label for kind, label in labels.items() for n in (1, 2)}


@dataclass(frozen=True)
class Published:
    """A data set as it is published, and what its list must hold.

    Attributes:
        make: writes it into a folder; returns case_id -> label.
        counts: training, validation, testing, unlabelled; None where the drawn patients have several cases.
        domains: of each split.
    """

    make: Callable[[Path], Expected]
    counts: tuple[int, int, int, int] | None
    domains: tuple[set[str], set[str], set[str]] = (set(), set(), set())


SETS = {
    "brats2021": Published(brats2021, (5, 1, 1, 1)),
    "brats2023": Published(brats2023, None),
    "msd_brain": Published(msd_brain, (3, 1, 1, 1)),
    "isles2022": Published(isles2022, (3, 1, 1, 0)),
    "wmh2017": Published(wmh2017, (3, 1, 1, 0)),
    "atlas2": Published(atlas2, (4, 1, 1, 1)),
    "open_ms": Published(open_ms, (2, 1, 1, 0)),
    "drishti_gs": Published(drishti_gs, (3, 1, 2, 0)),
    "rim_one_r2": Published(rim_one_r2, (3, 1, 1, 0)),
    "rim_one_r3": Published(rim_one_r3, None),
    "refuge": Published(refuge, (2, 1, 2, 0), ({"zeiss"}, {"zeiss"}, {"canon"})),
    "riga_plus": Published(riga_plus, (3, 1, 2, 0)),
    "idrid": Published(idrid, (3, 1, 2, 0)),
    "mnms": Published(mnms, (8, 2, 4, 0), ({"vendor_A", "vendor_B"}, {"vendor_A"}, {"vendor_C", "vendor_D"})),
    "acdc": Published(acdc, (4, 2, 2, 0)),
    "ms_cmrseg": Published(ms_cmrseg, (9, 3, 3, 1)),
    "ms_cmrseg processed": Published(ms_cmrseg_processed, (4, 2, 2, 0)),
    "qata_cov19": Published(qata_cov19, None),
    "mosmed_plus": Published(mosmed_plus, None),
    "kvasir_seg": Published(kvasir_seg, (3, 1, 1, 0)),
    "busi": Published(busi, (4, 1, 1, 0)),
}
