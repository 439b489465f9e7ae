"""The cases of a run: a data set on disk, or the built-in brain phantoms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brainsegdmlf.phantoms.dataset import make_brain_phantoms
from shared.datasets import cases
from shared.datasets import preflight as checks
from shared.datasets.datalist import Items
from shared.datasets.studies import is_folder, load_studies, print_tables
from shared.io.affine import check_extent, same_affine, shape_text
from shared.io.sources import Header

dataset_file = partial(cases.dataset_file, maker=make_brain_phantoms)
load_split = partial(cases.load_split, maker=make_brain_phantoms)


def load_input(
    dataset_dir: str | os.PathLike,
    split: str,
    builtin_dir: str | os.PathLike,
    input: Any = None,
    *,
    channels: Sequence[str],
    prepared_dir: str | os.PathLike,
    series: Mapping[str, Any] | None = None,
    reference: str | None = None,
) -> Items:
    """Return the cases of an inference: the studies of a folder, one case, or those of a split.

    Args:
        dataset_dir, split, builtin_dir, input: of `shared.datasets.cases.load_input`; `input` may also be a folder of
            studies.
        channels, series, reference: of `shared.datasets.studies.load_studies`.
        prepared_dir: folder of prepared cases; links to the files of DICOM series lie there too.

    Raises:
        InputError: ``--input`` or the data list cannot be used.
    """
    if is_folder(input):
        return load_studies(input, channels, Path(prepared_dir) / "series", series, reference)
    return cases.load_input(dataset_dir, split, builtin_dir, input, maker=make_brain_phantoms)


def preflight(
    items: Sequence[Items],
    channels: Sequence[str],
    output_dir: str | os.PathLike,
    extent_mm: Sequence[float],
    prepare: str,
    labels: Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Show what was taken of each study, and check all data and that every scan has the size of a head.

    Args:
        extent_mm: smallest and largest size, see `shared.io.affine.check_extent`.
        prepare: "off" if all sequences of a case must lie on one grid, as nothing registers them.
        items, channels, output_dir, labels, options: of `shared.datasets.preflight.preflight`.

    Raises:
        InputError: every problem, one line each.
    """
    for part in items:
        print_tables(part, channels)
    checks.preflight(
        items,
        channels,
        output_dir,
        labels,
        one_grid=False,
        more=partial(_check_head, channels=channels, extent_mm=extent_mm, one_grid=prepare == "off"),
        **options,
    )


def _check_head(
    item: Mapping[str, Any],
    case: str,
    headers: Mapping[str, Header],
    channels: Sequence[str],
    extent_mm: Sequence[float],
    one_grid: bool,
) -> list[str]:
    """Check that the first sequence has the size of a head, and with `one_grid` that the others lie on its grid."""
    if not headers:
        return []
    image = item["image"]
    paths = dict(zip(channels, image)) if isinstance(image, (list, tuple)) else {"image": image}
    (first, header), *others = headers.items()
    problems = []
    try:
        check_extent(header.shape, header.affine, extent_mm)
    except ValueError as error:
        problems.append(f"{case}: {paths[first]}: {error}")
    for name, other in others if one_grid else ():
        if other.shape[:3] != header.shape[:3] or not same_affine(header.affine, other.affine):
            problems.append(
                f"{case}: {name} ({shape_text(other.shape[:3])}) and {first} ({shape_text(header.shape[:3])}) lie on "
                "different grids: run with --prepare auto to register them"
            )
    return problems
