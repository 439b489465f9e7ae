"""``predictions.json``: which input gave which result, for all runs into one output folder."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from shared.core.errors import InputError
from shared.core.files import sweep_drafts, write_atomic, writing
from shared.core.locks import locked
from shared.core.messages import reason
from shared.core.missing import is_missing
from shared.results.measures import Measures
from shared.results.result_names import Input, choose_names
from shared.results.tables import csv_text

INDEX, TABLE = "predictions.json", "predictions.csv"
JOURNAL, LOCK = ".predictions.jsonl", ".predictions.lock"
WAIT_S = 60  # for other runs into the same folder, which hold the lock for milliseconds
SHARE = 64  # the index is rewritten once the journal has grown to a 64th of its number of cases

Entry = dict[str, Any]


class PredictionIndex:
    """Map inputs to results in ``predictions.json``, and list measurements in ``predictions.csv``.

    Every case is appended to a hidden journal as soon as its files are written. The journal is merged into the index at
    intervals that grow with the index, so that the cost per case stays the same, and at the end; after a kill, by the
    next run. Several runs may write into one folder, one after the other or at the same time: their entries are kept.

    Args:
        output_dir: folder of the run; paths of results in the index are relative to it.
        channels: names of the channels of ``image``, to name missing sequences.

    """

    def __init__(self, output_dir: str | os.PathLike, channels: Sequence[str]) -> None:
        self.output_dir = Path(output_dir)
        self.channels = list(channels)
        self.entries: dict[str, Entry] = {}  # of this run
        self._claimed: set[str] = set()
        self._merged = 0  # number of entries in the index
        self._pending = 0  # number of entries of this run that are in the journal, not in the index

    def claim(self, images: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> dict[str, str]:
        """Reserve a name for each case of this run, before anything is written, see `shared.results.result_names`.

        Args:
            images: ``case_id`` -> ``image`` of the case (a path, or a list with None for a missing sequence).
            texts: ``case_id`` -> its sentence; a case without one may be left out.

        Returns:
            ``case_id`` -> name of the case in this folder.

        Raises:
            InputError: ``predictions.json`` in the folder was not written by this class.

        """
        cases = {case_id: (image, (texts or {}).get(case_id)) for case_id, image in images.items()}
        with self._locked():
            sweep_drafts(self.output_dir)
            stored, claims = self._read()
            known = {**claims, **stored}
            owners = {name: Input.of(entry["image"], entry.get("text")) for name, entry in known.items()}
            names = choose_names(cases, owners, self.output_dir)
            self._claimed.update(names.values())
            self._append(
                [
                    {"case_id": names[case_id], "image": _absolute(image), **({} if text is None else {"text": text})}
                    for case_id, (image, text) in cases.items()
                    if names[case_id] not in owners
                ]
            )
        return names

    def add(
        self,
        case_id: str,
        image: Any,
        prediction: str | os.PathLike,
        overlay: str | os.PathLike | None = None,
        missing: Sequence[str] | None = None,
        text: str | None = None,
        measures: Measures | None = None,
        dicom_seg: str | os.PathLike | None = None,
        warnings: Sequence[str] = (),
        files: Mapping[str, Path] | None = None,
    ) -> Path:
        """Add a case, or replace it.

        Args:
            case_id: name of the case, as `claim` returned it.
            image: its paths as in the data list (a path, or a list with None for a missing sequence).
            prediction: the label map.
            overlay: the overlay, if any.
            missing: names of missing sequences; None to find them in `image`.
            text: the sentence that guided the segmentation, empty for none; None where a bundle takes no sentences.
            measures: what was measured, flat; None if nothing was.
            dicom_seg: the DICOM SEG, if any.
            warnings: what a reader of the result should know, one sentence each.
            files: further files of the case, by kind.

        Returns:
            Path of ``predictions.json``, a list of ``{case_id, image, missing, prediction, overlay}`` with absolute
            paths of inputs, and ``text``, ``measures``, ``dicom_seg``, ``warnings`` and the kinds of `files` where
            there are any.

        """
        paths = _absolute(image)
        if missing is None:
            missing = [name for name, path in zip(self.channels, paths) if path is None]
        self.entries[case_id] = {
            "case_id": case_id,
            "image": paths,
            "missing": list(missing),
            "prediction": self._relative(prediction),
            "overlay": None if overlay is None else self._relative(overlay),
            **({} if text is None else {"text": text}),
            **({} if measures is None else {"measures": measures}),
            **({} if dicom_seg is None else {"dicom_seg": self._relative(dicom_seg)}),
            **({"warnings": list(warnings)} if warnings else {}),
            **{kind: self._relative(path) for kind, path in (files or {}).items()},
        }
        self._write([case_id])
        return self.output_dir / INDEX

    def measure(self, measures: Mapping[str, Measures]) -> None:
        """Replace the measures of cases that were added before.

        Args:
            measures: name of the case -> its measures.

        """
        for case_id, found in measures.items():
            self.entries[case_id]["measures"] = found
        self._write(list(measures))

    def close(self) -> None:
        """Merge the journal into the index and give back the names of cases that have no result."""
        if not self._claimed and not self._pending:
            return
        with self._locked():
            self._merge(released=self._claimed - self.entries.keys())
        self._claimed.clear()

    def _write(self, case_ids: Sequence[str]) -> None:
        with self._locked():
            self._append([self.entries[case_id] for case_id in case_ids])
            self._pending += len(case_ids)
            if self._pending * SHARE > self._merged:
                self._merge()

    def _locked(self) -> Any:
        return locked(self.output_dir, "another run that writes predictions", wait_s=WAIT_S, name=LOCK)

    def _append(self, entries: Sequence[Entry]) -> None:
        journal = self.output_dir / JOURNAL
        if entries:
            with writing(journal), open(journal, "a", encoding="utf-8") as file:
                file.write(_lines(entries))

    def _merge(self, released: Collection[str] = ()) -> None:
        """Rewrite index and table; the journal keeps the claims of other runs and of cases that have no result yet."""
        stored, claims = self._read()
        entries = list(stored.values())
        rows = [{"case_id": entry["case_id"], **entry["measures"]} for entry in entries if "measures" in entry]
        if rows:
            write_atomic(self.output_dir / TABLE, csv_text(pd.DataFrame(rows)))
        if entries:
            write_atomic(self.output_dir / INDEX, json.dumps(entries, indent=2) + "\n")
        kept = [claim for name, claim in claims.items() if name not in released]
        if kept:
            write_atomic(self.output_dir / JOURNAL, _lines(kept))
        else:
            (self.output_dir / JOURNAL).unlink(missing_ok=True)
        self._merged, self._pending = len(entries), 0

    def _read(self) -> tuple[dict[str, Entry], dict[str, Entry]]:
        """Return the entries of index and journal, and the claims of cases without an entry, by name."""
        stored = {entry["case_id"]: entry for entry in self._read_index()}
        claims: dict[str, Entry] = {}
        for entry in self._read_journal():
            (stored if "prediction" in entry else claims)[entry["case_id"]] = entry
        return stored, {name: claim for name, claim in claims.items() if name not in stored}

    def _read_index(self) -> list[Entry]:
        file = self.output_dir / INDEX
        if not file.exists():
            return []
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
            if all({"case_id", "image", "prediction"} <= entry.keys() for entry in entries):
                return entries
            problem = "an entry has no case_id, image or prediction"
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            problem = reason(error)
        raise InputError(f"{file} is not an index of predictions ({problem}): move it, or give another --output_dir")

    def _read_journal(self) -> Iterator[Entry]:
        try:
            lines = (self.output_dir / JOURNAL).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in filter(None, lines):
            try:
                yield json.loads(line)
            except ValueError:  # the process was killed while it wrote this line
                continue

    def _relative(self, path: str | os.PathLike) -> str:
        return Path(os.path.relpath(path, self.output_dir)).as_posix()


def _lines(entries: Sequence[Entry]) -> str:
    """Return entries as lines; the line break in front ends a line that a killed process left unfinished."""
    return "".join(f"\n{json.dumps(entry)}\n" for entry in entries)


def _absolute(image: Any) -> list[str | None]:
    paths = [image] if isinstance(image, (str, os.PathLike)) else list(image)
    return [None if is_missing(path) else os.path.abspath(path) for path in paths]
