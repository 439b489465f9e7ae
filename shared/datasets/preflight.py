"""The check of data and output folder before a run: all problems at once, one line each."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from shared.core.errors import InputError, require
from shared.core.files import check_output_dir
from shared.core.missing import is_missing
from shared.datasets.datalist import Items
from shared.datasets.faults import fault_of, mark, name_left_out
from shared.io.affine import check_same_grid
from shared.io.dicom_labels import find_dicom_seg
from shared.io.labels import load_label
from shared.io.picture_files import check_same_size, load_picture, load_picture_label, picture_size
from shared.io.sources import Header, read_header
from shared.io.volumes import check_channels
from shared.preparation.cine import find_cine
from shared.preparation.cine_load import load_cine

NO_CASE = "the data list holds no case: check --dataset_dir and the split"
NO_LABEL = "has no label: add one to the data list, or use the inference config"
THREADS = 4  # files read at the same time; each may hold a volume in memory
SECONDS = 5  # until a bar is shown

Check = Callable[[Mapping[str, Any], str], list[str]]  # of an item and the words that name its case: its problems
Headers = dict[str, Header]  # of the sequences of a case that can be read, by name
More = Callable[[Mapping[str, Any], str, Headers], list[str]]  # as Check, with the headers of the case


def preflight(
    items: Sequence[Items],
    channels: Sequence[str],
    output_dir: str | os.PathLike,
    labels: Sequence[int] | None = None,
    pictures: bool = False,
    whole: bool | None = None,
    strict: bool | None = None,
    more: More | None = None,
    one_grid: bool = True,
    cines: bool = False,
) -> None:
    """Check all data, and the output folder by writing.

    A training or an evaluation is refused if any case has a fault, and a training whose labels are all empty. Other
    lists whose labels are all empty are printed: Dice is then 1 where nothing is found, and says nothing. An inference
    goes on without cases that have a fault: they are printed and marked, see `shared.datasets.faults`.

    Args:
        items: lists of cases; of several, the first one trains.
        channels: names of the channels of ``image``, in order; not used for pictures.
        output_dir: the folder of the run.
        labels: values that a label map may hold; every case then needs one. None for cases without labels.
        pictures: the cases are pictures (PNG, JPG, TIFF, BMP, DICOM).
        whole: read images to their end; False reads only their headers. None reads them to their end if there are
            labels: a training stops at a damaged image, while inference goes on with the next case.
        strict: refuse all cases if one has a fault; None does so if there are labels.
        more: finds further problems of a case from its item, the words that name it, and its headers (empty for
            pictures).
        one_grid: the sequences of a case must lie on one grid; False where a preparation registers them.
        cines: cases without labels may be cines of the only channel, see `shared.preparation.cine`; their voxels are
            always read.

    Raises:
        InputError: every problem, one line each. Without `strict`: the output folder cannot be used, or no case can.
    """
    cases = [item for part in items for item in part]
    need_label = labels is not None
    whole, strict = (need_label if option is None else option for option in (whole, strict))
    empty: set[int] = set()
    if pictures:
        check = _picture_check(labels, need_label, whole, empty, more)
    else:
        check = _volume_check(channels, labels, need_label, whole, empty, one_grid, more, cines)
    found = _check_all(cases, check)
    folder = check_output_dir(output_dir, needed_mb=200)
    if strict or not cases:
        require([*(_joined(found) if cases else [NO_CASE]), *folder])
        _check_foreground([part for part in items if part], empty, training=len(items) > 1)
        return
    require(folder)
    for item, problems in zip(cases, found):
        if problems:
            mark(item, problems)
    name_left_out(cases)


def check_volumes(
    items: Sequence[Mapping[str, Any]],
    channels: Sequence[str],
    labels: Sequence[int] | None = None,
    need_label: bool = False,
    whole: bool = False,
) -> list[str]:
    """Check the volumes of a data list with the functions that load them in a run.

    Args:
        items: as `shared.datasets.datalist.expand_datalist` returns them (absolute paths).
        channels: names of the channels of ``image``, in order.
        labels: values that a label map may hold; None to leave its voxels unread.
        need_label: an item without ``label`` is a problem.
        whole: read the voxels of images where only they show a fault, see `shared.io.sources.read_header`.

    Returns:
        Every problem of every item, one line each that names case, file and remedy.
    """
    return _joined(_check_all(items, _volume_check(channels, labels, need_label, whole, set()))) if items else [NO_CASE]


def _check_foreground(lists: Sequence[Items], empty: Collection[int], training: bool) -> None:
    """Refuse a training without any foreground; print other lists without any.

    Args:
        lists: lists of cases; of a training, the first one trains.
        empty: `id` of the cases whose label holds only background.
        training: whether the first list trains.

    Raises:
        InputError: all labels of the list that trains are empty.
    """
    for number, part in enumerate(lists):
        if all(id(item) in empty for item in part):
            count = "the label of the only case" if len(part) == 1 else f"all labels of {len(part)} cases"
            what = f"{count} ({part[0]['case_id']}{' ...' if len(part) > 1 else ''})"
            if training and number == 0:
                raise InputError(f"{what} of the training list hold only background: check the labels and --labels")
            print(
                f"warning: {what} of a list that is evaluated hold only background: its Dice says nothing", flush=True
            )


def _volume_check(
    channels: Sequence[str],
    labels: Sequence[int] | None,
    need_label: bool,
    whole: bool,
    empty: set[int],
    one_grid: bool = True,
    more: More | None = None,
    cines: bool = False,
) -> Check:
    def check(item: Mapping[str, Any], case: str) -> list[str]:
        problems: list[str] = []
        if cines and len(channels) == 1 and _is_cine(item.get("image"), case, need_label, problems):
            return problems + (more(item, case, {}) if more else [])
        headers = _check_image(item.get("image"), channels, case, whole, one_grid, problems)
        header = next(iter(headers.values()), None)
        label, where = item.get("label"), f"{case}: label"
        if not is_missing(label):
            voxels = _attempt(problems, _check_label, label, header, labels, where)
            if labels is not None and voxels is not None and not bool((voxels != labels[0]).any()):
                empty.add(id(item))
        elif need_label:
            problems.append(f"{case}: {NO_LABEL}")
        return problems + (more(item, case, headers) if more else [])

    return check


def check_pictures(
    items: Sequence[Mapping[str, Any]],
    labels: Sequence[int] | None = None,
    need_label: bool = False,
    whole: bool = False,
) -> list[str]:
    """Check the pictures of a data list with the functions that load them in a run.

    Args:
        items: as `shared.datasets.datalist.expand_datalist` returns them (absolute paths).
        labels: values that a label picture may hold; None to leave its pixels unread.
        need_label: an item without ``label`` is a problem.
        whole: read the pixels of pictures too.

    Returns:
        Every problem of every item, one line each that names case, file and remedy.
    """
    return _joined(_check_all(items, _picture_check(labels, need_label, whole, set()))) if items else [NO_CASE]


def _picture_check(
    labels: Sequence[int] | None, need_label: bool, whole: bool, empty: set[int], more: More | None = None
) -> Check:
    def check(item: Mapping[str, Any], case: str) -> list[str]:
        problems: list[str] = []
        image, label, where = item.get("image"), item.get("label"), f"{case}: label"
        size = _attempt(problems, picture_size, image, case)
        if size and whole:
            _attempt(problems, load_picture, image, case, True)
        if not is_missing(label):
            label_size = _attempt(problems, picture_size, label, where)
            if size and label_size:
                _attempt(problems, check_same_size, size, label_size, f"{where}: {label}")
            if labels is not None and label_size:
                pixels = _attempt(problems, load_picture_label, label, labels, where)
                if pixels is not None and not bool((pixels != labels[0]).any()):
                    empty.add(id(item))
        elif need_label:
            problems.append(f"{case}: {NO_LABEL}")
        return problems + (more(item, case, {}) if more else [])

    return check


def _check_all(items: Sequence[Mapping[str, Any]], check: Check) -> list[list[str]]:
    """Return what `check` finds in each item; of an item that is marked already, its mark."""
    names = [f"case {item.get('case_id', number)}" for number, item in enumerate(items)]

    def problems_of(item: Mapping[str, Any], case: str) -> list[str]:
        return check(item, case) if (fault := fault_of(item)) is None else [fault]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(tqdm(pool.map(problems_of, items, names), "checking data", len(items), delay=SECONDS, leave=False))


def _joined(lists: Sequence[list[str]]) -> list[str]:
    return [line for lines in lists for line in lines]


def _check_image(
    image: Any, channels: Sequence[str], case: str, whole: bool, one_grid: bool, problems: list[str]
) -> Headers:
    """Check the sequences of one case; return the geometry of those that can be read."""
    single = isinstance(image, (str, os.PathLike))
    paths = [image] if single else list(image or [])
    if all(is_missing(path) for path in paths):
        problems.append(f"{case}: every sequence is missing: give at least one of {', '.join(channels)}")
        return {}
    before = len(problems)
    if not single:
        _attempt(problems, check_channels, len(paths), channels, case)
    if len(problems) > before:
        return {}
    headers: Headers = {}
    for name, path in zip(["image"] if single else channels, paths):
        header = None if is_missing(path) else _attempt(problems, read_header, path, f"{case}: {name}", whole)
        if header is None:
            continue
        if single:
            _attempt(problems, check_channels, header.channels, channels, f"{case}: {path}")
        elif header.channels != 1:
            problems.append(f"{case}: {name}: {path} holds {header.channels} volumes: give one volume per sequence")
        headers[name] = header
        first = next(iter(headers))
        if one_grid and name != first:
            _attempt(problems, check_same_grid, _grid(first, headers[first]), _grid(name, header), case)
    return headers


def _is_cine(image: Any, case: str, need_label: bool, problems: list[str]) -> bool:
    """Check a case if it is a cine; return whether it is one, be it usable or not."""
    before = len(problems)
    opened = _attempt(problems, find_cine, image, case)
    if opened is not None and need_label:
        phases = f"a cine of {opened.shape[3]} phases"
        problems.append(f"{case}: {phases}: training and evaluation take single frames with their labels")
    elif opened is not None:
        _attempt(problems, load_cine, image, case)
    return opened is not None or len(problems) > before


def _check_label(path: Any, image: Header | None, labels: Sequence[int] | None, where: str) -> MetaTensor | None:
    """Check a label map; return it where its voxels were read."""
    if find_dicom_seg(path) and (image is None or labels is None):
        return None  # a DICOM SEG is read on the grid of its image
    if labels is not None:
        return load_label(path, labels, where, None if image is None else _without_voxels(image))
    header = read_header(path, where, whole=False)
    if image is not None:
        check_same_grid(_grid("image", image), _grid("label", header), f"{where}: {path}")
    return None


def _without_voxels(header: Header) -> MetaTensor:
    """Return an image (1, X, Y, Z) of the geometry of a header, which takes no memory."""
    return MetaTensor(torch.zeros(1).expand(1, *header.shape[:3]), affine=torch.from_numpy(header.affine))


def _grid(name: str, header: Header) -> tuple[str, tuple[int, ...], Any]:
    return name, header.shape[:3], header.affine


def _attempt(problems: list[str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `function` returns; of an `InputError`, add its line to `problems` and return None."""
    try:
        return function(*arguments)
    except InputError as error:
        problems.append(str(error))
        return None
