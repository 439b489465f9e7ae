"""What a public data set looks like on disk: one `Layout` a set, which finds `Case`s among `Files`."""

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
class Made:
    """A file that has to be made, because the bundle cannot read the published one as it is.

    Attributes:
        suffix: of the new file, ".png" or ".nii.gz".
        write: writes it to a path; raises InputError for a source that is not as published.
    """

    suffix: str
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One image with what is known of it.

    Attributes:
        case_id: unique in the data set, fit for a folder name.
        patient: cases of one patient (or scan) stay in one split.
        image: a file, a list with one file a sequence and None for one that the set does not have, or a file to make.
        label: the label map in the bundle's own values, or one to make; None: not published.
        split: "training", "validation" or "testing" where the publisher says so; None: drawn.
        domain: camera, scanner or hospital.
        text: the sentence.
        labelled: the structures that somebody outlined; None: all.
        phase: "ED" or "ES" of a heart; with both of a patient its ejection fraction is given.
    """

    case_id: str
    patient: str
    image: Path | Made | Sequence[Path | None]
    label: Path | Made | None
    split: str | None = None
    domain: str | None = None
    text: str | None = None
    labelled: tuple[str, ...] | None = None
    phase: str | None = None


class Files:
    """The files of a folder by their names in it, listed once; what misses is noted in `problems`.

    Args:
        folder: the data set.
        leave_out: names of folders in it that are no part of it; hidden ones never are.
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
        """Return where the end of a name (folders joined by "/") matches; upper and lower case are the same."""
        expression = re.compile(rf"(?:^|.*/){pattern}$", re.IGNORECASE)
        return [match for match in map(expression.match, self.names) if match]

    def path(self, match: re.Match[str]) -> Path:
        """Return the file that `find` found."""
        return self.names[match[0]]

    def beside(self, match: re.Match[str], *names: str) -> Path | None:
        """Return the first of the files `names` that exists beside a found one, also as "../name"; or None."""
        folder = posixpath.dirname(match[0])
        candidates = (posixpath.normpath(posixpath.join(folder, name)) for name in names)
        return next((self.names[candidate] for candidate in candidates if candidate in self.names), None)

    def volume(self, match: re.Match[str], *stems: str) -> Path | None:
        """Return a NIfTI file in the folder of a found one, by its name without ending."""
        return self.beside(match, *(stem + suffix for stem in stems for suffix in VOLUMES))

    def named(self, *names: str, folder: str | None = None) -> Path | None:
        """Return the first of the files `names`, wherever it is, or in any folder of the name `folder`."""
        for name in names:
            for found in self.by_name.get(name.lower(), []):
                if folder is None or self.names[found].parent.name == folder:
                    return self.names[found]
        return None

    def need(self, path: Path | None, case: str, what: str) -> Path | None:
        """Return `path`; note a problem if it is None."""
        if path is None:
            self.problems.append(f"case {case}: no {what} in {self.folder}: complete the download")
        return path


@dataclass(frozen=True)
class Layout:
    """A public data set: how it lies on disk, what its labels become, where it comes from.

    Attributes:
        name: as on the command line.
        title: as people call it.
        bundle: that the list is for.
        classes: label value -> name, as the bundle's config has them.
        shape: files that it is recognised by, for messages.
        licence: in a few words.
        source: where to get it.
        find: the cases among the files.
        configs: the bundle's override files for it, without ending.
        options: further overrides on the command line.
        channels: names of the sequences where ``image`` is a list or a 4-D volume.
        note: a line that its user must know.
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


def part(match: re.Match[str], **splits: str) -> str | None:
    """Return the split whose word begins a folder's name on the way to a found file: ``part(m, testing="test")``."""
    folders = match[0].lower().split("/")[:-1]
    found = (split for split, word in splits.items() if any(re.match(rf"(.*[^a-z])?{word}", f) for f in folders))
    return next(found, None)


def plain(text: str) -> str:
    """Return a text as a folder's name: letters, digits, "-" and "_"."""
    return re.sub(r"[^\w-]+", "_", text).strip("_")
