"""The cases of a run: a data set on disk, or the built-in brain phantoms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brainsegdmlf.phantoms.dataset import make_brain_phantoms
from shared.core.errors import InputError
from shared.core.missing import present
from shared.datasets import cases
from shared.datasets import preflight as checks
from shared.datasets.datalist import Items
from shared.datasets.studies import is_folder, load_studies, print_tables
from shared.io.affine import check_extent
from shared.io.sources import read_header

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
        print_tables(part)
    checks.preflight(
        items,
        channels,
        output_dir,
        labels,
        one_grid=prepare == "off",
        more=partial(_not_a_head, extent_mm=extent_mm),
        **options,
    )


def _not_a_head(item: Mapping[str, Any], case: str, extent_mm: Sequence[float]) -> list[str]:
    for path in present(item.get("image"))[:1]:
        try:
            header = read_header(path, case, whole=False)
            check_extent(header.shape, header.affine, extent_mm)
        except InputError:  # the check of the file has named it
            return []
        except ValueError as error:
            return [f"{case}: {path}: {error}"]
    return []
