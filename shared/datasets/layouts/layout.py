"""The layout of a public data set on disk: one `Layout` per data set, which finds `Case`s among `Files`."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VOLUMES = (".nii.gz", ".nii")
HIDDEN = (".", "~$", "__MACOSX")


@dataclass(frozen=True)
class Conversion:
    """A file that has to be converted, because the bundle cannot read the published one.

    Attributes:
        suffix: extension of the new file, ".png" or ".nii.gz".
        write: writes it to a path; raises InputError for a source that differs from what was published.
    """

    suffix: str
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One image and what is known about it.

    Attributes:
        case_id: name, unique in the data set, that can be a folder.
        patient: cases of one patient (or scan) stay in one split.
        image: a file, a list with one file per sequence and None for a missing one, or a conversion.
        label: the label map in the bundle's own values, or a conversion; None if it was not published.
        split: "training", "validation" or "testing" where the publisher gives it; None if it is drawn.
        domain: camera, scanner or hospital.
        text: the sentence.
        labelled: the structures that were outlined; None for all.
        phase: "ED" or "ES" of a heart; both of a patient give the ejection fraction.
    """

    case_id: str
    patient: str
    image: Path | Conversion | Sequence[Path | None]
    label: Path | Conversion | None
    split: str | None = None
    domain: str | None = None
    text: str | None = None
    labelled: tuple[str, ...] | None = None
    phase: str | None = None


class Files:
    """The files of a folder by their paths relative to it.

    Args:
        folder: the data set.
        leave_out: names of folders to skip, in addition to hidden ones.

    Attributes:
        problems: one line per missing file, see `need`.
    """

    def __init__(self, folder: Path, leave_out: Iterable[str] = ()) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.names: dict[str, Path] = {}
        self.by_name: dict[str, list[str]] = {}
        skipped = set(leave_out)
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(f for f in folders if f not in skipped and not f.startswith(HIDDEN))
            for name in sorted(names):
                if not name.startswith(HIDDEN):
                    relative = (Path(parent) / name).relative_to(folder).as_posix()
                    self.names[relative] = Path(parent) / name
                    self.by_name.setdefault(name.lower(), []).append(relative)

    def find(self, pattern: str) -> list[re.Match[str]]:
        """Return the matches of a pattern with the ends of the relative paths, ignoring case."""
        expression = re.compile(rf"(?:^|.*/){pattern}$", re.IGNORECASE)
        return [match for match in map(expression.match, self.names) if match]

    def path(self, match: re.Match[str]) -> Path:
        """Return the file of a match of `find`."""
        return self.names[match[0]]

    def beside(self, match: re.Match[str], *names: str) -> Path | None:
        """Return the first existing file of `names` (also "../name") beside a found one, or None."""
        folder = posixpath.dirname(match[0])
        candidates = (posixpath.normpath(posixpath.join(folder, name)) for name in names)
        return next((self.names[candidate] for candidate in candidates if candidate in self.names), None)

    def volume(self, match: re.Match[str], *stems: str) -> Path | None:
        """Return a NIfTI file beside a found one by its name without extension, or None."""
        return self.beside(match, *(stem + suffix for stem in stems for suffix in VOLUMES))

    def named(self, *names: str, folder: str | None = None) -> Path | None:
        """Return the first existing file of `names` in any folder, or in any folder called `folder`; or None."""
        for name in names:
            for found in self.by_name.get(name.lower(), []):
                if folder is None or self.names[found].parent.name == folder:
                    return self.names[found]
        return None

    def need(self, path: Path | None, case: str, what: str) -> Path | None:
        """Return `path`; if it is None, add to `problems` that `what` of a case is missing."""
        if path is None:
            self.problems.append(f"case {case}: no {what} in {self.folder}: complete the download")
        return path


@dataclass(frozen=True)
class Layout:
    """A public data set: how it lies on disk, what its labels become, where it comes from.

    Attributes:
        name: name on the command line.
        title: the publisher's name.
        bundle: the bundle that reads the list.
        classes: label value -> name, as in the bundle's config.
        shape: a typical file, for messages.
        licence: the licence in a few words.
        source: where to get the data.
        find: finds the cases among the files.
        configs: the bundle's override files for this data set, without extension.
        options: further overrides on the command line.
        channels: names of the sequences where ``image`` is a list or a 4-D volume.
        note: one line that users of the data set must know.
        aliases: other names on the command line.
    """

    name: str
    title: str
    bundle: str
    classes: Mapping[int, str]
    shape: str
    licence: str
    source: str
    find: Callable[[Files], Iterable[Case]]
    configs: tuple[str, ...] = ()
    options: str = ""
    channels: tuple[str, ...] = ()
    note: str = ""
    aliases: tuple[str, ...] = field(default=())


def published_split(match: re.Match[str], **splits: str) -> str | None:
    """Return the split that a folder above a found file is named after, or None.

    Args:
        match: a match of `Files.find`.
        splits: split -> beginning of a word in the folder's name, e.g. ``testing="test"``.
    """
    folders = match[0].lower().split("/")[:-1]
    found = (split for split, word in splits.items() if any(re.match(rf"(.*[^a-z])?{word}", f) for f in folders))
    return next(found, None)


def as_name(text: str) -> str:
    """Return a text as a name of letters, digits, "-" and "_"."""
    return re.sub(r"[^\w-]+", "_", text).strip("_")
