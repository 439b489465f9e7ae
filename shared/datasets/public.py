"""The data list of a public data set: a ``dataset.json`` that a bundle reads, from the files as they were published.

Nothing is downloaded and the published files stay as they are. Labels that the bundle cannot read are converted to new
files beside the list, in ``<layout>_labels``; images, where a published file holds several, in ``<layout>_images``.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import shared
from shared.core.errors import InputError, require
from shared.core.files import whole, write_atomic
from shared.core.messages import meant
from shared.datasets.builtin import run_jobs
from shared.datasets.datalist import read_datalist
from shared.datasets.layouts import LAYOUTS
from shared.datasets.layouts.layout import Case, Conversion, Files, Layout

SPLITS = ("training", "validation", "testing", "unlabelled")
NAME = "dataset.json"  # the file that the bundles look for


def make_datalist(
    layout: str,
    folder: str | os.PathLike,
    out: str | os.PathLike | None = None,
    seed: int = 0,
    val_share: float = 0.15,
    test_share: float = 0.2,
    progress: bool = True,
) -> Path:
    """Write the data list of a public data set, and print its content, its licence and the command that trains on it.

    Published splits are kept where they separate patients. Otherwise, and for validation where only a test set is
    published, patients are drawn with a seed. Cases without a published label are listed as ``unlabelled``.

    Args:
        layout: name of the data set, see `shared.datasets.layouts`.
        folder: the unpacked data set, or a folder that contains it.
        out: the new ``dataset.json``, or its folder; None for ``<layout>/dataset.json`` in the current folder.
        seed: seed of the splits.
        val_share, test_share: shares of the patients, in [0, 1).
        progress: show a bar while files are converted.

    Returns:
        The path of the list.

    Raises:
        InputError: an unknown layout, a folder that is absent, empty or of another layout, missing or unreadable files,
            label values that the data set does not have, or a list at `out` that this function did not write; one
            line per problem.
    """
    wanted = find_layout(layout)
    source = Path(folder).expanduser().absolute()
    target = _target(wanted, out)
    for name, share in (("val_share", val_share), ("test_share", test_share)):
        if not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise InputError(f"--{name} is {share!r}: give a share of the patients, at least 0 and below 1")
    cases = find_cases(wanted, source)
    splits = draw_splits(cases, seed, val_share, test_share)
    items = _write_files(wanted, cases, target.parent, progress)
    lists = {name: [items[case.case_id] for case in splits[name]] for name in SPLITS if splits[name]}
    head = {
        "name": wanted.title,
        "layout": wanted.name,
        "licence": wanted.licence,
        "reference": wanted.source,
        "seed": seed,
        **({"modality": {str(i): name for i, name in enumerate(wanted.channels)}} if wanted.channels else {}),
        "labels": {str(value): name for value, name in wanted.classes.items()},
        "numTraining": len(splits["training"]),
        "numTest": len(splits["testing"]),
    }
    write_atomic(target, json.dumps({**head, **lists}, indent=1) + "\n")
    print("\n".join(_summary(wanted, cases, splits, target)))
    return target


def find_layout(name: str) -> Layout:
    """Return a layout by its name or an alias; only letters and digits are compared, ignoring case.

    Raises:
        InputError: there is none of that name.
    """
    known = {_letters(alias): layout for layout in LAYOUTS.values() for alias in (layout.name, *layout.aliases)}
    if (found := known.get(_letters(name))) is not None:
        return found
    raise InputError(f"unknown layout '{name}': {meant(str(name).lower(), LAYOUTS, 'there are ' + ', '.join(LAYOUTS))}")


def find_cases(layout: Layout, folder: Path) -> list[Case]:
    """Return the cases in a folder, sorted by their names.

    Raises:
        InputError: the folder is absent or has no case, a case lacks files (one line each) or occurs twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the one that {layout.title} was unpacked to")
    files = Files(folder, leave_out=(f"{layout.name}_labels", f"{layout.name}_images"))
    cases = sorted(layout.find(files), key=lambda case: case.case_id)
    require(files.problems)
    if not cases:
        what = "is empty" if not files.names else f"holds no {layout.title}, e.g. {layout.shape}"
        raise InputError(f"{folder} {what}: get it from {layout.source}")
    counts = Counter(case.case_id for case in cases)
    if twice := [case_id for case_id, count in counts.items() if count > 1]:
        raise InputError(f"case {twice[0]} occurs {counts[twice[0]]} times in {folder}: give the folder of one copy")
    return cases


def draw_splits(cases: Sequence[Case], seed: int, val_share: float, test_share: float) -> dict[str, list[Case]]:
    """Return the cases of each split, in their order.

    All cases of a patient are in one split: the published one, or one that is drawn. No patient is drawn for a split
    that the publisher gives. Every split with a share above 0 gets at least one patient, and training keeps one.

    Args:
        cases: all cases of the data set.
        seed: seed of the draw.
        val_share, test_share: shares of the patients without a published split, in [0, 1).
    """
    given = {case.patient: case.split for case in cases if case.split and case.label}
    free = sorted({case.patient for case in cases if case.label} - given.keys())
    random.Random(seed).shuffle(free)
    shares = {"validation": val_share, "testing": test_share}
    drawn: dict[str, str] = {}
    for split, share in shares.items():
        if share and split not in given.values() and len(free) - len(drawn) > 1:
            first = len(drawn)
            count = min(max(1, round(share * len(free))), len(free) - first - 1)
            drawn |= dict.fromkeys(free[first : first + count], split)
    place = {**dict.fromkeys(free, "training"), **drawn, **given}
    lists: dict[str, list[Case]] = {split: [] for split in SPLITS}
    for case in cases:
        lists[str(place[case.patient]) if case.label else "unlabelled"].append(case)
    return lists


