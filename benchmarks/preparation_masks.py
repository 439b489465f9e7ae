"""Brain masks and lesions after preparation, on real scans whose answer is known.

`brain` extracts the brain of every raw scan and compares it with the publishers' mask. `lesions` segments the raw
studies as they are, and again after the publishers' registration and brain mask. `moved` segments two patients whose
sequences were turned and resampled, each to a grid of its own.
"""

from __future__ import annotations

import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from preparation_registration import RAW_FILES, STRIPPED, VISITS, at, read, read_transform
from record import cpu_name, save
from scipy import ndimage
from scipy.spatial.transform import Rotation

from shared.preparation.brain import extract_brain
from shared.preparation.load import load_network
from shared.preparation.prepare import MARGIN
from shared.preparation.resampling import resample
from shared.preparation.scan import Scan
from shared.results.tables import markdown

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "brainsegdmlf"
OWN_GRID = (0.7, 0.7, 3.0)  # mm; voxels of a moved sequence
LOST = 0.5  # a slice with less than this share of its brain is lost
PEER = {"deepbet": ".3f", "deepbet_cpu_s": ".1f"}
FEW_CM2 = 5.0  # of brain in a slice, which may be lost


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice of two masks."""
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))


def published_mask(raw: Path, visit: str, name: str, scan: Scan) -> np.ndarray:
    """Return the publishers' brain mask on the grid of a raw scan."""
    common = read(raw / "common_space_brainmask.nii.gz")
    to_common = np.linalg.inv(read_transform(raw / f"{visit}_FLAIR_to_common_space.txt"))
    if name != "flair":
        to_common = to_common @ np.linalg.inv(
            read_transform(raw / f"{visit}_{RAW_FILES[name]}_intrastudy_to_FLAIR.txt")
        )
    matrix = np.linalg.inv(common.affine) @ to_common @ scan.affine
    voxels = np.indices(scan.voxels.shape).reshape(3, -1).T
    places = at(matrix, voxels).T
    found = ndimage.map_coordinates(common.voxels, places, order=0).reshape(scan.voxels.shape)
    return found > 0


def measure_brain(folder: Path) -> list[dict[str, Any]]:
    """Compare the brain masks of all raw scans with the publishers'."""
    network, raw, rows = load_network(BUNDLE / "models" / "brain.pt"), folder / "brain_raw" / "patient01", []
    for visit in VISITS:
        for name, file in RAW_FILES.items():
            scan = read(raw / f"{visit}_{file}.nii.gz")
            truth = published_mask(raw, visit, name, scan)
            begin = time.process_time()
            brain = extract_brain(scan, network, MARGIN)
            seconds = time.process_time() - begin
            area = truth.sum((0, 1)) * np.prod(scan.spacing[:2]) / 100
            kept = (truth & brain.mask).sum((0, 1)) / np.maximum(truth.sum((0, 1)), 1)
            lost = np.flatnonzero((area > FEW_CM2) & (kept < LOST)).tolist()
            figures = {"dice": dice(truth, brain.mask), "ml": brain.volume(scan), "lost": lost, "cpu_s": seconds}
            if name == "t1" and find_spec("deepbet"):
                figures |= peer(raw / f"{visit}_{file}.nii.gz", truth)
            rows.append({"scan": f"{visit} {name}"} | figures)
            print(rows[-1], flush=True)
    return rows


def peer(file: Path, truth: np.ndarray) -> dict[str, Any]:
    """Return the figures of deepbet (T1 alone; pip install deepbet)."""
    from deepbet.bet import BrainExtraction

    with tempfile.TemporaryDirectory() as scratch:
        begin = time.process_time()
        BrainExtraction(no_gpu=True).run(str(file), mask_path=f"{scratch}/mask.nii.gz")
        seconds = time.process_time() - begin
        return {"deepbet": dice(read(Path(scratch) / "mask.nii.gz").voxels > 0.5, truth), "deepbet_cpu_s": seconds}


