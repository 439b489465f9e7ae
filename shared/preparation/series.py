"""One series of a study: its files and what their names and headers say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

PLANES = ("sagittal", "coronal", "axial")  # whose slices lie along x, y, z


class Tags(NamedTuple):
    """What the header of a series, or the side-car of a file, says about the acquisition.

    Args:
        modality: "MR", "CT", ...; empty if unknown.
        image_type: DICOM's ImageType, upper case.
        sequence_name: of the vendor's pulse sequence, such as ``*tfl3d1_16ns``.
        scanning: DICOM's ScanningSequence, of "SE", "IR", "GR", "EP", "RM".
        is_3d: acquired as a volume; None if unknown.
        tr, te, ti: repetition, echo and inversion time, in ms; None if unknown or 0.
        agent: ContrastBolusAgent; empty if none was given or it is unknown.
        diffusion: a b-value above 0 is stated.
        angiography: the AngioFlag is set.
        contrast: of an enhanced file, its AcquisitionContrast.
    """

    modality: str = ""
    image_type: tuple[str, ...] = ()
    sequence_name: str = ""
    scanning: frozenset[str] = frozenset()
    is_3d: bool | None = None
    tr: float | None = None
    te: float | None = None
    ti: float | None = None
    agent: str = ""
    diffusion: bool = False
    angiography: bool = False
    contrast: str = ""

    @property
    def times(self) -> str:
        """The times as the table shows them: ``TR 9000, TE 86, TI 2500 ms``; empty if none is known."""
        known = [(name, value) for name, value in (("TR", self.tr), ("TE", self.te), ("TI", self.ti)) if value]
        return ", ".join(f"{name} {value:.4g}" for name, value in known) + " ms" if known else ""


class Geometry(NamedTuple):
    """Where the slices of a series lie.

    Args:
        slices: their number.
        thickness: distance of neighbouring slices, in mm.
        extent: the smallest of the three edges of the field of view, in mm.
        plane: "axial", "coronal" or "sagittal", whichever is nearest.
    """

    slices: int
    thickness: float
    extent: float
    plane: str

    def __str__(self) -> str:
        """Describe it as the table does: ``24 axial slices of 5 mm``."""
        return f"{self.slices} {self.plane} slices of {self.thickness:.3g} mm"


class Series(NamedTuple):
    """One series: of DICOM, one acquisition with one echo; else one file.

    Args:
        name: as a user knows it: the series description, or the file's name.
        words: all words that may tell what it is: description and protocol, or the names of file and folder.
        files: its files.
        path: what `shared.io.sources.load_volume` reads; None if its folder holds other series too.
        study: key of its study.
        folder: of the study.
        number: of the series, as the scanner counts.
        tags: what its header says.
        geometry: None if unknown.
        not_a_scan: why it is no image, such as a report; else empty.
        flaw: why its images are no volume; else empty.
        date: of the study, as in DICOM (YYYYMMDD); empty if unknown.
        damage: why a file cannot be read, as one line that names it; else empty. It stops the study, not others.
    """

    name: str
    words: str
    files: tuple[Path, ...]
    path: Path | None
    study: tuple[str, ...] = ()
    folder: Path = Path()
    number: int | None = None
    tags: Tags = Tags()
    geometry: Geometry | None = None
    not_a_scan: str = ""
    flaw: str = ""
    date: str = ""
    damage: str = ""

    @property
    def label(self) -> str:
        """Name and number, for messages: ``series 5 't2_tirm_tra_dark-fluid'``."""
        return f"'{self.name}'" if self.number is None else f"series {self.number} '{self.name}'"


def geometry_of(shape: tuple[int, ...], affine: np.ndarray) -> Geometry:
    """Describe a volume (X, Y, Z) with its affine (RAS or LPS, mm); the slices lie along its longest voxel edge."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    axis = max(range(3), key=lambda index: (round(float(edges[index]), 3), index))
    return Geometry(
        slices=int(shape[axis]),
        thickness=float(edges[axis]),
        extent=float(min(np.array(shape[:3]) * edges)),
        plane=plane_of_normal(affine[:3, axis]),
    )


def plane_of_normal(normal: np.ndarray) -> str:
    """Return the plane that slices with a normal (RAS or LPS) are nearest to."""
    return PLANES[int(np.argmax(np.abs(normal)))]


def to_number(value: object) -> float | None:
    """Return a number above 0, or None: scanners write 0 for a time that a sequence does not have."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
