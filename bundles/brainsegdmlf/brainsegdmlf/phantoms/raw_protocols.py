"""The protocols of a raw study, and the study that they give."""

from __future__ import annotations

from dataclasses import dataclass

from brainsegdmlf.phantoms.anatomy import Array


@dataclass(frozen=True)
class Protocol:
    """How a series is acquired and what its header says.

    Attributes:
        number: of the series.
        description: of the series, as in its header.
        axes: where the columns, rows and slices of the stored volume run to, such as ("L", "A", "S").
        spacing: mm per voxel along `axes`; the last is the slice thickness.
        shape: voxels along `axes`.
        tr, te, ti: repetition, echo and inversion time in ms; None for a sequence without.
        scanning, variant: DICOM's ScanningSequence and SequenceVariant.
        is_3d: acquired as a volume; else slice by slice.
        image_type: DICOM's ImageType.
        agent: DICOM's ContrastBolusAgent.
        tilt: degrees by which the slices are turned about the axis to the right.
        lower: mm by which the middle of the volume lies below the middle of the brain.
    """

    number: int
    description: str
    axes: tuple[str, str, str]
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    tr: float
    te: float
    ti: float | None
    scanning: tuple[str, ...]
    variant: tuple[str, ...]
    is_3d: bool = False
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
    agent: str = ""
    tilt: float = 0.0
    lower: float = -6.0


AXIAL, SAGITTAL = ("L", "A", "S"), ("P", "S", "R")  # as dcm2niix stores them
LOCALISER_PLANES = (AXIAL, SAGITTAL, ("L", "S", "P"))
SPIN, STORED = ("SE",), ("SK", "SP", "OSP")
PROTOCOLS = {
    "localiser": Protocol(
        1, "localizer", AXIAL, (1.0, 1.0, 8.0), (256, 256, 1), 8.6, 4.0, None, ("GR",), ("SP", "OSP"), lower=15
    ),
    "t1": Protocol(
        2, "t1_mprage_sag_p2_iso", SAGITTAL, (1.1, 1.1, 1.1), (232, 232, 176), 2300, 2.98, 900, ("GR", "IR"),
        ("SK", "SP", "MP"), is_3d=True, lower=24,
    ),
    "flair": Protocol(
        3, "t2_tirm_tra_dark-fluid", AXIAL, (0.9, 0.9, 4.0), (256, 256, 42), 9000, 86, 2500, ("SE", "IR"),
        ("SK", "SP", "MP", "OSP"),
    ),
    "t2": Protocol(
        4, "t2_tse_tra_obl", AXIAL, (0.8, 0.8, 3.5), (272, 288, 48), 5500, 95, None, SPIN, STORED, tilt=12.0
    ),
    "adc": Protocol(
        6, "ep2d_diff_b1000_ADC", AXIAL, (1.8, 1.8, 5.0), (128, 128, 34), 4500, 90, None, ("EP",), ("SK", "SP"),
        image_type=("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"),
    ),
    "t1ce": Protocol(
        7, "t1_se_tra_post_gd", AXIAL, (0.9, 0.9, 3.0), (256, 256, 56), 550, 9.1, None, SPIN, STORED,
        agent="GADOBUTROL",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class RawVolume:
    """One volume as a scanner gives it.

    Attributes:
        voxels: int16 (X, Y, Z), along the axes of its protocol.
        affine: 4 x 4, voxel indices to world coordinates in mm (RAS+).
        protocol: how it was acquired.
    """

    voxels: Array
    affine: Array
    protocol: Protocol


@dataclass(frozen=True)
class RawStudy:
    """A synthetic study of one head, with the truth.

    Attributes:
        seed: from which it was made.
        images: the volume of every sequence, by name.
        brains: uint8 brain mask of FLAIR ("flair", always) and of every sequence, each on the grid of its sequence.
        lesion: uint8 lesion label on the grid of FLAIR.
        flair_affine: 4 x 4, that of the grid of FLAIR.
        transforms: true rigid transforms by sequence, 4 x 4: world of FLAIR -> world of the sequence (RAS, mm).
        localiser: three single slices: axial, sagittal, coronal.
        adc: a derived series, as a diffusion sequence gives it.
    """

    seed: int
    images: dict[str, RawVolume]
    brains: dict[str, Array]
    lesion: Array
    flair_affine: Array
    transforms: dict[str, Array]
    localiser: tuple[RawVolume, ...]
    adc: RawVolume
