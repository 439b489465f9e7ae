"""Checks of what a user gave, before any work starts: all problems at once, one line each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from shared.core.errors import InputError
from shared.core.errors import require as require  # the checks' usual last word, wherever it lives
from shared.core.messages import reason
from shared.core.missing import is_missing
from shared.io.dicom import has_dicom
from shared.io.dicom_frames import find_frames
from shared.io.dicom_labels import find_dicom_seg
from shared.io.pictures import check_same_size, load_picture_label, picture_size
from shared.io.volumes import FORMATS, VOLUME_SHAPES, check_channels, check_same_grid

NO_CASE = "the data list holds no case: check --dataset_dir and the split"
NO_LABEL = "has no label: add one to the data list, or use the inference config"
Grid = tuple[tuple[int, ...], np.ndarray]


def check_items(
    items: Sequence[Mapping[str, Any]],
    channels: Sequence[str],
    labels: Sequence[int] | None = None,
    need_label: bool = False,
) -> list[str]:
    """Check the files of a data list by their headers; no voxel is read except, with `labels`, those of label maps.

    Args:
        items: as `shared.datasets.datalist.expand_datalist` returns them (absolute paths).
        channels: names of the channels of ``image``, in order.
        labels: values a label map may hold; None to leave its voxels unread.
        need_label: an item without ``label`` is a problem.

    Returns:
        Every problem of every item, one line each that names case, file and remedy: absent or unreadable files, wrong
        numbers of channels, all sequences missing, shapes and affines that differ, DICOM folders without DICOM.

    """
    problems: list[str] = [] if items else [NO_CASE]
    for case, item in _cases(items):
        grid = _check_image(item.get("image"), channels, case, problems)
        label = item.get("label")
        if not is_missing(label):
            _check_label(label, grid, labels, f"{case}: label", problems)
        elif need_label:
            problems.append(f"{case}: {NO_LABEL}")
    return problems


def check_pictures(
    items: Sequence[Mapping[str, Any]], labels: Sequence[int] | None = None, need_label: bool = False
) -> list[str]:
    """Check the pictures of a data list by their headers; pixels are read, with `labels`, of label pictures.

    Args:
        items: as `shared.datasets.datalist.expand_datalist` returns them (absolute paths).
        labels: values a label picture may hold; None to leave its pixels unread.
        need_label: an item without ``label`` is a problem.

    Returns:
        Every problem of every item, one line each that names case, file and remedy: absent or unreadable files, a
        label of another size than its picture, values that are not declared.

    """
    problems: list[str] = [] if items else [NO_CASE]
    for case, item in _cases(items):
        size = _result(problems, picture_size, item.get("image"), case)
        label, where = item.get("label"), f"{case}: label"
        if not is_missing(label):
            label_size = _result(problems, picture_size, label, where)
            if size and label_size:
                _result(problems, check_same_size, size, label_size, f"{where}: {label}")
            if labels is not None and label_size:
                _result(problems, load_picture_label, label, labels, where)
        elif need_label:
            problems.append(f"{case}: {NO_LABEL}")
    return problems


def _cases(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"case {item.get('case_id', number)}", item) for number, item in enumerate(items)]


def _check_image(image: Any, channels: Sequence[str], case: str, problems: list[str]) -> Grid | None:
    """Check the sequences of one case; return the grid of the first readable one."""
    single = isinstance(image, (str, os.PathLike))
    paths = [image] if single else list(image or [])
    if all(is_missing(path) for path in paths):
        problems.append(f"{case}: every sequence is missing: give at least one of {', '.join(channels)}")
        return None
    if not single and not _passes(problems, check_channels, len(paths), channels, case):
        return None
    first: tuple[str, Grid] | None = None
    for name, path in zip(["image"] if single else channels, paths):
        if is_missing(path):
            continue
        found = _header(path, f"{case}: {name}", problems)
        if found is None:
            continue
        shape, affine = found
        count = shape[3] if len(shape) > 3 else 1
        if single:
            _passes(problems, check_channels, count, channels, f"{case}: {path}")
        elif count != 1:
            problems.append(f"{case}: {name}: {path} holds {count} volumes: give one volume a sequence")
        grid = (shape[:3], affine)
        if first is None:
            first = (name, grid)
        else:
            _passes(problems, check_same_grid, (first[0], *first[1]), (name, *grid), case)
    return first[1] if first else None


def _check_label(path: Any, grid: Grid | None, labels: Sequence[int] | None, where: str, problems: list[str]) -> None:
    found = None if find_dicom_seg(path) else _header(path, where, problems)
    if found is None:
        return
    shape, affine = found
    if grid is not None:
        _passes(problems, check_same_grid, ("image", *grid), ("label", shape[:3], affine), f"{where}: {path}")
    if labels is not None:
        header: Any = nib.load(path)
        values = np.unique(np.asanyarray(header.dataobj))
        if not np.isin(values, labels).all():
            found_values = ", ".join(f"{value:g}" for value in values[:10])
            declared = ", ".join(map(str, labels))
            problems.append(
                f"{where}: {path}: holds the values {found_values} where {declared} are declared: remap them"
            )


def _header(path: Any, where: str, problems: list[str]) -> Grid | None:
    """Return shape (3 or 4 entries, singletons dropped) and affine; None, with or without a problem, if unknown.

    The geometry of DICOM is left to the loading transform.
    """
    source = Path(str(path)).expanduser()
    if not source.exists():
        problems.append(f"{where}: {path} not found: correct the path, or give null for a missing sequence")
        return None
    if source.is_dir():
        if not has_dicom(source):
            problems.append(f"{where}: {path} holds no DICOM file: {FORMATS}")
        return None
    try:
        if find_frames(source):
            return None
        header: Any = nib.load(source)
        shape, affine = tuple(header.shape), np.asarray(header.affine, float)
        np.asanyarray(header.dataobj[(0,) * len(shape)])  # a file that ends after its header fails here
    except Exception as error:
        problems.append(f"{where}: {path} cannot be read ({reason(error)}): {FORMATS}")
        return None
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    if len(shape) not in (3, 4):
        problems.append(f"{where}: {path} has shape {' x '.join(map(str, shape))}: {VOLUME_SHAPES}")
        return None
    return shape, affine


def _result(problems: list[str], function: Any, *arguments: Any) -> Any:
    """Return what `function` returns, or None and note why not."""
    try:
        return function(*arguments)
    except InputError as error:
        problems.append(str(error))
    return None


def _passes(problems: list[str], check: Any, *arguments: Any) -> bool:
    before = len(problems)
    _result(problems, check, *arguments)
    return len(problems) == before
