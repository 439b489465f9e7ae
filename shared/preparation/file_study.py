"""The volume files below a folder (NIfTI, NRRD, MetaImage, MGZ), described by their names and side-cars."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.io.sources import read_header
from shared.preparation.contrasts import ASIDE, WEAK_T2, classify, kind_in_words, plain
from shared.preparation.series import Series, Tags, geometry_of, to_number

VOLUME = re.compile(r"(\.nii(\.gz)?|\.mg[hz]|\.nrrd|\.nhdr|\.mh[ad]|\.img(\.gz)?)$", re.IGNORECASE)
BIDS = re.compile(r"^(?P<sub>sub-[a-z0-9]+)(_(?P<ses>ses-[a-z0-9]+))?_", re.IGNORECASE)
KEPT_ENTITIES = ("acq", "ce", "rec", "inv", "part", "echo")  # of BIDS: those that may tell the contrast
NUMBERED = re.compile(r"^(?P<case>.*?)_?(?P<number>\d{4})$")  # of nnU-Net: case_0002
# words between the name of a case and its sequence
# fmt: off
SCAN_WORDS = frozenset([
    "3d", "2d", "ax", "axial", "tra", "trans", "transversal", "transverse", "sag", "sagittal", "cor", "coronal", "obl",
    "pre", "post", "fs", "se", "tse", "fse", "gre", "ir", "iso", "mr", "mri", "brain", "head", "kopf", "schadel",
    "image", "img", "scan", "raw", "orig", "original", "reg", "registered", "n4", "bet", "stripped", "wip", "std",
])
FOLDERS = frozenset([
    "anat", "func", "dwi", "fmap", "perf", "nii", "nifti", "nrrd", "mha", "raw", "images", "scans", "mr", "mri",
    "files", "resources",
])  # fmt: on


def find_file_series(files: Iterable[Path], root: Path) -> list[Series]:
    """Return one series per volume file, sorted by study and name.

    The study of a file is its BIDS subject and session, or its folder with what its name has in front of the sequence:
    ``p1_flair.nii.gz`` and ``p1_t1.nii.gz`` are one study, ``p2_flair.nii.gz`` is another.

    Args:
        files: any files; those of other kinds are left out.
        root: the folder that was searched.

    A file that is called like a sequence and cannot be read has `damage`.
    """
    volumes = [file for file in files if VOLUME.search(file.name) and not file.name.startswith(".")]
    channels = {folder: _numbered_channels(folder, root) for folder in {file.parent for file in volumes}}
    fronts = {file: _front(file, root) for file in volumes}
    numbers = _series_numbers(fronts)
    series = [_series(file, root, *numbers[file], channels[file.parent]) for file in volumes]
    return sorted(series, key=lambda one: (one.study, one.name))


def _series(file: Path, root: Path, front: str, number: int | None, channels: list[str]) -> Series:
    stem, bids = stem_of(file), BIDS.match(file.name)
    folder = _study_folder(file, root)
    sidecar = _sidecar(file)
    words = _words(file, folder)
    numbered = NUMBERED.match(stem)
    if numbered and not _has_kind(plain(stem)) and int(numbered["number"]) < len(channels):
        words, front = channels[int(numbered["number"])], numbered["case"]
    described = " ".join(str(sidecar.get(word, "")) for word in ("SeriesDescription", "ProtocolName"))
    key = tuple(filter(None, (bids["sub"], bids["ses"]))) if bids else (str(folder), front)
    one = Series(
        name=file.name,
        words=f"{words} {described}".strip(),
        files=(file,),
        path=file,
        study=("files", *key),
        folder=folder,
        number=number if number is not None else _whole(sidecar.get("SeriesNumber")),
        tags=_tags(sidecar),
    )
    if classify(one, is_file=True).kind is None:
        return one
    try:
        header = read_header(file, f"study {folder.name}", whole=False)
    except InputError as error:
        return one._replace(damage=str(error).removeprefix(f"study {folder.name}: "))
    if header.channels > 1:
        return one._replace(flaw=f"holds {header.channels} volumes")
    if min(header.shape[:3]) < 2:
        return one._replace(flaw="a single slice")
    return one._replace(geometry=geometry_of(header.shape, header.affine))


def stem_of(file: Path) -> str:
    """Return the name of a volume file without its extension."""
    return VOLUME.sub("", file.name)


def _words(file: Path, folder: Path) -> str:
    """Return what may tell the contrast: the name, without BIDS' other entities; the folders if it tells nothing."""
    stem = stem_of(file)
    if BIDS.match(file.name):
        parts = [part for part in stem.split("_") if "-" not in part or part.split("-")[0].lower() in KEPT_ENTITIES]
        stem = " ".join(parts)
    inner = file.parent.relative_to(folder).parts if folder in file.parents else ()
    if not _has_kind(plain(stem)) and inner:
        return f"{' '.join(inner)} {stem}"
    return stem


