"""Prepared cases on disk: the sequences, the brain mask and the record, found again by the content of the input."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from shared.core.errors import OutputError
from shared.core.files import check_output_dir, whole
from shared.preparation.scan import Scan

RECORD = "preparation.json"  # written last: a folder without it is not complete
BRAIN = "brain.nii.gz"
FULL_SCALE = 32000  # of the stored integers
CHUNK = 1 << 20


class CachedCase(NamedTuple):
    """A prepared case.

    Args:
        folder: where it lies.
        scans: by sequence.
        record: see `shared.preparation.prepare.Prepared`.
    """

    folder: Path
    scans: dict[str, Scan]
    record: dict[str, Any]


def digest_of(paths: Mapping[str, Iterable[Path]], *settings: Any) -> str:
    """Return 16 hexadecimal digits that change with the content of the files and with the settings.

    Args:
        paths: files of each sequence.
        settings: anything that JSON can hold.
    """
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode("utf-8"))
    for name in sorted(paths):
        for path in sorted(paths[name]):
            found.update(f"\n{name} {path.stat().st_size}\n".encode())
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    found.update(chunk)
    return found.hexdigest()[:16]


def read_case(folder: Path, version: int) -> CachedCase | None:
    """Return the case in a folder; None if there is none, if it is damaged, or of another version."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["version"] != version:
            return None
        return CachedCase(folder, {name: _read(folder / f"{name}.nii") for name in record["sequences"]}, record)
    except Exception:  # whatever is wrong with it, the case is prepared again
        return None


def write_case(
    folder: Path, scans: Mapping[str, Scan], brain: np.ndarray, affine: np.ndarray, record: Mapping[str, Any]
) -> None:
    """Write a prepared case; intensities are stored as 16-bit integers, zero stays zero.

    Args:
        folder: created if absent.
        scans: by sequence, at least 0, all on one grid.
        brain: bool (X, Y, Z) on that grid.
        affine: 4 x 4 of the grid (RAS, mm).
        record: see `shared.preparation.prepare.Prepared`.

    Raises:
        OutputError: there is too little space, or the folder cannot be written; nothing is left behind.
    """
    needed = 3 * brain.size * len(scans) / 1e6
    problems = check_output_dir(folder, needed, "--prepared_dir")
    if problems:
        raise OutputError(problems[0])
    (folder / RECORD).unlink(missing_ok=True)
    for name, scan in scans.items():
        _write(folder / f"{name}.nii", scan)
    with whole(folder / BRAIN) as draft:
        nib.save(nib.Nifti1Image(brain.astype(np.uint8), affine), draft)
    with whole(folder / RECORD) as draft:
        content = {**record, "sequences": list(scans)}
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def files_of(path: str | os.PathLike | Iterable[os.PathLike]) -> list[Path]:
    """Return the files of a source of a volume: the file itself, or all files of a folder."""
    source = Path(path)  # type: ignore[arg-type]
    if not source.is_dir():
        return [source]
    return sorted(file for file in source.rglob("*") if file.is_file())


def _write(path: Path, scan: Scan) -> None:
    top = float(scan.voxels.max())
    slope = top / FULL_SCALE if top > 0 else 1.0
    image = nib.Nifti1Image(np.rint(scan.voxels / slope).astype(np.int16), scan.affine)
    image.header.set_slope_inter(slope, 0)
    with whole(path) as draft:
        nib.save(image, draft)


def _read(path: Path) -> Scan:
    image: Any = nib.load(path)
    return Scan(image.get_fdata(dtype=np.float32), np.asarray(image.affine, float))
