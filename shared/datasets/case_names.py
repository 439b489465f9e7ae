"""Names of cases, from which the folders and files of a run get their names.

A case is named after its file, whatever else is in the list. The names that scanners and programs give to every
patient's files (numbers, words such as ``image`` and ``slice``) always carry their folder: see `is_generic`.

=====================================  ======================  =====================================================
image                                  name                    why
=====================================  ======================  =====================================================
``scans/patient_001.nii.gz``           ``patient_001``         the file's name without its extension
``p1/IM0001.jpg``                      ``p1_IM0001``           ``IM0001`` is generic: the folder comes in front
``p1/I10``                             ``p1_I10``
``eyes/00001.png``                     ``eyes_00001``          a number alone is generic
``p1/image.nii.gz``                    ``p1_image``
``p1/slice_001.png``                   ``p1_slice_001``
``p1/dicom/IM0001.dcm``                ``p1_dicom_IM0001``     ``dicom`` is generic as well: the next folder, too
``p1/T1`` (a folder of DICOM files)    ``p1_T1``
``1.2.840.113619.2.5`` (a folder)      ``1.2.840.113619.2.5``  identifiers of DICOM are unique
``[p3_flair.nii, p3_t1.nii]``          ``p3``                  several sequences: their names are dropped
``[p1/flair.nii, p1/t1.nii]``          ``p1``                  ... and the folder remains
``[im/001_flair.nii, im/001_t1.nii]``  ``im_001``              ... and a number remains
=====================================  ======================  =====================================================

Names that are not generic may still meet in one list: ``s1/p7.png`` and ``s2/p7.png`` both get their folder, ``s1_p7``
and ``s2_p7``, and ``d/p7.png`` and ``d/p7.jpg`` keep their extension. Only there does a name depend on the list.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.core.missing import is_missing, present

WORDS = re.compile(r"[_\-. ]")
EXTENSION = re.compile(
    r"(\.(nii|mgh|mgz|img|hdr|nrrd|mha|mhd))?(\.gz)?$|\.(png|jpe?g|tiff?|bmp|dcm|dicom|ima|npy|npz)$", re.IGNORECASE
)
SIGNS = '<>:"|?*'  # which Windows does not allow in the names of files
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # names that Windows keeps for devices
MAX_BYTES = 120  # of a name in UTF-8; results append to it, and file systems allow 255
RESULT_FILES = ("predictions.json", "predictions.csv", "failed.json", "report.html", "metrics.json", "metrics.csv")
# fmt: off
SEQUENCES = frozenset([
    "flair", "t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t1post", "t1km", "t1wks", "t2", "t2w",
    "t2f", "t2s", "t2star", "pd", "pdw", "dwi", "adc", "swi", "tof", "mra", "mprage", "mp2rage",
    "stir", "tirm", "gre", "epi", "bold", "asl", "cbf", "cbv", "mtt", "tmax", "ct", "cta",
    "ctp", "ncct", "pet", "bssfp", "lge", "cine", "dixon",
])  # fmt: on
# fmt: off
GENERIC = frozenset([  # words that tell no patient from another, in names of files and folders
    "i", "im", "img", "imgs", "image", "images", "imagestr", "imagests", "pic", "picture", "photo", "dsc", "dscn",
    "scan", "scans", "volume", "vol", "slice", "slices", "frame", "frames", "series", "ser", "se", "study", "file",
    "files", "export", "capture", "screenshot", "untitled", "input", "inputs", "data", "dataset", "raw", "dicom", "dcm",
    "nifti", "nii", "png", "jpg", "mr", "mri", "us", "xa", "cr", "dx", "anat", "anatomy", "axial", "ax", "tra",
    "coronal", "cor", "sagittal", "sag", "mm", "train", "training", "test", "testing", "val", "validation", "left",
    "right", "ed", "es",
])  # fmt: on
UID_PARTS = 5  # numbers of a DICOM identifier, at least
MAX_FOLDERS = 3  # in front of a generic name


def name_cases(images: Sequence[Any], taken: Collection[str] = ()) -> list[str]:
    """Name every case after its file; see the table above.

    Args:
        images: ``image`` of each case: a path, or a list with one path per sequence and None for a missing one.
        taken: names that other cases already have.

    Returns:
        One name per case, all different and fit for a folder. An image that is listed again gets ``p01_repeat2``.
    """
    keys = [tuple(present(image)) for image in images]
    candidates = {key: _candidates(image) for key, image in zip(keys, images)}
    names = dict(zip(candidates, tell_apart(list(candidates.values()), taken)))
    used, repeats, found = {fold(name) for name in (*taken, *names.values())}, Counter[tuple](), []
    for key in keys:
        name = names[key]
        repeats[key] += 1
        if repeats[key] > 1:
            while fold(name := f"{names[key]}_repeat{repeats[key]}") in used:
                repeats[key] += 1
        used.add(fold(name))
        found.append(name)
    return found


def tell_apart(candidates: Sequence[Iterator[str]], taken: Collection[str] = ()) -> list[str]:
    """Choose a name for each of several cases.

    All cases that would have the same name get their next candidate, so the order of the cases does not matter. Names
    that differ only in upper and lower case count as the same, as they are for some file systems.

    Args:
        candidates: names of each case in order of preference; each must end with one that is unique.
        taken: names that other cases already have.
    """
    names = [next(names) for names in candidates]
    used = {fold(name) for name in taken}
    while True:
        folded = [fold(name) for name in names]
        counts = Counter(folded)
        colliding = [index for index, name in enumerate(folded) if counts[name] > 1 or name in used]
        if not colliding:
            return names
        for index in colliding:
            names[index] = next(candidates[index])


def qualify(name: str, folder: Path) -> Iterator[str]:
    """Yield a name, then with a folder more in front of it each time: ``c``, ``b_c``, ``a_b_c`` for ``a/b``."""
    parts = _folders(folder)
    for first in range(len(parts), -1, -1):
        yield fit_name("_".join([*parts[first:], name]))


def is_generic(name: str) -> bool:
    """Tell whether a name may occur for every patient: it consists of numbers, `GENERIC` words and sequences.

    ``IM0001``, ``I10``, ``00001``, ``slice_001``, ``T1_2mm`` and ``20230115`` are generic; ``p1``, ``patient_001``,
    ``IMG_smith`` and the identifiers of DICOM, which have five numbers or more, are not.
    """
    words = [word for word in WORDS.split(name.lower()) if word]
    if len(words) >= UID_PARTS and name.count(".") == len(words) - 1 and all(word.isdecimal() for word in words):
        return False
    return all(word in SEQUENCES or re.sub(r"^\d+|\d+$", "", word) in GENERIC | {""} for word in words)


def fold(name: str) -> str:
    """Return a key that is equal for names that some file systems confuse: other case, or other encoding of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def check_name(name: Any, what: str) -> str:
    """Return a name from a data list as text.

    Args:
        name: the value of its key.
        what: key and place, begins the message.

    Raises:
        InputError: not a text or whole number, or a text that cannot name a folder of results.
    """
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise InputError(f"{what} is {name!r:.80}: give a text")
    name = str(name)
    remedy = _flaw(name)
    if remedy:
        raise InputError(f"{what} {_shown(name)} cannot be a folder name: {remedy}")
    return name


