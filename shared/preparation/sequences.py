"""Which series of a study is which sequence: the inputs of a network are found in a folder as the scanner left it."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.core.messages import nearest
from shared.core.missing import is_missing
from shared.preparation.contrasts import Verdict, classify, kind_in_words, kind_of_channel, plain, separate_contrast
from shared.preparation.dicom_study import find_dicom_series
from shared.preparation.file_study import VOLUME, find_file_series
from shared.preparation.ranking import find_best
from shared.preparation.series import Series
from shared.preparation.study import Row, Study, listed

SERIES_OPTION = "--series"
REFERENCE_OPTION = "--reference"
SKIPPED_FOLDERS = frozenset(["derivatives", "sourcedata", "code", "__MACOSX"])
PART_OF_THE_HEAD = 0.5  # of the largest field of view of the study: a smaller one is a part of the head


def find_study(
    folder: str | os.PathLike,
    sequences: Sequence[str],
    choices: Mapping[str, Any] | None = None,
    reference: str | None = None,
) -> Study:
    """Tell which series of a study is which sequence.

    Args:
        folder: of one study of one patient, at any depth: DICOM series, sorted into folders or not; or NIfTI, NRRD,
            MetaImage and MGZ files.
        sequences: the network's channels, such as flair, t1, t1ce, t2; see `shared.preparation.contrasts.CHANNELS`.
        choices: for a channel, its series: a folder or file, the number of the series, or its description; None leaves
            the channel out, as does the text "null" of a command line. The other channels are found.
        reference: the channel that must be there, because the others are registered to it; None for the first.

    Of several series of one contrast, the one that `shared.preparation.ranking` finds clearly better than all others is
    taken. If there is none, no series is taken, and a note names them.

    Raises:
        InputError: several studies or patients; no series for the reference; a CT; a wrong choice; one line.
    """
    choices = _read_choices(choices)
    found = _groups(Path(folder).expanduser(), choices)
    if damage := next((one.damage for group in found for one in group if one.damage), ""):
        raise InputError(f"{folder}: {damage}")
    if len(found) > 1:
        names = listed([_shown_study(group) for group in found])
        raise InputError(
            f"{folder} holds {len(found)} studies{_of_patients(found)}: {names}; give the folder of one study, "
            f"or name the series of one with {SERIES_OPTION}"
        )
    return _study(found[0], _names([found[0]])[0], sequences, choices, reference, folder)


def find_studies(
    folder: str | os.PathLike,
    sequences: Sequence[str],
    choices: Mapping[str, Any] | None = None,
    reference: str | None = None,
) -> dict[str, Study | InputError]:
    """Find the sequences of every study below a folder: one study per patient and session.

    Args:
        folder: of many studies; or of one, as in `find_study`.
        sequences: as in `find_study`.
        choices: as in `find_study`; they count for every study.
        reference: as in `find_study`.

    Returns:
        By the study's name, sorted: its sequences, or why it cannot be used (one line).

    Raises:
        InputError: the folder holds no image, or an option names no sequence.
    """
    choices = _read_choices(choices)
    groups = _groups(Path(folder).expanduser(), None)
    _check_names(sequences, choices, reference)
    found: dict[str, Study | InputError] = {}
    for group, name in zip(groups, _names(groups)):
        try:
            found[name] = _study(group, name, sequences, choices, reference, name)
        except InputError as error:
            found[name] = error
    return dict(sorted(found.items()))


def _read_choices(choices: Mapping[str, Any] | None) -> dict[str, Any]:
    return {sequence: None if is_missing(value) else value for sequence, value in (choices or {}).items()}


def _groups(root: Path, choices: Mapping[str, Any] | None) -> list[list[Series]]:
    """Return the series below a folder, by study."""
    if not root.exists():
        raise InputError(f"{root} not found: correct the path")
    files = list(_files(root)) if root.is_dir() else [root]
    volumes = [file for file in files if VOLUME.search(file.name)]
    series = [*find_dicom_series(file for file in files if not VOLUME.search(file.name))]
    series += find_file_series(volumes, root if root.is_dir() else root.parent)
    if not series:
        raise InputError(f"{root} holds no DICOM, NIfTI, NRRD, MetaImage or MGZ file: give the folder of a study")
    groups: dict[tuple, list[Series]] = defaultdict(list)
    for one in series:
        groups[one.study].append(one)
    scans = {key: group for key, group in groups.items() if any(_may_be_scan(one) for one in group)} or groups
    chosen = {key: group for key, group in scans.items() if _is_chosen(group, choices)}
    used = chosen if len(chosen) == 1 else scans
    for key, group in groups.items():  # files without a sequence in their name are shown with the study in their folder
        homes = [other for other in used if used[other][0].folder == group[0].folder]
        if key not in scans and len(homes) == 1:
            used[homes[0]].extend(group)
    return list(used.values())


def _files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted; hidden ones and those of BIDS' derivatives are left out."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _may_be_scan(series: Series) -> bool:
    if series.study[0] == "files":
        return classify(series, is_file=True).kind is not None
    return not series.not_a_scan


def _study(
    group: Sequence[Series],
    name: str,
    sequences: Sequence[str],
    choices: Mapping[str, Any],
    reference: str | None,
    where: str | os.PathLike,
) -> Study:
    reference = _check_names(sequences, choices, reference)
    if damage := next((one.damage for one in group if one.damage), ""):
        raise InputError(f"{where}: {damage}")
    chosen = {sequence: _choose(value, group, sequence, where) for sequence, value in choices.items()}
    verdicts = _verdicts(group)
    rows, notes = _Rows(group, verdicts), [verdict.note for verdict in verdicts if verdict.note]
    for sequence, one in chosen.items():
        if one is not None:
            rows.take(one, sequence, f"{SERIES_OPTION} names it")
    for sequence in sequences:
        if sequence not in chosen:
            notes += rows.find(sequence)
    rows.name_others(sequences)
    study = Study(name, tuple(sequences), rows.series(sequences), rows.sorted(sequences), tuple(notes))
    _check_reference(study, reference, where)
    return study


class _Rows:
    """The rows of a study while its sequences are found."""

    def __init__(self, group: Sequence[Series], verdicts: Sequence[Verdict]) -> None:
        self.verdicts = list(verdicts)
        self.rows = [Row("", one, verdict.why) for one, verdict in zip(group, verdicts)]

    def take(self, one: Series, sequence: str, why: str) -> None:
        """Take a series for a channel, also one from elsewhere."""
        index = next((place for place, row in enumerate(self.rows) if row.series is one), len(self.rows))
        self.rows[index:] = [Row(sequence, one, why), *self.rows[index + 1 :]]

    def find(self, sequence: str) -> list[str]:
        """Take the best series for a channel; return a note if there are several and none is clearly better."""
        kind = kind_of_channel(sequence)
        free = [place for place, row in enumerate(self.rows) if not row.sequence and place < len(self.verdicts)]
        places = [place for place in free if self.verdicts[place].kind == kind]
        if not places:
            return []
        best, has = find_best([(self.rows[place].series, self.verdicts[place]) for place in places])
        labels = [self.rows[place].series.label for place in places]
        for index, place in enumerate(places):
            row = self.rows[place]
            if index == best:
                self.rows[place] = row._replace(sequence=sequence, why=row.why + (f"; it has {has}" if has else ""))
            elif best is not None:
                self.rows[place] = row._replace(why=f"{sequence}, but {labels[best]} has {has}")
            else:
                others = listed([label for other, label in enumerate(labels) if other != index])
                self.rows[place] = row._replace(why=f"could be {sequence}, and so could {others}: none is taken")
        return [] if best is not None else [_unclear(sequence, labels)]

    def name_others(self, sequences: Sequence[str]) -> None:
        """Say of the contrasts that no channel takes that they are left aside."""
        kinds = {kind_of_channel(sequence) for sequence in sequences}
        for place, verdict in enumerate(self.verdicts):
            if verdict.kind and verdict.kind not in kinds and not self.rows[place].sequence:
                self.rows[place] = self.rows[place]._replace(why=f"{verdict.kind}, which is not asked for")

    def series(self, sequences: Sequence[str]) -> dict[str, Series | None]:
        """Return the series of each channel."""
        taken = {row.sequence: row.series for row in self.rows if row.sequence}
        return {sequence: taken.get(sequence) for sequence in sequences}

    def sorted(self, sequences: Sequence[str]) -> tuple[Row, ...]:
        """Return the rows, those of channels first."""
        order = {sequence: place for place, sequence in enumerate(sequences)}
        return tuple(sorted(self.rows, key=lambda row: order.get(row.sequence, len(order))))


def _verdicts(group: Sequence[Series]) -> list[Verdict]:
    """Return what each series is, T1 after contrast told apart, parts of the head left aside."""
    verdicts = [classify(one, is_file=one.study[0] == "files") for one in group]
    t1 = [place for place, verdict in enumerate(verdicts) if verdict.kind == "t1"]
    for place, (after, note) in zip(t1, separate_contrast([group[place] for place in t1])):
        old = verdicts[place]
        note = "; ".join(filter(None, (old.note, note)))
        verdicts[place] = (
            Verdict("t1ce", f"{old.why}; after contrast", old.named, note) if after else old._replace(note=note)
        )
    extents = {
        place: one.geometry.extent
        for place, one in enumerate(group)
        if verdicts[place].kind and one.geometry is not None
    }
    for place, extent in extents.items():
        if extent < PART_OF_THE_HEAD * max(extents.values()):
            why = f"covers {extent:.0f} mm, others {max(extents.values()):.0f} mm: a part of the head"
            verdicts[place] = Verdict(None, why)
    return verdicts


def _check_names(sequences: Sequence[str], choices: Mapping[str, Any], reference: str | None) -> str:
    """Return the reference.

    Raises:
        InputError: no rule and no choice finds a channel; or a choice or the reference is not a channel.
    """
    for sequence in choices:
        if sequence not in sequences:
            raise InputError(f"{SERIES_OPTION} names '{sequence}': {nearest(sequence, list(sequences))}")
    for sequence in sequences:
        if kind_of_channel(sequence) is None and sequence not in choices:
            raise InputError(
                f"no rule finds '{sequence}' in a study: name its series with {SERIES_OPTION} '{{\"{sequence}\": ...}}'"
            )
    if reference is not None and reference not in sequences:
        raise InputError(f"{REFERENCE_OPTION} is '{reference}': {nearest(reference, list(sequences))}")
    return reference if reference is not None else sequences[0]


def _check_reference(study: Study, reference: str, where: str | os.PathLike) -> None:
    """Raise InputError unless the reference was found."""
    if study.series[reference] is not None:
        return
    found = [f"{name} ({one.label})" for name, one in study.series.items() if one is not None]
    unclear = [note for note in study.notes if note.startswith(f"{reference}: ")]
    scans = [row for row in study.rows if not row.series.not_a_scan]
    modalities = {row.series.tags.modality for row in scans} - {""}
    if unclear:
        raise InputError(f"{where}: {unclear[0]}")
    called = [row for row in scans if not row.sequence and _is_called(row.series, reference)]
    if found:
        other = next(name for name, one in study.series.items() if one is not None)
        aside = f" ({listed([f'{row.series.label}: {row.why}' for row in called])})" if called else ""
        raise InputError(
            f"{where}: no {reference} found{aside}, but {listed(found)}: give "
            f"{REFERENCE_OPTION} {other} to go without, or name its series with {_option(reference, called)}"
        )
    if modalities and "MR" not in modalities:
        raise InputError(
            f"{where}: a study of {' and '.join(sorted(modalities))}, where MR is needed: give an MR study"
        )
    seen = listed([f"{row.series.label}: {row.why}" for row in study.rows])
    remedy = f"name a series with {_option(reference, called)}"
    if all(row.series.study[0] == "files" for row in study.rows):
        remedy = (
            f"give the files as a list in --input, in the order {', '.join(study.sequences)}, None for a missing one"
        )
    raise InputError(f"{where}: none of {', '.join(study.sequences)} found ({seen}): {remedy}")


def _is_called(series: Series, sequence: str) -> bool:
    """Tell whether the name of a series says that it is a sequence."""
    kind = kind_of_channel(sequence)
    return kind is not None and kind_in_words(plain(series.words)) == kind.removesuffix("ce")


def _unclear(sequence: str, labels: Sequence[str]) -> str:
    return (
        f"{sequence}: {listed(list(labels))} could each be it, and none is clearly better: none is taken; "
        f"name one with {_option(sequence, [])}"
    )


def _option(sequence: str, rows: Sequence[Row]) -> str:
    if not rows:
        return f"{SERIES_OPTION} '{{\"{sequence}\": ...}}' (its folder, file, number or description)"
    one = rows[0].series
    example = str(one.number) if one.number is not None else f'"{one.name}"'
    return f"{SERIES_OPTION} '{{\"{sequence}\": {example}}}'"


def _is_chosen(group: Sequence[Series], choices: Mapping[str, Any] | None) -> bool:
    return any(_matching(value, group) for value in (choices or {}).values() if value is not None)


def _choose(value: Any, group: Sequence[Series], sequence: str, where: str | os.PathLike) -> Series | None:
    """Return the series that a user names; None for a channel to leave out.

    Raises:
        InputError: it names no series, or several.
    """
    if value is None:
        return None
    found = _matching(value, group)
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        names = listed([f"{one.label} ({_place(one)})" for one in found])
        raise InputError(
            f"{where}: {SERIES_OPTION} {sequence}: '{value}' names {names}: give the number, or a longer name"
        )
    path = Path(str(value)).expanduser()
    if path.exists() and not isinstance(value, int):
        return Series(name=path.name, words=path.name, files=(path,), path=path, folder=path.parent)
    raise InputError(
        f"{where}: {SERIES_OPTION} {sequence}: no series '{value}': {nearest(str(value), [one.name for one in group])}"
    )


def _matching(value: Any, group: Sequence[Series]) -> list[Series]:
    """Return the series that a number, a path or a description names; the most exact match counts."""
    text = str(value).strip()
    path = Path(text).expanduser()
    tests: list[Callable[[Series], bool]] = [
        lambda one: text.isdigit() and one.number == int(text),
        lambda one: (
            path.exists() and any(path.absolute() in (file.absolute(), file.parent.absolute()) for file in one.files)
        ),
        lambda one: one.name == text,
        lambda one: plain(one.name) == plain(text) or plain(VOLUME.sub("", one.name)) == plain(text),
        lambda one: bool(plain(text)) and plain(text) in plain(one.name),
    ]
    return next((found for test in tests if (found := [one for one in group if test(one)])), [])


def _names(groups: Sequence[Sequence[Series]]) -> list[str]:
    """Name studies after BIDS, their files or folders; those of one folder are told apart by date, then counted."""
    names = [_name(group) for group in groups]
    same = Counter(names)
    names = [
        f"{name}_{group[0].date}" if same[name] > 1 and group[0].date else name for name, group in zip(names, groups)
    ]
    same, seen = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        seen[name] += 1
        names[index] = f"{name}_{seen[name]}" if same[name] > 1 else name
    return names


def _name(group: Sequence[Series]) -> str:
    kind, *key = group[0].study
    if kind == "DICOM":
        folder = Path(os.path.commonpath([one.folder.absolute() for one in group]))
        parts = [folder.parent.name, folder.name] if kind_in_words(plain(folder.name)) else [folder.name]
    elif key[0].startswith("sub-"):
        parts = key
    else:
        parts = [Path(key[0]).absolute().name, re.sub(r"[_\-. ]+$", "", key[1])]
        if parts[1].casefold().startswith(parts[0].casefold()):
            parts = parts[1:]
    return "_".join(filter(None, parts)) or "study"


def _of_patients(groups: Sequence[Sequence[Series]]) -> str:
    patients = {group[0].study[1] for group in groups if group[0].study[0] == "DICOM"}
    return f" of {len(patients)} patients" if len(patients) > 1 else ""


def _shown_study(group: Sequence[Series]) -> str:
    date = f" of {group[0].date}" if group[0].date else ""
    return f"{_name(group)}{date} with {len(group)} series"


def _place(one: Series) -> str:
    return str(one.path or one.files[0].parent)
