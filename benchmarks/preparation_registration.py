"""Registration of raw sequences to FLAIR, on real scans whose answer is known.

Three things are measured. "visits": raw sequences are registered to FLAIR with the headers that the scanner
gave, and compared with the publishers' transforms, which are affine: part of the distance is scale that no rigid motion
has. "trials": the header of a sequence is turned by up to 20 degrees about a random axis, shifted by up to 30 mm, and
loses its origin in two of three trials; the motion is known. "others": sequences of another patient, which must be
found unreliable. Distances are means over the brain. Time is processor time with one thread.
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from record import cpu_name, save
from scipy.spatial.transform import Rotation

from shared.io.affine import LPS
from shared.preparation.registration import Registration, register
from shared.preparation.scan import Scan
from shared.results.tables import markdown

TURN, SHIFT = 20.0, 30.0  # degrees, mm; largest motion of a trial
CLOSE = 1.5  # mm; a trial counts as right up to this mean distance
POINTS = 5000  # of the brain, at which distances are taken
VISITS = ("study1", "study2")
RAW_FILES = {"flair": "FLAIR", "t1": "T1W", "t2": "T2W"}
STRIPPED = ("patient07", "patient26")


def read(file: Path) -> Scan:
    """Read a NIfTI file as float32."""
    image = nibabel.load(file)
    return Scan(np.asarray(image.dataobj, np.float32), image.affine)


def read_transform(file: Path) -> np.ndarray:
    """Read ITK's text file of an affine transform: 4 x 4, RAS, from the world of the target to that of the source."""
    pairs = (line.split(":") for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
    rows = {key: np.array(values.split(), float) for key, values in pairs if key != "Transform"}
    parameters, centre = rows["Parameters"], rows["FixedParameters"]
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = centre + parameters[9:] - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS


def sample(scan: Scan) -> np.ndarray:
    """Return places (N, 3) in the world where a mask is not zero."""
    voxels = np.argwhere(scan.voxels > 0)
    chosen = np.random.default_rng(0).choice(len(voxels), min(POINTS, len(voxels)), replace=False)
    return at(scan.affine, voxels[chosen])


def at(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 4 x 4 matrix to points (N, 3)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def distance(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> float:
    """Return the mean distance between where two matrices send points, in mm."""
    return float(np.linalg.norm(at(one, points) - at(other, points), axis=1).mean())


def disturb(scan: Scan, random: np.random.Generator, origin: str) -> Scan:
    """Return the scan with a header that is turned and shifted; `origin` is "kept", "zero" or "centre"."""
    axis, shift = random.normal(size=3), random.normal(size=3)
    turn = np.deg2rad(random.uniform(0, TURN)) * axis / np.linalg.norm(axis)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    motion[:3, 3] = scan.centre - motion[:3, :3] @ scan.centre
    motion[:3, 3] += shift / np.linalg.norm(shift) * random.uniform(0, SHIFT)
    affine = motion @ scan.affine
    if origin == "zero":
        affine[:3, 3] = 0
    elif origin == "centre":
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(scan.voxels.shape) - 1) / 2)
    return scan._replace(affine=affine)


def pairs(folder: Path) -> list[dict[str, Any]]:
    """Return all pairs of sequences with a known answer.

    Each has "name", "moving" and "fixed" (files), "truth" (4 x 4) and "points" of the brain in the fixed world.
    """
    found = []
    raw = folder / "brain_raw" / "patient01"
    common = sample(read(raw / "common_space_brainmask.nii.gz"))
    for visit in VISITS:
        points = at(read_transform(raw / f"{visit}_FLAIR_to_common_space.txt"), common)
        for name in ("t1", "t2"):
            truth = read_transform(raw / f"{visit}_{RAW_FILES[name]}_intrastudy_to_FLAIR.txt")
            moving, fixed = (raw / f"{visit}_{RAW_FILES[key]}.nii.gz" for key in (name, "flair"))
            found.append(dict(name=f"{visit} {name}", moving=moving, fixed=fixed, truth=truth, points=points))
    for patient in STRIPPED:
        files = folder / "brain_ms" / patient
        points = sample(read(files / "flair.nii.gz"))
        found += [
            dict(
                name=f"{patient} {name}",
                moving=files / f"{name}.nii.gz",
                fixed=files / "flair.nii.gz",
                truth=np.eye(4),
                points=points,
            )
            for name in ("t1", "t2")
        ]
    return found


def timed(moving: Scan, fixed: Scan) -> tuple[Registration, dict[str, Any]]:
    """Register, and return the result with its figures."""
    begin = time.process_time()
    found = register(moving, fixed)
    figures = {"cpu_s": time.process_time() - begin, "quality": found.quality, "reliable": found.reliable}
    return found, figures | {"start": found.start, "reason": found.reason}


def visits(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Register the raw sequences as the scanner gave them."""
    rows = []
    for pair in (pair for pair in known if pair["name"].startswith(VISITS)):
        found, figures = timed(read(pair["moving"]), read(pair["fixed"]))
        before, after = (distance(matrix, pair["truth"], pair["points"]) for matrix in (np.eye(4), found.matrix))
        rows.append({"name": pair["name"], "header_mm": before, "distance_mm": after} | figures)
        print(rows[-1], flush=True)
    return rows


def trials(known: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Register sequences whose headers were disturbed; the pairs take turns."""
    rows = []
    for index in range(count):
        pair, origin = known[index % len(known)], ("kept", "zero", "centre")[index % 3]
        moving = read(pair["moving"])
        disturbed = disturb(moving, np.random.default_rng(index), origin)
        truth = disturbed.affine @ np.linalg.inv(moving.affine) @ pair["truth"]
        found, figures = timed(disturbed, read(pair["fixed"]))
        before, after = (distance(matrix, truth, pair["points"]) for matrix in (np.eye(4), found.matrix))
        rows.append({"name": pair["name"], "origin": origin, "header_mm": before, "distance_mm": after} | figures)
        print(rows[-1], flush=True)
    return rows


def others(folder: Path) -> list[dict[str, Any]]:
    """Register sequences of other patients."""
    rows = []
    first, second = (folder / "brain_ms" / patient for patient in STRIPPED)
    raw = folder / "brain_raw" / "patient01"
    tried = [
        (one / f"{name}.nii.gz", two / "flair.nii.gz")
        for one, two in ((first, second), (second, first))
        for name in RAW_FILES
    ]
    tried += [(first / "t1.nii.gz", raw / "study1_FLAIR.nii.gz"), (raw / "study2_T1W.nii.gz", second / "flair.nii.gz")]
    for moving, fixed in tried:
        _, figures = timed(read(moving), read(fixed))
        name = " to ".join(f"{file.parent.parent.name} {file.parent.name} {file.name[:-7]}" for file in (moving, fixed))
        rows.append({"name": name} | figures)
        print(rows[-1], flush=True)
    return rows


def registration_table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["# Registration of raw sequences", "", *((__doc__ or "").split("\n\n")[1].splitlines()), ""]
    lines += [", ".join(f"{key} {result[key]}" for key in ("date", "cpu", "simpleitk")), ""]
    table = [["visit, sequence", "header mm", "registered mm", "quality", "reliable", "CPU s"]]
    for row in result["visits"]:
        cells = [row["name"], f"{row['header_mm']:.2f}", f"{row['distance_mm']:.2f}", f"{row['quality']:.2f}"]
        table.append([*cells, "yes" if row["reliable"] else "no", f"{row['cpu_s']:.1f}"])
    lines += [*markdown(table), ""]
    table = [
        ["trials", "count", f"within {CLOSE} mm", "median mm", "worst mm", "found unreliable", "wrong but reliable"]
    ]
    groups = {"raw": VISITS, "skull-stripped": STRIPPED, "all": VISITS + STRIPPED}
    for name, beginnings in groups.items():
        rows = [row for row in result["trials"] if row["name"].startswith(beginnings)]
        if rows:
            apart = np.array([row["distance_mm"] for row in rows])
            kept = np.array([row["reliable"] for row in rows])
            cells = [name, str(len(rows)), str(int((apart <= CLOSE).sum())), f"{np.median(apart):.2f}"]
            cells += [f"{apart.max():.1f}", str(int((~kept).sum())), str(int((kept & (apart > CLOSE)).sum()))]
            table.append(cells)
    lines += [*markdown(table), ""]
    table = [["other patient", "quality", "found unreliable"]]
    table += [[row["name"], f"{row['quality']:.2f}", "no" if row["reliable"] else "yes"] for row in result["others"]]
    return "\n".join([*lines, *markdown(table)]) + "\n"


def measure_registration(folder: Path, count: int) -> None:
    """Write ``results/preparation_registration.json`` and ``.md``; `count` headers are disturbed."""
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    known = pairs(folder)
    result = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "simpleitk": SimpleITK.Version.VersionString(),
        "visits": visits(known),
        "trials": trials(known, count),
        "others": others(folder),
    }
    save("preparation_registration", result, registration_table(result))