def check_case_id(name: Any, what: str) -> str:
    """Return a case id from a data list as text; unlike other names it must also suit Windows.

    Args:
        name: the value of its key.
        what: key and place, begins the message.

    Raises:
        InputError: `check_name` fails; the id holds a sign that Windows does not allow, ends in a blank, or is the name
            of a device there, such as "con".
    """
    name = check_name(name, what)
    if any(sign in name for sign in SIGNS):
        raise InputError(f"{what} {_shown(name)} cannot be a folder name on Windows: leave out {' '.join(SIGNS)}")
    if name.endswith(" "):
        raise InputError(f"{what} {_shown(name)} cannot be a folder name on Windows: leave out the blank at its end")
    if DEVICE.match(name):
        raise InputError(f"{what} {_shown(name)} cannot be a folder name on Windows (a device's name): add a letter")
    return name


def fit_name(name: str) -> str:
    """Return a name that `check_case_id` accepts, changed as little as possible."""
    signs = ("_" if _is_unprintable(sign) or sign in f"/\\{SIGNS}" else sign for sign in name)
    name = "".join(signs).strip(". ")
    name = name if name.strip() else "case"
    name = f"_{name}" if DEVICE.match(name) else name
    if len(name.encode("utf-8")) > MAX_BYTES:
        name = f"{name.encode('utf-8')[: MAX_BYTES - 9].decode('utf-8', 'ignore')}_{_digest(name)[:8]}"
    return f"{name}_" if name.lower() in RESULT_FILES else name


