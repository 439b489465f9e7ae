"""A study whose sequences were found: the paths to load, and a table of what was taken and why."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared.preparation.contrasts import plain
from shared.preparation.series import Series

MOST_NAMES = 8  # in a message


class Row(NamedTuple):
    """One series of a study: what it was taken as, and why.

    Args:
        sequence: the channel that it was taken for; empty if it was left aside.
        series: the series.
        why: the reason.
    """

    sequence: str
    series: Series
    why: str


class Study(NamedTuple):
    """The series of one study.

    Args:
        name: of the case: BIDS subject and session, or the names of folder and file; never the patient's name.
        sequences: the network's channels, in order.
        series: the series of each channel, None where there is none.
        rows: every series with the reason why it was taken or left aside.
        notes: what a user should know: names that contradict headers, series of which neither was taken.
    """

    name: str
    sequences: tuple[str, ...]
    series: dict[str, Series | None]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def image(self, links: str | os.PathLike) -> list[str | None]:
        """Return one path per channel, as `shared.io.volumes.LoadSequencesd` and the DICOM SEG writer take it.

        A DICOM series that shares its folder with others gets a folder of links to its files; where the system makes no
        links, of copies.

        Args:
            links: folder for these folders; made if one is needed, and kept as long as the paths are used.
        """
        chosen = [self.series[name] for name in self.sequences]
        return [None if one is None else str(one.path or _link(one, Path(links))) for one in chosen]

    def table(self) -> str:
        """Return every series with the reason why it was taken or left aside, as aligned text, and the notes."""
        head = ("taken as", "no.", "series", "slices", "why")
        lines = [
            (
                row.sequence or "-",
                "" if row.series.number is None else str(row.series.number),
                _short(row.series.name),
                "" if row.series.geometry is None else str(row.series.geometry),
                row.why,
            )
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head) - 1)]
        text = [
            "  ".join([*(part.ljust(width) for part, width in zip(line, widths)), line[-1]]) for line in (head, *lines)
        ]
        return "\n".join(
            [
                f"study {self.name}",
                *(f"  {line.rstrip()}" for line in text),
                *(f"  note: {note}" for note in self.notes),
            ]
        )


def _link(one: Series, links: Path) -> Path:
    """Make a folder with links to the files of a series. Its name depends on its files, so it is made once."""
    digest = hashlib.sha256("\n".join(str(file.absolute()) for file in one.files).encode("utf-8", "surrogatepass"))
    title = re.sub(r"[^a-z0-9]+", "_", plain(one.name))[:40].strip("_") or "series"
    folder = links / f"{title}_{digest.hexdigest()[:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    for index, file in enumerate(one.files, 1):
        target = folder / f"{index:05d}.dcm"
        if not target.exists():
            target.unlink(missing_ok=True)  # a link whose file was moved
            try:
                target.symlink_to(file.absolute())
            except OSError:  # Windows allows links to administrators
                shutil.copyfile(file, target)
    return folder


def _short(name: str, most: int = 48) -> str:
    name = "".join(sign if sign.isprintable() else " " for sign in name)
    return name if len(name) <= most else f"{name[: most - 3]}..."


def listed(names: Sequence[str]) -> str:
    """Join names with commas and "and"; at most eight of them."""
    shown = [*names[:MOST_NAMES], *([f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
