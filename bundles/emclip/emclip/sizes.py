"""Structures that come out larger or smaller than a domain's labels in nearly every case: a convention, or a bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from emclip.postprocessing.drawn_size import LEAST, MOST
from shared.results.case_report import CaseReport

Rows = Sequence[Mapping[str, Any]]
SIZES = [  # columns of the label's and the prediction's size, see `shared.results.metrics.case_metrics`
    ("volume_ml", "volume_pred_ml"),
    ("volume_voxels", "volume_pred_voxels"),
    ("area_mm2", "area_pred_mm2"),
    ("area_px", "area_pred_px"),
]
BIAS = 0.1  # relative to the labels; three quarters of the cases must exceed it
FEWEST = 10  # cases


def size_ratios(rows: Rows, class_names: Sequence[str]) -> pd.DataFrame:
    """Return the size of predictions relative to labels, one row per domain and class.

    Args:
        rows: one per case: ``domain`` and the columns of `SIZES` with ``_<class>`` appended (for a single class: as
            they are). Cases whose label is empty or was not annotated are left out.
        class_names: the classes.

    Returns:
        Columns ``domain``, ``class``, ``n``, ``low``, ``median``, ``high``: quartiles of predicted / labelled size.
        Sorted by domain, classes in their order.

    """
    cases, report = pd.DataFrame([dict(row) for row in rows]), CaseReport(class_names)
    columns = _size_columns(rows, class_names) or SIZES[0]
    lines = []
    for name in class_names:
        label, pred = (cases[report.column(metric, name)].astype(float) for metric in columns)
        ratios = (pred / label)[label > 0]
        for domain, part in ratios.groupby(cases["domain"].astype(str)):
            low, median, high = part.quantile([0.25, 0.5, 0.75])
            lines.append((domain, name, len(part), low, median, high))
    table = pd.DataFrame(lines, columns=["domain", "class", "n", "low", "median", "high"])
    return table.sort_values("domain", kind="stable", ignore_index=True)


def size_notes(rows: Rows, class_names: Sequence[str]) -> list[str]:
    """Return one sentence per domain and class whose predictions differ in size from most labels.

    Arguments: see `size_ratios`. Without the columns of sizes the list is empty.
    """
    if _size_columns(rows, class_names) is None:
        return []
    notes = []
    for domain, name, n, low, median, high in size_ratios(rows, class_names).itertuples(index=False):
        if n >= FEWEST and (low > 1 + BIAS or high < 1 - BIAS):
            than = "larger" if low > 1 else "smaller"
            note = (
                f"{domain}, {name}: {abs(median - 1):.0%} {than} than labelled (quartiles {low:.2f}, {high:.2f} times)"
            )
            if MOST**-2 <= median <= LEAST**-2:  # outside this range the network is wrong
                note += f"; try --drawn_size \"{{'{name}': {median**-0.5:.2f}}}\""
            notes.append(note)
    return notes


def _size_columns(rows: Rows, class_names: Sequence[str]) -> tuple[str, str] | None:
    """Return the pair of `SIZES` that every case has for every class."""
    report = CaseReport(class_names)
    for columns in SIZES:
        names = [report.column(column, name) for column in columns for name in class_names]
        if all(name in row for row in rows for name in names):
            return columns
    return None
