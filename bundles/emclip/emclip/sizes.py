"""Structures that come out larger or smaller than a domain's labels in nearly every case: a convention, or a bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from emclip.postprocessing.drawn_size import LEAST, MOST
from shared.results.report import CaseReport

BIAS = 0.1  # three quarters of the cases at least so far from their labels, relative to these (our choice)
FEWEST = 10  # cases of which that can be said (our choice)


def size_ratios(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> pd.DataFrame:
    """Return the size of predictions relative to labels, a line a domain and class.

    Args:
        rows: a case each: ``domain`` and ``volume_ml_<class>``, ``volume_pred_ml_<class>`` (of one class alone:
            without ``_<class>``). Cases that nobody annotated or whose label is empty do not count.
        class_names: the classes.

    Returns:
        Columns ``domain``, ``class``, ``n``, ``low``, ``median``, ``high``: quartiles of predicted / labelled volume
        (of a picture: area). Sorted by domain, classes in their order.
    """
    cases, report = pd.DataFrame([dict(row) for row in rows]), CaseReport(class_names)
    lines = []
    for name in class_names:
        label, pred = (cases[report.column(metric, name)].astype(float) for metric in ("volume_ml", "volume_pred_ml"))
        ratios = (pred / label)[label > 0]
        for domain, part in ratios.groupby(cases["domain"].astype(str)):
            low, median, high = part.quantile([0.25, 0.5, 0.75])
            lines.append((domain, name, len(part), low, median, high))
    table = pd.DataFrame(lines, columns=["domain", "class", "n", "low", "median", "high"])
    return table.sort_values("domain", kind="stable", ignore_index=True)


def size_notes(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> list[str]:
    """Return a sentence a domain and class whose predictions are larger, or smaller, in three quarters of the cases.

    Arguments as `size_ratios`; rows without volumes give none.
    """
    report = CaseReport(class_names)
    if not all(report.column("volume_ml", name) in row for row in rows for name in class_names):
        return []
    notes = []
    for line in size_ratios(rows, class_names).itertuples(index=False):
        domain, name, n, low, median, high = line
        if n >= FEWEST and (low > 1 + BIAS or high < 1 - BIAS):
            than = "larger" if low > 1 else "smaller"
            note = (
                f"{domain}, {name}: {abs(median - 1):.0%} {than} than labelled (quartiles {low:.2f}, {high:.2f} times)"
            )
            if MOST**-2 <= median <= LEAST**-2:  # beyond, the network is wrong
                note += f"; try --drawn_size \"{{'{name}': {median**-0.5:.2f}}}\""
            notes.append(note)
    return notes
