"""Prepared cases on disk: the sequences, the brain mask and the record, found again by the content of the input."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from shared.core.errors import OutputError
from shared.core.files import check_output_dir, sweep_drafts, whole, write_atomic, writing
from shared.core.locks import locked
from shared.preparation.scan import Scan

RECORD = "preparation.json"  # written last: a folder without it is not complete
BRAIN = "brain.nii.gz"
FULL_SCALE = 32000  # of the stored integers
BYTES = 3  # of disk per voxel of a sequence, brain mask included
DETACHED = (".mhd", ".nhdr", ".img", ".hdr")  # their voxels, or their header, lie in another file
CHUNK = 1 << 20
WAIT_S = 600  # for another run that writes the same case


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
        case = _read_case(folder)
        return case if case.record["version"] == version else None
    except Exception:  # whatever is wrong with it, the case is prepared again
        return None


def write_case(folder: Path, scans: Mapping[str, Scan], brain: np.ndarray, record: Mapping[str, Any]) -> CachedCase:
    """Write a prepared case and read it back, so that the first run and later ones see the same values.

    If another run has written the case meanwhile, complete and of this version, that one is kept: the run may be
    reading it.

    Args:
        folder: created if absent.
        scans: by sequence, at least 0, all on one grid; stored as 16-bit integers, zero stays zero.
        brain: bool (X, Y, Z) on that grid.
        record: see `shared.preparation.prepare.Prepared`.

    Raises:
        InputError: another run is still writing the case after `WAIT_S` seconds.
        OutputError: there is too little space, or the folder cannot be written; nothing is left behind.
    """
    first = next(iter(scans.values()))
    check_space(folder, first, len(scans))
    with locked(folder, "writing a prepared case", WAIT_S):
        if (there := read_case(folder, record["version"])) is not None:
            return there
        sweep_drafts(folder)
        with writing(folder / RECORD):
            (folder / RECORD).unlink(missing_ok=True)
        for name, scan in scans.items():
            _write(folder / f"{name}.nii", scan)
        with whole(folder / BRAIN) as draft:
            nib.save(nib.Nifti1Image(brain.astype(np.uint8), first.affine), draft)
        content = {**record, "sequences": list(scans)}
        write_atomic(folder / RECORD, json.dumps(content, indent=2) + "\n")
        return _read_case(folder)


def check_space(folder: Path, scan: Scan, count: int) -> None:
    """Check that a case with `count` sequences on the grid of `scan` can be written.

    Raises:
        OutputError: there is too little space, or the folder cannot be written; one line.
    """
    needed_mb = BYTES * scan.voxels.size * count / 1e6
    problems = check_output_dir(folder, needed_mb, "--prepared_dir")
    if problems:
        raise OutputError(problems[0])


def files_of(path: str | os.PathLike) -> list[Path]:
    """Return the files of a source of a volume: the file itself, or all files of a folder.

    A header whose voxels lie in a file of their own brings all files of its name.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        return sorted(file for file in source.rglob("*") if file.is_file())
    if source.suffix.lower() in DETACHED:
        return sorted(source.parent.glob(f"{glob.escape(source.stem)}.*"))
    return [source]


def _read_case(folder: Path) -> CachedCase:
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return CachedCase(folder, {name: _read(folder / f"{name}.nii") for name in record["sequences"]}, record)


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