def segment(folder: Path, output: Path, **options: Any) -> dict[str, Any]:
    """Run the bundle's inference on a folder or list; return the measures of its cases, time and peak memory."""
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    config = str(BUNDLE / "configs" / "inference.json")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, "--output_dir", str(output)]
    begin = time.perf_counter()
    subprocess.run([*command, *words, "--overlays", "false"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    entries = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return {"cases": {entry["case_id"]: entry for entry in entries}, "seconds": seconds, "peak_gb": peak}


def write(path: Path, scan: Scan) -> str:
    """Write a scan as NIfTI in mm and return its path."""
    image = nibabel.Nifti1Image(scan.voxels, scan.affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return str(path)


def measure_lesions(folder: Path, **options: Any) -> list[dict[str, Any]]:
    """Compare lesion volumes of the raw studies with those after the publishers' registration and mask.

    Args:
        folder: holds ``brain_raw``.
        options: further options of the inference, such as ``ckpt_dir``.

    Returns:
        One row per visit; ``outside_ml`` is the volume of our lesions outside the publishers' brain mask.
    """
    raw, rows = folder / "brain_raw" / "patient01", []
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        ours = segment(here, here / "ours", input=raw, **options)
        for visit in VISITS:
            flair = read(raw / f"{visit}_FLAIR.nii.gz")
            mask = published_mask(raw, visit, "flair", flair)
            scans = {"flair": flair}
            for name in ("t1", "t2"):
                matrix = read_transform(raw / f"{visit}_{RAW_FILES[name]}_intrastudy_to_FLAIR.txt")
                scans[name] = resample(read(raw / f"{visit}_{RAW_FILES[name]}.nii.gz"), flair, matrix)
            files = {
                name: write(here / f"{visit}_{name}.nii.gz", scan._replace(voxels=np.where(mask, scan.voxels, 0)))
                for name, scan in scans.items()
            }
            given = f"[{files['flair']},{files['t1']},None,{files['t2']}]"
            theirs = segment(here, here / visit, input=given, prepare="off", **options)
            entry = ours["cases"][f"patient01_{visit}"]
            mine, marked = entry["measures"], read(here / "ours" / entry["prediction"])
            outside = (marked.voxels > 0) & ~mask
            (other,) = (entry["measures"] for entry in theirs["cases"].values())
            row = {"visit": visit, "ours_ml": mine["lesion_volume_ml"], "published_ml": other["lesion_volume_ml"]}
            row |= {"ours_count": mine["lesion_count"], "published_count": other["lesion_count"]}
            row["outside_ml"] = float(outside.sum() * np.prod(flair.spacing) / 1000)
            rows.append(row | {"seconds": ours["seconds"] / len(VISITS), "peak_gb": ours["peak_gb"]})
            print(rows[-1], flush=True)
    return rows


def moved(scan: Scan, random: np.random.Generator, still: bool) -> tuple[Scan, np.ndarray]:
    """Return the scan resampled to a grid of its own, turned unless `still`, and the motion that was applied."""
    motion = np.eye(4)
    if not still:
        motion[:3, :3] = Rotation.from_euler("xyz", random.uniform(-6, 6, 3), degrees=True).as_matrix()
        motion[:3, 3] = scan.centre - motion[:3, :3] @ scan.centre + random.uniform(-8, 8, 3)
    shape = np.ceil(scan.spacing * scan.voxels.shape / OWN_GRID).astype(int)
    affine = np.diag([*OWN_GRID, 1.0])
    affine[:3, 3] = scan.centre - np.array(OWN_GRID) * (shape - 1) / 2
    if not still:  # no two sequences have one grid
        affine[:3, 3] += random.uniform(-1, 1, 3)
    grid = Scan(np.zeros(shape, np.float32), affine)
    return resample(scan, grid, np.linalg.inv(motion)), motion


def measure_moved(folder: Path) -> list[dict[str, Any]]:
    """Segment two patients as they are, and with every sequence but FLAIR moved and all on grids of their own."""
    rows = []
    for number, patient in enumerate(STRIPPED):
        source = folder / "brain_ms" / patient
        names: Mapping[str, str] = {"flair": "flair", "t1": "t1", "t1ce": "t1post", "t2": "t2"}
        lesion = read(source / "lesion.nii.gz")
        with tempfile.TemporaryDirectory() as scratch:
            here, random = Path(scratch), np.random.default_rng(number)
            plain = [str(source / f"{file}.nii.gz") for file in names.values()]
            thick, own = [], []
            for name, file in names.items():
                scan = read(source / f"{file}.nii.gz")
                scan = scan._replace(voxels=np.where(scan.voxels == scan.voxels[0, 0, 0], 0, scan.voxels))
                thick.append(write(here / f"thick_{name}.nii.gz", moved(scan, random, still=True)[0]))
                own.append(write(here / f"own_{name}.nii.gz", moved(scan, random, still=name == "flair")[0]))
            row: dict[str, Any] = {"patient": patient}
            for kind, files in (("plain", plain), ("thick", thick), ("moved", own)):
                done = segment(here, here / kind, input=f"[{','.join(files)}]")
                (entry,) = done["cases"].values()
                mask = read(here / kind / entry["prediction"])
                row[kind] = dice(resample(mask, lesion, np.eye(4)).voxels > 0.5, lesion.voxels > 0)
            rows.append(row)
            print(row, flush=True)
    return rows


def masks_table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["# Brain masks and lesions after preparation", "", *((__doc__ or "").split("\n\n")[1].splitlines()), ""]
    lines += [", ".join(f"{key} {result[key]}" for key in ("date", "cpu")), ""]
    table = [["raw scan", "Dice of the brain mask", "mL", "lost slices", "CPU s", "deepbet", "CPU s of deepbet"]]
    for row in result["brain"]:
        lost = ", ".join(map(str, row["lost"])) or "none"
        table.append([row["scan"], f"{row['dice']:.3f}", f"{row['ml']:.0f}", lost, f"{row['cpu_s']:.1f}"])
        table[-1] += [f"{row[key]:{form}}" if key in row else "" for key, form in PEER.items()]
    lines += [*markdown(table), ""]
    table = [["visit", "lesions, ours", "lesions, publishers' preparation", "s per study", "peak GB"]]
    for row in result["lesions"]:
        ours, theirs = (f"{row[f'{key}_ml']:.2f} mL in {row[f'{key}_count']}" for key in ("ours", "published"))
        table.append([row["visit"], ours, theirs, f"{row['seconds']:.0f}", f"{row['peak_gb']:.1f}"])
    lines += [*markdown(table), ""]
    table = [["patient", "Dice as published", "on a grid of 0.7 x 0.7 x 3 mm", "and moved, prepared again"]]
    for row in result["moved"]:
        table.append([row["patient"], *(f"{row[key]:.3f}" for key in ("plain", "thick", "moved"))])
    return "\n".join([*lines, *markdown(table)]) + "\n"


def measure_masks(folder: Path) -> None:
    """Write ``results/preparation_masks.json`` and ``.md``."""
    result = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "brain": measure_brain(folder),
        "lesions": measure_lesions(folder),
        "moved": measure_moved(folder),
    }
    save("preparation_masks", result, masks_table(result))