def _target(layout: Layout, out: str | os.PathLike | None) -> Path:
    """Return the path of the list; an existing file there must be an earlier list of the same layout."""
    target = Path(out).expanduser() if out else Path(layout.name)
    if target.suffix != ".json":
        target = target / NAME
    if target.name != NAME:
        raise InputError(f"--out {out}: the bundles read a file of the name {NAME}: give a folder")
    if target.exists():
        try:
            listed = read_datalist(target).get("layout")
        except InputError:
            listed = None
        if listed != layout.name:
            what = f"a list of {listed}" if listed else "a list that this program did not write"
            raise InputError(f"{target} is {what}: give another --out")
    return target.absolute()


def _write_files(layout: Layout, cases: Sequence[Case], home: Path, progress: bool) -> dict[str, dict[str, Any]]:
    """Convert what has to be converted; return the item of each case, with paths below `home` relative to it.

    Raises:
        InputError: files that cannot be converted, one line per case.
    """
    problems: list[str] = []

    def convert(case: Case, conversion: Conversion, path: Path) -> None:
        try:
            with whole(path) as draft:
                conversion.write(draft)
        except InputError as error:
            problems.append(f"case {case.case_id}: {error}")

    jobs = []
    done = []
    for case in cases:
        for key in ("image", "label"):
            conversion = getattr(case, key)
            if isinstance(conversion, Conversion):
                path = home / f"{layout.name}_{key}s" / f"{case.case_id}{conversion.suffix}"
                jobs.append((case, conversion, path))
                case = replace(case, image=path) if key == "image" else replace(case, label=path)
        done.append(case)
    if jobs:
        run_jobs(convert, jobs, progress=progress, description=f"files of {layout.title}", threads=True)
    require(sorted(problems))
    return {case.case_id: _item(case, home) for case in done}


def _item(case: Case, home: Path) -> dict[str, Any]:
    def place(path: Any) -> Any:
        if isinstance(path, (list, tuple)):
            return [place(each) for each in path]
        return None if path is None else str(path.relative_to(home) if path.is_relative_to(home) else path)

    more = {
        "patient": case.patient if case.patient != case.case_id else None,
        "phase": case.phase,
        "domain": case.domain,
        "text": case.text,
        "labelled": list(case.labelled) if case.labelled else None,
    }
    item = {"case_id": case.case_id, "image": place(case.image), "label": place(case.label), **more}
    return {key: value for key, value in item.items() if value is not None}


def _summary(layout: Layout, cases: Sequence[Case], splits: dict[str, list[Case]], target: Path) -> list[str]:
    counts = ", ".join(f"{len(splits[name])} {name}" for name in SPLITS if splits[name])
    patients = len({case.patient for case in cases})
    domains = sorted({case.domain for case in cases if case.domain})
    labels = ", ".join(f"{value} {name}" for value, name in layout.classes.items())
    without = sum(case.text is None for case in cases)
    lines = [
        f"{layout.title}: {len(cases)} cases of {patients} patients or scans: {counts}",
        f"labels    {labels}",
        *([f"domains   {', '.join(domains)}"] if domains else []),
        *([f"sentences {without} of {len(cases)} cases have none"] if layout.bundle == "tmca" and without else []),
        *([f"note      {layout.note}"] if layout.note else []),
        f"licence   {layout.licence}",
        f"source    {layout.source}",
        f"list      {target}",
        f"next      {training_command(layout, target.parent)}",
    ]
    return lines


def training_command(layout: Layout, dataset_dir: Path) -> str:
    """Return the command that trains the layout's bundle on the list in a folder."""
    home = Path(shared.__file__).resolve().parents[1]
    bundle = next((f for f in (home / "bundles" / layout.bundle, home) if (f / layout.bundle).is_dir()), None)
    configs = Path(os.path.relpath(bundle)) / "configs" if bundle else Path(layout.bundle) / "configs"
    files = [f"{configs}/{name}.json" for name in ("train", *layout.configs)]
    config = shlex.quote(files[0]) if len(files) == 1 else '"[' + ",".join(f"'{file}'" for file in files) + ']"'
    options = f" {layout.options}" if layout.options else ""
    folder = shlex.quote(str(dataset_dir))
    return f"python -m monai.bundle run --config_file {config} --dataset_dir {folder}{options}"


def list_layouts() -> str:
    """Return a table of the layouts: name, bundle and title."""
    width = max(map(len, LAYOUTS))
    rows = (f"{layout.name:<{width}}  {layout.bundle:<12}  {layout.title}" for layout in LAYOUTS.values())
    return "\n".join(rows)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower().replace("+", "plus").replace("&", "n"))
