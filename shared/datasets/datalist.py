"""Data lists: what a ``dataset.json`` or ``--input`` names, as MONAI items with absolute paths and a case id."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.core.missing import is_missing, present

PATH_KEYS = ("image", "label")
SEPARATORS = "_-. "


def expand_datalist(dataset_json: str | os.PathLike, split: str) -> list[dict]:
    """Read one split of a Decathlon-style ``dataset.json``.

    Unlike `monai.data.load_decathlon_datalist` it makes paths absolute in lists that hold null (a missing sequence) and
    touches no key but ``image`` and ``label``: ``domain``, ``text`` and ``case_id`` stay as they are written.

    Args:
        dataset_json: the file; paths in it are relative to its folder.
        split: the list to read, e.g. ``training``, ``validation`` or ``testing``.

    Returns:
        One new dict per item: ``image`` (absolute path, or list of absolute paths and None), ``label`` if there is one,
        ``case_id`` (made from the file or folder name where the list has none, unique in the split), all other keys
        untouched.

    Raises:
        InputError: the file is absent or not JSON, the split is absent or empty, an item names no image, a ``case_id``
            occurs twice or cannot be a folder name.

    """
    source = Path(dataset_json).expanduser().absolute()
    if not source.is_file():
        raise InputError(f"data list {source} not found: give --dataset_dir a folder that holds a dataset.json")
    try:
        content = json.loads(source.read_text())
    except ValueError as error:
        raise InputError(f"data list {source} is not JSON ({error}): correct or rewrite it") from error
    if not isinstance(content, dict):
        raise InputError(f'data list {source} is not a JSON object: write {{"training": [...], "validation": [...]}}')
    entries = content.get(split)
    if not isinstance(entries, list) or not entries:
        filled = ", ".join(key for key, value in content.items() if isinstance(value, list) and value) or "none"
        state = "is empty" if split in content else "is missing"
        raise InputError(f"split '{split}' {state} in {source}: splits with items: {filled}")
    items = [_expand(entry, source, f"{split}[{index}]") for index, entry in enumerate(entries)]
    return _with_case_ids(items, f"split '{split}' of {source}")


def parse_input(text: str | os.PathLike | Sequence[str | None] | None) -> dict:
    """Turn what ``--input`` gives on the command line into an item.

    Args:
        text: one path (volume, 4-D volume, picture or DICOM folder), or a list with one path per sequence and None for
            a missing one. A list may also come as text, ``"[flair.nii.gz,None,t2.nii.gz]"``.

    Returns:
        ``{"image": absolute path or list of absolute paths and None, "case_id": name of the file or folder}``.

    Raises:
        InputError: nothing is given, or every entry of the list is missing.

    """
    if isinstance(text, str) and text.strip().startswith("[") and text.strip().endswith("]"):
        text = [part.strip().strip("'\"") for part in text.strip()[1:-1].split(",")]
    image = _absolute(Path.cwd(), text)
    if not present(image):
        raise InputError(f"--input {text!r} names no file: give a path, or a list with one path or None per sequence")
    return {"image": image, "case_id": _names(image)[0]}


def _expand(entry: Any, source: Path, where: str) -> dict:
    """Return a copy of one entry of the list with absolute paths; a bare path (Decathlon's ``test``) is the image."""
    item = dict(entry) if isinstance(entry, Mapping) else {"image": entry}
    if not present(item.get("image")):
        raise InputError(f"{where} in {source} names no image: give a path, or a list with one path or null a sequence")
    for key in PATH_KEYS:
        if key in item:
            item[key] = _absolute(source.parent, item[key])
    return item


def _absolute(base: Path, paths: Any) -> Any:
    if isinstance(paths, (list, tuple)):
        return [_absolute(base, path) for path in paths]
    return None if is_missing(paths) else os.path.normpath(base / Path(str(paths)).expanduser())


def _with_case_ids(items: list[dict], where: str) -> list[dict]:
    """Add ``case_id``: the first kind of name that is unique in the split, else the plainest one, numbered."""
    given = Counter(str(item["case_id"]) for item in items if "case_id" in item)
    for name, count in given.items():
        if count > 1:
            raise InputError(f"case_id '{name}' occurs {count} times in {where}: every case needs its own")
        if Path(name).name != name:
            raise InputError(f"case_id '{name}' in {where} cannot be a folder name: leave out '/' and '..'")
    nameless = [item for item in items if "case_id" not in item]
    kinds = list(zip(*(_names(item["image"]) for item in nameless)))
    unique = (kind for kind in kinds if len(set(kind)) == len(kind) and not given.keys() & set(kind))
    taken = set(given)
    for item, name in zip(nameless, next(unique, kinds[0] if kinds else ())):
        case_id, number = name, 1
        while case_id in taken:
            number += 1
            case_id = f"{name}_{number}"
        taken.add(case_id)
        item["case_id"] = case_id
    return items


def _names(image: Any) -> tuple[str, str, str]:
    """Return candidate names of a case, plainest first: from its files, its folder, and both."""
    paths = [Path(path) for path in present(image)]
    stems = [path.name if path.is_dir() else _stem(path) for path in paths]
    folder = paths[0].parent.name or "case"
    name = os.path.commonprefix(stems)
    if isinstance(image, list) and (len(paths) == 1 or len(set(stems)) > 1):  # drop the sequence: p01_t1, p01_t2 -> p01
        whole = max(name.rfind(separator) for separator in SEPARATORS)
        name = name[: max(whole, 0)].rstrip(SEPARATORS)
    name = name or folder
    return name, folder, f"{folder}_{name}"


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".gz", path.with_suffix("").suffix if name.endswith(".gz") else path.suffix):
        name = name.removesuffix(suffix)
    return name
