"""The cases of a run by domain: one source for training, others never seen; on disk, or the built-in phantoms."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from emclip.phantoms.dataset import make_fundus_phantoms
from shared.core.errors import InputError, require
from shared.core.missing import is_missing
from shared.datasets import cases
from shared.datasets.cases import Items
from shared.datasets.datalist import expand_datalist

SOURCE, UNSEEN = "source", "unseen"  # domains of cases whose list names none

dataset_file = partial(cases.dataset_file, maker=make_fundus_phantoms)
load_input = partial(cases.load_input, maker=make_fundus_phantoms)


def preflight(
    items: Sequence[Items], structures: Mapping[str, Any], sentences: Sequence[str], *arguments: Any, **options: Any
) -> None:
    """Check, before anything long begins, the classes and what `shared.datasets.cases.preflight` does.

    Args:
        items: lists of cases.
        structures: by name; ``labelled`` of a case may name no other.
        sentences: the background's, then one a structure.
        arguments, options: others of `shared.datasets.cases.preflight`.

    Raises:
        InputError: every problem, one line each.
    """
    known = ", ".join(structures)
    problems = []
    if len(sentences) != 1 + len(structures):
        problems.append(
            f"{len(sentences)} sentences for {len(structures)} structures ({known}): give one for the background, then "
            "one a structure, in their order"
        )
    for item in chain(*items):
        if wrong := [name for name in ensure_tuple(item.get("labelled") or ()) if name not in structures]:
            problems.append(
                f"case {item['case_id']}: labelled names {wrong[0]!r}, which is no structure: choose from {known}"
            )
    require(problems)
    cases.preflight(items, *arguments, **options)


def load_source(
    dataset_dir: str | os.PathLike,
    split: str,
    builtin_dir: str | os.PathLike,
    source: str | None = None,
    optional: bool = False,
) -> Items:
    """Return the training or validation cases of the source domain.

    Args:
        dataset_dir: folder with a ``dataset.json``.
        split: "training" or "validation".
        builtin_dir: the folder whose phantoms are made on first use.
        source: a domain; None takes the split as it is.
        optional: a list without such cases gives none, as in evaluation on unseen domains alone.

    Raises:
        InputError: the split has no case of that domain, or there is no such list.
    """
    if optional and not _holds(dataset_file(dataset_dir, builtin_dir), ("training", split)):
        return []
    items = cases.load_split(dataset_dir, split, builtin_dir, maker=make_fundus_phantoms)
    return _only(_with_domain(items, SOURCE), None if source is None else [source], f"{split} of {dataset_dir}")


def source_name(items: Items, source: str | None = None) -> str:
    """Return the name of the training cases' domain: `source` where it is given; several are joined by "+"."""
    return source or "+".join(dict.fromkeys(str(item["domain"]) for item in items)) or SOURCE


def load_unseen(
    dataset_dir: str | os.PathLike,
    builtin_dir: str | os.PathLike,
    test_dirs: Sequence[str | os.PathLike] = (),
    domains: Sequence[str] | None = None,
    beside: Items = (),  # type: ignore[assignment]
) -> Items:
    """Return the labelled ``testing`` cases of the data set and of further ones.

    Args:
        dataset_dir: folder with a ``dataset.json``; it need not have testing cases.
        builtin_dir: the folder whose phantoms are made on first use.
        test_dirs: folders of further data sets.
        domains: the domains to keep; None keeps all.
        beside: cases reported in the same table; a case_id that occurs twice gets its domain before it.

    Raises:
        InputError: a domain without a case; a folder of `test_dirs` without testing cases.
    """
    own = dataset_file(dataset_dir, builtin_dir)
    items = expand_datalist(own, "testing") if _holds(own, ("testing",)) else []
    for folder in test_dirs:
        items += expand_datalist(dataset_file(folder, builtin_dir), "testing")
    items = _with_domain([item for item in items if not is_missing(item.get("label"))], UNSEEN)
    where = "testing of " + ", ".join(map(str, [dataset_dir, *test_dirs]))
    return _unique(_only(items, domains, where), beside)


def report_items(seen: Items, unseen: Items, source: str) -> Items:
    """Return all cases of the report; those of several source domains get the name that `source_name` gives them."""
    own = source.split("+")
    return [{**item, "domain": source} if item["domain"] in own else item for item in [*seen, *unseen]]


def _holds(file: Path, splits: Sequence[str]) -> bool:
    """Whether a data list has cases in one of the splits; True also for a file that is none, which is not said here."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return any(content.get(split) for split in splits)
    except (ValueError, AttributeError):
        return True


def _with_domain(items: Items, default: str) -> Items:
    return [{**item, "domain": str(item.get("domain") or default)} for item in items]


def _only(items: Items, domains: Sequence[str] | None, where: str) -> Items:
    if domains is None:
        return items
    found = Counter(item["domain"] for item in items)
    for domain in domains:
        if domain not in found:
            raise InputError(f"domain {domain!r} has no case in {where}: it has {', '.join(sorted(found)) or 'none'}")
    return [item for item in items if item["domain"] in domains]


def _unique(items: Items, beside: Items) -> Items:
    counts = Counter(item["case_id"] for item in [*beside, *items])
    return [
        {**item, "case_id": f"{item['domain']}_{item['case_id']}"} if counts[item["case_id"]] > 1 else item
        for item in items
    ]
