"""The cases of a run by domain, on disk or the built-in phantoms: one source domain for training, the others unseen."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from emclip.phantoms.dataset import make_fundus_phantoms
from shared.core.errors import InputError
from shared.core.missing import is_missing, present
from shared.datasets import cases
from shared.datasets import preflight as checks
from shared.datasets.case_names import check_name, qualify, tell_apart
from shared.datasets.datalist import Items, expand_datalist, read_datalist
from shared.preparation.disc_crop import CropToDiscd

SOURCE, UNSEEN = "source", "unseen"  # default domains, for cases without one

dataset_file = partial(cases.dataset_file, maker=make_fundus_phantoms)
load_input = partial(cases.load_input, maker=make_fundus_phantoms)


def preflight(
    items: Sequence[Items],
    structures: Mapping[str, Any],
    sentences: Sequence[str],
    *arguments: Any,
    fitting: Sequence[Any] = (),
    **options: Any,
) -> None:
    """Check the structures and their sentences, then what `shared.datasets.preflight.preflight` checks.

    Where images are read to their end, a photograph in which the optic disc is not found is a problem, too.

    Args:
        items: lists of cases.
        structures: by name; ``labelled`` of a case may name no other.
        sentences: one for the background, then one per structure.
        fitting: the transforms that fit an image to the network, among them perhaps the search for the disc.
        arguments, options: further ones of `shared.datasets.preflight.preflight`.

    Raises:
        InputError: every problem, one line each.
    """
    known = ", ".join(structures)
    if len(sentences) != 1 + len(structures):
        raise InputError(
            f"{len(sentences)} sentences for {len(structures)} structures ({known}): give one for the background, then "
            "one per structure, in their order"
        )

    whole = options.get("labels") is not None if options.get("whole") is None else options["whole"]
    crops = [step for step in fitting if whole and isinstance(step, CropToDiscd)]

    def check_case(item: Mapping[str, Any], case: str, headers: Mapping[str, Any]) -> list[str]:
        labelled = ensure_tuple(item.get("labelled") or ())
        wrong = [name for name in labelled if not isinstance(name, str) or name not in structures]
        found = [f"{case}: labelled names {wrong[0]!r}, which is not a structure: choose from {known}"] if wrong else []
        return found + [line for crop in crops for line in crop.problems(item.get("image"), case)]

    checks.preflight(items, *arguments, **{**options, "more": check_case})


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
        builtin_dir: the folder of the built-in phantoms, which are written on first use.
        source: a domain; None keeps all cases of the split.
        optional: return no case where the data set has no such list, as for an evaluation on unseen domains alone.

    Raises:
        InputError: the split has no case of that domain, or there is no such list.
    """
    if optional and not _has_cases(dataset_file(dataset_dir, builtin_dir), ("training", split)):
        return []
    items = cases.load_split(dataset_dir, split, builtin_dir, maker=make_fundus_phantoms)
    return _only(_with_domain(items, SOURCE), None if source is None else [source], f"{split} of {dataset_dir}")


def source_name(items: Items, source: str | None = None) -> str:
    """Return the name of the training cases' domain.

    Args:
        items: training cases.
        source: the name, where one was given; None joins the domains of `items` by "+".
    """
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
        builtin_dir: the folder of the built-in phantoms, which are written on first use.
        test_dirs: folders of further data sets.
        domains: the domains to keep; None keeps all.
        beside: cases that are reported in the same table. Cases that share a ``case_id`` get their domain in front of
            it, and their folder where they share that, too.

    Raises:
        InputError: a domain without a case; a folder of `test_dirs` without testing cases.
    """
    own = dataset_file(dataset_dir, builtin_dir)
    items = expand_datalist(own, "testing") if _has_cases(own, ("testing",)) else []
    for folder in test_dirs:
        items += expand_datalist(dataset_file(folder, builtin_dir), "testing")
    items = _with_domain([item for item in items if not is_missing(item.get("label"))], UNSEEN)
    where = "testing of " + ", ".join(map(str, [dataset_dir, *test_dirs]))
    return _with_own_names(_only(items, domains, where), beside)


def report_items(seen: Items, unseen: Items, source: str) -> Items:
    """Return all cases of the report; those of several source domains get the name that `source_name` gives them."""
    own = source.split("+")
    return [{**item, "domain": source} if item["domain"] in own else item for item in [*seen, *unseen]]


def _has_cases(file: Path, splits: Sequence[str]) -> bool:
    content = read_datalist(file)
    return any(content.get(split) for split in splits)


def _with_domain(items: Items, default: str) -> Items:
    """Return the cases with ``domain`` as a string; a "/" in it makes folders of pictures."""
    found = [{**item, "domain": str(item.get("domain", "")) or default} for item in items]
    for item in found:
        for part in item["domain"].split("/"):
            check_name(part, f"case {item['case_id']}: domain {item['domain']!r:.80}: part")
    return found


def _only(items: Items, domains: Sequence[str] | None, where: str) -> Items:
    if domains is None:
        return items
    found = Counter(item["domain"] for item in items)
    for domain in domains:
        if domain not in found:
            raise InputError(f"domain {domain!r} has no case in {where}: it has {', '.join(sorted(found)) or 'none'}")
    return [item for item in items if item["domain"] in domains]


def _with_own_names(items: Items, beside: Items) -> Items:
    taken = {item["case_id"] for item in beside}
    names = tell_apart([_names(item) for item in items], taken)
    return [{**item, "case_id": name} for item, name in zip(items, names)]


def _names(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the case's own name, then that with its domain, then with its folders, too."""
    yield item["case_id"]
    image = present(item["image"])[0]
    yield from qualify(f"{item['domain']}_{item['case_id']}", Path(image).parent)
    raise InputError(f"case {item['case_id']} ({image}) is tested twice: leave out one of --test_dirs")