def _flaw(name: str) -> str | None:
    """Return how to correct a name that cannot be a folder name; None if it can."""
    if not name.strip():
        return "give a name, or leave the key out"
    if "/" in name or "\\" in name or name == "..":
        return "leave out '/' and '..'"
    if name[0] == "." or name[-1] == ".":
        return "leave out the dot at its beginning or end"
    if any(map(_is_unprintable, name)):
        return "leave out control characters"
    if len(name.encode("utf-8")) > MAX_BYTES:
        return f"give at most {MAX_BYTES} bytes"
    if name.lower() in RESULT_FILES:
        return "it is the name of a result file"
    return None


def _candidates(image: Any) -> Iterator[str]:
    """Yield names of a case: its file, with one folder more each time, with its extension, with a digest."""
    paths = [Path(path) for path in present(image)]
    folder, file = paths[0].parent, paths[0].name
    name = _common_name(image) if isinstance(image, (list, tuple)) else _stem(paths[0])
    if not name:
        name, folder = folder.name or "case", folder.parent
    yield from itertools.islice(qualify(name, folder), _needed(name, folder), None)
    above = paths[0].parent
    yield from itertools.islice(qualify(file, above), count := _needed(_stem(paths[0]), above), count + 1)
    digest = _digest("\n".join(map(str, paths)))
    yield fit_name(f"{name}_{digest[:8]}")
    yield digest


def _needed(name: str, folder: Path) -> int:
    """Return the number of folders that a name carries: up to the nearest one that is not generic."""
    if not is_generic(name):
        return 0
    parts = _folders(folder)
    needed = 1 + len(list(itertools.takewhile(is_generic, parts[::-1])))
    return needed if needed <= min(MAX_FOLDERS, len(parts)) else min(1, len(parts))  # else the nearest one alone


def _folders(folder: Path) -> list[str]:
    return [part for part in folder.parts if part != folder.anchor]


def _common_name(image: Sequence[Any]) -> str:
    """Return the common part of a case's file names, without sequences; empty if the names are only sequences."""
    files = {channel: Path(path) for channel, path in enumerate(image) if not is_missing(path)}
    stems = [_without_sequence(_stem(file), channel) for channel, file in files.items()]
    if len(set(stems)) == 1 or not all(stems):
        return stems[0] if all(stems) else ""
    words = [WORDS.split(stem) for stem in stems]
    differing = {word.lower() for stem in words for word in stem if not all(word in other for other in words)}
    if any(re.search(r"\d", word) for word in differing - SEQUENCES):  # may be a patient's number
        return stems[0]
    return stems[0][: len("_".join(os.path.commonprefix(words)))]


def _without_sequence(stem: str, channel: int) -> str:
    """Drop a sequence's name, or nnU-Net's number of the channel, from the end of a file name."""
    end = WORDS.split(stem)[-1]
    start = stem.removesuffix(end)
    numbered = end == f"{channel:04d}" and re.search(r"\d", start)  # patient_0000 is more likely a patient
    return start.rstrip("_-. ") if end.lower() in SEQUENCES or numbered else stem


def _stem(path: Path) -> str:
    """Return the name of a file without its extension, that of a folder as it is."""
    return path.name if os.path.isdir(path) else EXTENSION.sub("", path.name)


def _is_unprintable(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cs")


def _shown(name: str) -> str:
    return f"'{name}'" if name.isprintable() and len(name) <= 80 else f"{name[:80]!r}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
