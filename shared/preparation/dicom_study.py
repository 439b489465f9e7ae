"""The DICOM series below a folder, read from their headers alone, each file once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from tqdm import tqdm

from shared.core.messages import reason
from shared.io.dicom_enhanced import as_plain_slice, image_type
from shared.io.dicom_files import NO_PIXELS, check_broken, is_dicom, read_dicom
from shared.preparation.series import Geometry, Series, Tags, plane_of_normal, to_number

SECONDS = 5  # until a bar is shown
TABLE_OF_CONTENTS = "Media Storage Directory Storage"
SEGMENTATION = "SEG"
SAME_DIRECTION = 0.02  # of a slice's normal: a larger difference is another direction
WANTED: list[Any] = [
    *(
        "SOPClassUID",
        "TransferSyntaxUID",
        "Modality",
        "PatientID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "StudyDate",
    ),
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "ImageType", "SequenceName", "PulseSequenceName"),
    *("ScanningSequence", "EchoPulseSequence", "InversionRecovery", "MRAcquisitionType", "AcquisitionContrast"),
    *("RepetitionTime", "EchoTime", "EchoNumbers", "InversionTime", "DiffusionBValue", "AngioFlag"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "NumberOfFrames", "Rows", "Columns", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


class _Image(NamedTuple):
    """One file: where it is and its header without pixels."""

    file: Path
    header: pydicom.Dataset

    def text(self, word: str) -> str:
        return str(self.header.get(word) or "").strip()

    @property
    def kind(self) -> str:
        """The name of its SOP class."""
        return str(getattr(self.header.get("SOPClassUID"), "name", ""))


def find_dicom_series(files: Iterable[Path]) -> list[Series]:
    """Return the series of DICOM files, sorted by study, number and description.

    A series with several echoes or image types at each place (magnitude and phase) is one series for each of them.
    A file that is empty, cut short or names no series is a series with `damage`, of the studies whose images lie beside
    it, or of none.

    Args:
        files: any files; those that are not DICOM are left out.
    """
    files, broken = list(files), dict[Path, str]()
    images = list(_read(files, broken))
    groups: dict[tuple, list[_Image]] = defaultdict(list)
    for image in images:
        groups[_key(image)].append(image)
    beside = defaultdict(set)  # the images of each folder, as the reader of a series finds them
    for image in images:
        if _is_image(image):
            beside[image.file.parent].add(image.file)
    for folder in beside:
        try:
            check_broken(folder)
        except ValueError as error:
            broken[folder / "broken"] = f"{folder}: {error}"
    series = [_series(part, beside) for group in groups.values() for part in _acquisitions(group)]
    if broken:
        root = Path(os.path.commonpath([file.parent for file in files]))
        series += [one for file, why in broken.items() for one in _damaged(file, why, series, root)]
    return sorted(series, key=lambda one: (one.study, one.number or 0, one.name, one.files))


def _damaged(file: Path, why: str, series: Sequence[Series], root: Path) -> list[Series]:
    """Return a series with `damage` for each study that a file may belong to: the nearest ones below `root`."""
    folders = [folder for folder in file.parents if folder == file.parent or root in folder.parents]
    for folder in folders:
        if studies := {one.study for one in series if folder in one.files[0].parents}:
            break
    else:
        studies = {("DICOM", "", str(file.parent))}
    return [
        Series(name=file.name, words="", files=(file,), path=None, study=study, folder=file.parent, damage=why)
        for study in sorted(studies)
    ]


def _read(files: Sequence[Path], broken: dict[Path, str]) -> Iterator[_Image]:
    """Yield the images, and enter in `broken` what is wrong with other DICOM files."""
    for file in tqdm(files, "reading DICOM headers", delay=SECONDS, leave=False):
        try:
            if not is_dicom(file):
                continue
            header = as_plain_slice(read_dicom(file, stop_before_pixels=True, specific_tags=WANTED))
            image = _Image(file, header)
            if image.kind == TABLE_OF_CONTENTS:
                continue
        except OSError as error:
            broken[file] = f"{file} cannot be read: {error.strerror or error}"
            continue
        except Exception as error:
            broken[file] = f"{file} is a damaged DICOM file ({reason(error)}): copy it again, or remove it"
            continue
        if not image.text("SeriesInstanceUID") and _is_image(image):
            broken[file] = f"{file} names no series (SeriesInstanceUID): a file cut short? copy it again, or remove it"
            continue
        yield image


def _is_image(image: _Image) -> bool:
    """Return True for what `shared.io.dicom_series` counts as a slice of the folder."""
    return not NO_PIXELS.search(image.kind) and image.text("Modality") != SEGMENTATION


def _key(image: _Image) -> tuple:
    """Tell apart the studies and their series; a file of several frames is a series of its own."""
    key = image.text("PatientID"), image.text("StudyInstanceUID"), image.text("SeriesInstanceUID")
    return (*key, str(image.file)) if "PerFrameFunctionalGroupsSequence" in image.header else key


def _acquisitions(images: list[_Image]) -> list[list[_Image]]:
    """Divide a series with several images at one place into its echoes and image types (magnitude and phase)."""
    places = {str(image.header.get("ImagePositionPatient")) for image in images}
    if len(places) == len(images):
        return [images]
    parts: dict[tuple, list[_Image]] = defaultdict(list)
    for image in images:
        echo = image.header.get("EchoNumbers") or image.header.get("EchoTime")  # enhanced files number no echoes
        parts[image_type(image.header), str(echo or "")].append(image)
    return list(parts.values())


def _series(images: list[_Image], beside: dict[Path, set[Path]]) -> Series:
    """Describe one series by its first image and the places of all."""
    first, header = images[0], images[0].header
    files = tuple(image.file for image in images)
    folder = Path(os.path.commonpath([file.parent for file in files]))
    name = first.text("SeriesDescription") or first.text("ProtocolName")
    words = " ".join(dict.fromkeys(filter(None, (first.text("SeriesDescription"), first.text("ProtocolName")))))
    not_a_scan = _not_a_scan(first)
    geometry, flaw = (None, "") if not_a_scan else _geometry(images)
    return Series(
        name=name or folder.name,
        words=words or folder.name,
        files=files,
        path=_path(files, beside),
        study=("DICOM", first.text("PatientID"), first.text("StudyInstanceUID")),
        folder=folder,
        number=_whole(header.get("SeriesNumber")),
        tags=_tags(first),
        geometry=geometry,
        not_a_scan=not_a_scan,
        flaw=flaw,
        date=first.text("StudyDate"),
    )


def _path(files: tuple[Path, ...], beside: dict[Path, set[Path]]) -> Path | None:
    """Return the path that the readers take for these files alone, or None."""
    if len(files) == 1:
        return files[0]
    folder = files[0].parent
    return folder if beside[folder] == set(files) else None


def _not_a_scan(image: _Image) -> str:
    kind, modality = image.kind, image.text("Modality")
    if modality == SEGMENTATION:
        return "a segmentation (DICOM SEG)"
    if NO_PIXELS.search(kind) or "Spectroscopy" in kind or "Raw Data" in kind:
        return f"no image: {kind.removesuffix(' Storage')}"
    if "Secondary Capture" in kind:
        return "a screenshot (secondary capture)"
    return ""


def _tags(image: _Image) -> Tags:
    header = image.header
    scanning = {word.upper() for word in _words(header.get("ScanningSequence"))}
    pulse, recovery = image.text("EchoPulseSequence"), _deep(header, "InversionRecovery")  # of enhanced files
    scanning |= {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(pulse, set())
    scanning |= {"IR"} if recovery == "YES" else set()
    agent = image.text("ContrastBolusAgent")
    if not agent and header.get("ContrastBolusAgentSequence"):
        agent = "in ContrastBolusAgentSequence"
    return Tags(
        modality=image.text("Modality"),
        image_type=image_type(header),
        sequence_name=image.text("SequenceName") or image.text("PulseSequenceName"),
        scanning=frozenset(scanning),
        is_3d={"3D": True, "2D": False}.get(image.text("MRAcquisitionType")),
        tr=to_number(_deep(header, "RepetitionTime")),
        te=to_number(_deep(header, "EchoTime") or _deep(header, "EffectiveEchoTime")),
        ti=to_number(_first(_deep(header, "InversionTime") or _deep(header, "InversionTimes"))),
        agent="" if agent.lower() in ("no", "none", "n", "0", "without") else agent,
        diffusion=to_number(_deep(header, "DiffusionBValue")) is not None,
        angiography=image.text("AngioFlag") == "Y",
        contrast=image.text("AcquisitionContrast").upper(),
    )


def _geometry(images: list[_Image]) -> tuple[Geometry | None, str]:
    """Return where the slices lie, and why they form no volume if so."""
    try:
        places = [place for image in images for place in _places(image)]
        positions = np.array([place[0] for place in places], float).reshape(-1, 3)
        cosines = np.array([place[1] for place in places], float).reshape(-1, 2, 3)
        spacing = np.array(_deep(images[0].header, "PixelSpacing"), float).reshape(2)
    except (TypeError, ValueError):
        return None, "its images have no place in space"
    normals = np.cross(cosines[:, 0], cosines[:, 1])
    if np.abs(normals - normals[0]).max() > SAME_DIRECTION:
        return None, "slices in several directions: a localiser"
    heights = np.unique(np.round(positions @ normals[0], 2))
    if len(heights) < 2:
        return None, "a single slice" if len(places) == 1 else f"{len(places)} images at one position"
    header, thickness = images[0].header, float(np.median(np.diff(heights)))
    edges = [int(header.Columns) * spacing[1], int(header.Rows) * spacing[0], len(heights) * thickness]
    geometry = Geometry(len(heights), thickness, float(min(edges)), plane_of_normal(normals[0]))
    if len(heights) < len(places):
        return geometry, f"{len(places)} images at {len(heights)} positions: several times or echoes"
    return geometry, ""


def _places(image: _Image) -> Iterator[tuple[Any, Any]]:
    """Yield position and orientation of an image, or of every frame of it."""
    header = image.header
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        yield header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
        return
    for frame in frames:
        yield _in_groups([frame], "ImagePositionPatient"), _deep(header, "ImageOrientationPatient", frame)


def _deep(header: pydicom.Dataset, word: str, frame: pydicom.Dataset | None = None) -> Any:
    """Return an attribute of the image, or of the functional groups of a frame (the first one) or of all frames."""
    value = header.get(word)
    if value not in (None, ""):
        return value
    frames = [frame] if frame is not None else list(header.get("PerFrameFunctionalGroupsSequence") or [])[:1]
    return _in_groups([*frames, *(header.get("SharedFunctionalGroupsSequence") or [])], word)


def _in_groups(groups: Sequence[pydicom.Dataset], word: str) -> Any:
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value and element.value[0].get(word) not in (None, ""):
                return element.value[0].get(word)
    return None


def _words(value: Any) -> list[str]:
    if value in (None, ""):
        return []
    return [str(word) for word in ([value] if isinstance(value, str) else value)]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) and value else value


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
