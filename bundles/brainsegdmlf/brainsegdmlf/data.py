"""The cases of a run: a data set on disk, or the built-in brain phantoms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from brainsegdmlf.phantoms.dataset import make_brain_phantoms
from shared.core.errors import InputError
from shared.core.missing import present
from shared.datasets import cases
from shared.datasets import preflight as checks
from shared.datasets.datalist import Items
from shared.io.affine import check_extent
from shared.io.sources import read_header

dataset_file = partial(cases.dataset_file, maker=make_brain_phantoms)
load_split = partial(cases.load_split, maker=make_brain_phantoms)
load_input = partial(cases.load_input, maker=make_brain_phantoms)


def preflight(
    items: Sequence[Items],
    channels: Sequence[str],
    output_dir: str | os.PathLike,
    extent_mm: Sequence[float],
    labels: Sequence[int] | None = None,
) -> None:
    """Check all data, and that every scan has the size of a head.

    Args:
        extent_mm: smallest and largest size, see `shared.io.affine.check_extent`.
        items, channels, output_dir, labels: of `shared.datasets.preflight.preflight`.

    Raises:
        InputError: every problem, one line each.
    """
    checks.preflight(items, channels, output_dir, labels, more=partial(_not_a_head, extent_mm=extent_mm))


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