def _has_kind(words: str) -> bool:
    return kind_in_words(words) is not None or any(re.search(pattern, words) for _, pattern in ASIDE)


def _study_folder(file: Path, root: Path) -> Path:
    """Return the folder of a file, or the one above folders that are named after a sequence or a data type."""
    folder = file.parent
    while folder != root and (
        plain(folder.name) in FOLDERS or (_has_kind(plain(folder.name)) and not front_of(folder.name))
    ):
        folder = folder.parent
    return folder


def _front(file: Path, root: Path) -> tuple[Path, str]:
    return _study_folder(file, root), front_of(stem_of(file))


def front_of(name: str) -> str:
    """Return what a name has in front of its sequence: ``p1_visit2`` of ``p1_visit2_sag_T1w``.

    Words that describe the scan (plane, 3d, pre, post) are not part of it. Without a sequence it is the name without a
    number at its end, which may be that of a series or channel.
    """
    pieces = [piece for piece in re.split(r"([_\-. ]+)", name) if piece]
    words = [plain(piece) for piece in pieces]
    starts = [index for index, word in enumerate(words) if word and _has_kind(word)]
    starts += [index for index in range(len(words)) if re.search(WEAK_T2, words[index])]
    if not starts:
        return re.sub(r"[_\-. ]*\d+[a-z]?$", "", name)
    end = min(starts)
    while end and (words[end - 1] == "" or words[end - 1] in SCAN_WORDS):
        end -= 1
    return "".join(pieces[:end])


def _series_numbers(fronts: dict[Path, tuple[Path, str]]) -> dict[Path, tuple[str, int | None]]:
    """Tell the numbers of series from those of cases: in one folder, every file has another number of its series."""
    by_folder: dict[Path, list[str]] = defaultdict(list)
    for folder, front in fronts.values():
        if re.fullmatch(r"\d+", front):
            by_folder[folder].append(front)
    found: dict[Path, tuple[str, int | None]] = {}
    for file, (folder, front) in fronts.items():
        digits = by_folder[folder]
        is_number = front in digits and len(set(digits)) == len(digits)
        found[file] = ("", int(front)) if is_number else (front, None)
    return found


def _numbered_channels(folder: Path, root: Path) -> list[str]:
    """Return the names of nnU-Net's or Decathlon's numbered channels, from ``dataset.json`` at or above a folder."""
    for place in (folder, *folder.parents):
        content = _json(place / "dataset.json")
        names = content.get("channel_names") or content.get("modality")
        if isinstance(names, dict) and all(str(index) in names for index in range(len(names))):
            return [str(names[str(index)]) for index in range(len(names))]
        if place == root:
            break
    return []


def _sidecar(file: Path) -> dict[str, Any]:
    """Return the side-car that dcm2niix or BIDS has beside a file; empty without one."""
    return _json(file.with_name(f"{stem_of(file)}.json"))


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _tags(sidecar: dict[str, Any]) -> Tags:
    """Return the tags of a side-car, whose times are in seconds."""
    if not sidecar:
        return Tags()
    times = [to_number(sidecar.get(word)) for word in ("RepetitionTime", "EchoTime", "InversionTime")]
    tr, te, ti = (None if value is None else 1000 * value for value in times)
    types, scanning = sidecar.get("ImageType") or (), str(sidecar.get("ScanningSequence") or "")
    return Tags(
        modality=str(sidecar.get("Modality") or ""),
        image_type=tuple(str(word).upper() for word in types) if isinstance(types, list) else (),
        sequence_name=str(sidecar.get("SequenceName") or sidecar.get("PulseSequenceName") or ""),
        scanning=frozenset(re.findall(r"[A-Z]+", scanning.upper())),
        is_3d={"3D": True, "2D": False}.get(str(sidecar.get("MRAcquisitionType"))),
        tr=tr,
        te=te,
        ti=ti,
        agent=str(sidecar.get("ContrastBolusAgent") or sidecar.get("ContrastBolusIngredient") or ""),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
