"""Data lists: what a ``dataset.json`` or ``--input`` names, as MONAI items with absolute paths and a case id."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError, require
from shared.core.missing import is_missing, present
from shared.datasets.case_names import check_case_id, fold, name_cases
from shared.datasets.faults import mark

Items = list[dict[str, Any]]

PATH_KEYS = ("image", "label")
NAME_BYTES = 255  # of a file or folder; longer names cannot exist


def read_datalist(dataset_json: str | os.PathLike) -> dict[str, Any]:
    """Read a ``dataset.json`` as it is written.

    Args:
        dataset_json: the file, in UTF-8.

    Returns:
        Its content.

    Raises:
        InputError: the file is absent, not UTF-8, not JSON, or not a JSON object.
    """
    source = Path(dataset_json).expanduser().absolute()
    if not source.is_file():
        raise InputError(f"data list {source} not found: give --dataset_dir a folder that holds a dataset.json")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"data list {source} is not UTF-8 text: save it as UTF-8") from error
    if "\0" in text:  # UTF-16 or UTF-32 without a byte order mark
        raise InputError(f"data list {source} is not UTF-8 text: save it as UTF-8")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"data list {source} is not JSON ({error}): correct or rewrite it") from error
    except RecursionError as error:
        raise InputError(f"data list {source} is nested too deeply: correct or rewrite it") from error
    if not isinstance(content, dict):
        raise InputError(f'data list {source} is not a JSON object: write {{"training": [...], "validation": [...]}}')
    return content


def expand_datalist(dataset_json: str | os.PathLike, split: str, mark_faults: bool = False) -> Items:
    """Read one split of a Decathlon-style ``dataset.json``.

    Unlike `monai.data.load_decathlon_datalist` it makes paths absolute in lists that hold null (a missing sequence) and
    leaves ``domain``, ``text`` and other keys as they are written. A key whose value is or holds null is left out, as
    null cannot stand in a batch.

    Args:
        dataset_json: the file; paths in it are relative to its folder.
        split: the list to read, e.g. ``training``, ``validation`` or ``testing``.
        mark_faults: keep an item that cannot be used, marked (see `shared.datasets.faults`) and called after its place
            in the list, e.g. ``testing[3]``. False raises.

    Returns:
        One new dict per item: ``image`` (absolute path, or list of absolute paths and None), ``label`` if there is one,
        ``case_id`` (the list's own, else see `shared.datasets.case_names.name_cases`; unique in the split), and all
        other keys.

    Raises:
        InputError: `read_datalist` fails, or the split is absent or empty; or one line per item that has no image, a
            path that is not a text, or a ``case_id`` that occurs twice (ignoring case) or cannot be a folder name.
    """
    source, content = Path(dataset_json).expanduser().absolute(), read_datalist(dataset_json)
    entries = content.get(split)
    if not isinstance(entries, list) or not entries:
        filled = ", ".join(key for key, value in content.items() if isinstance(value, list) and value) or "none"
        state = "is missing" if split not in content else "is empty" if not entries else "is not a list"
        raise InputError(f"split '{split}' {state} in {source}: splits with items: {filled}")
    items, problems = [], []
    for index, entry in enumerate(entries):
        try:
            items.append(_expand(entry, source.parent, f"{split}[{index}] in {source}"))
        except InputError as error:
            problems.append(str(error))
            if mark_faults:
                items.append(_faulty(entry, f"{split}[{index}]", problems.pop()))
    given = Counter(item["case_id"] for item in items if "case_id" in item)
    where = f"split '{split}' of {source}: every case needs its own"
    problems += [f"case_id '{name}' occurs {count} times in {where}" for name, count in given.items() if count > 1]
    spellings = {fold(name): name for name in given}
    problems += [
        f"case_id '{name}' and '{spellings[fold(name)]}' differ only in upper and lower case, or in how accents are "
        f"stored, in {where}, as some file systems take them for the same"
        for name in given
        if spellings[fold(name)] != name
    ]
    require(problems)
    nameless = [item for item in items if "case_id" not in item]
    for item, name in zip(nameless, name_cases([item["image"] for item in nameless], given)):
        item["case_id"] = name
    return items


def parse_input(text: str | os.PathLike | Sequence[str | None] | None) -> dict:
    """Turn what ``--input`` gives on the command line into an item.

    Args:
        text: one path (volume, 4-D volume, picture or DICOM folder), or a list with one path per sequence and None for
            a missing one. A list may also come as text, ``"[flair.nii.gz,None,t2.nii.gz]"``.

    Returns:
        ``{"image": absolute path or list of absolute paths and None, "case_id": name of the file or folder}``.

    Raises:
        InputError: nothing is given, every entry of the list is missing, or its closing bracket is.
    """
    listed = isinstance(text, str) and text.strip().startswith("[") and text.strip().endswith("]")
    if isinstance(text, str) and listed and not os.path.exists(text):
        text = [part.strip().strip("'\"") for part in text.strip()[1:-1].split(",")]
    elif isinstance(text, str) and text.strip().startswith("[") and "]" not in text and not os.path.exists(text):
        raise InputError(f"--input {text!r:.80} begins a list and does not close it: add ']' at its end")
    if not present(text):
        raise InputError(f"--input {text!r} names no file: give a path, or a list with one path or None per sequence")
    image = _absolute(text, Path.cwd(), "--input")
    return {"image": image, "case_id": name_cases([image])[0]}


def _expand(entry: Any, folder: Path, where: str) -> dict:
    """Return one entry of the list with absolute paths; a bare path (Decathlon's ``test``) is the image."""
    item = dict(entry) if isinstance(entry, Mapping) else {"image": entry}
    if not present(item.get("image")):
        raise InputError(f"{where} names no image: give a path, or a list with one path or null per sequence")
    paths = {key: _absolute(item.pop(key), folder, f"{where}: {key}") for key in PATH_KEYS if key in item}
    known = {key: value for key, value in {**item, **paths}.items() if not _holds_null(key, value)}
    if "case_id" in known:
        known["case_id"] = check_case_id(known["case_id"], f"{where}: case_id")
    return known


def _faulty(entry: Any, name: str, problem: str) -> dict:
    """Return an entry that cannot be used as a marked item, which keeps its patient: splits are drawn by patient."""
    patient = entry.get("patient") if isinstance(entry, Mapping) else None
    item = {"case_id": name, "image": None, **({} if patient is None else {"patient": patient})}
    mark(item, [problem])
    return item


def _holds_null(key: str, value: Any) -> bool:
    if isinstance(value, (list, dict)) and key != "image":
        return any(_holds_null("", part) for part in (value.values() if isinstance(value, dict) else value))
    return value is None


def _absolute(value: Any, folder: Path, where: str) -> Any:
    """Return a path, or a list of paths, below a folder; None for a missing one."""
    if isinstance(value, (list, tuple)):
        return [_absolute_path(path, folder, where) for path in value]
    return _absolute_path(value, folder, where)


def _absolute_path(path: Any, folder: Path, where: str) -> str | None:
    if is_missing(path):
        return None
    if not _can_be_path(path):
        raise InputError(f"{where} holds {path!r:.80}: give a path")
    return os.path.normpath(folder / os.path.expanduser(str(path)))


def _can_be_path(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)):
        return False
    try:
        encoded = os.fsencode(str(value))
    except UnicodeEncodeError:
        return False
    return b"\0" not in encoded and max(map(len, encoded.split(b"/"))) <= NAME_BYTES
