"""``report.html``: one self-contained page with a row per case, to look at a run's results in a browser.

`write_report` turns plain records into the page. It knows neither engines nor bundles; `shared.results.report_records`
makes the records of an inference and of an evaluation.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.core.files import write_atomic
from shared.results.thumbnails import kept_thumbnails, thumbnail

PAGE = "report.html"
TEMPLATE = "report_page.html.j2"
MARK, HEAD = '<meta name="description" content="{}">', 1000  # tells the kind of a page, in its first characters
FORMAT = ".4g"  # of numbers without a format of their own
LISTED = 4  # values shown of a list, such as the volumes of lesions
FAILED_SHOWN = 20  # failed cases named at the top; the table has all

Table = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Record:
    """One case of the page.

    Attributes:
        case_id: name of the case.
        figures: heading of a column -> number, text, list of numbers, or None. Cases may have different columns.
        text: the sentence that belongs to the case.
        overlay: picture to show small, relative to the page's folder; None for none.
        preparation: picture of the preparation, shown smaller below the overlay; None for none.
        curve: picture of what was measured over time, shown below the overlay; None for none.
        files: text of a link -> file, relative to the page's folder.
        inputs: paths of the input.
        notes: what a reader should know about the case, one sentence each.
        failed: why the case has no result; empty for a case that has one.

    """

    case_id: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    overlay: str | None = None
    preparation: str | None = None
    curve: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    notes: Sequence[str] = ()
    failed: str = ""


@dataclass(frozen=True)
class About:
    """What stands in the page's header.

    Attributes:
        bundle: name of the bundle; empty where it is unknown.
        version: its version.
        facts: heading -> sentence, e.g. the weights and what they are made for.

    """

    bundle: str = ""
    version: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def write_report(
    path: str | os.PathLike,
    title: str,
    records: Sequence[Record],
    about: About | None = None,
    formats: Mapping[str, str] | None = None,
    tables: Mapping[str, Table] | None = None,
    remarks: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write the page.

    It holds its style, its script and small copies of the overlays, and asks for nothing from the network. Links are
    relative, so that the folder can be moved. The time is linear in the number of cases; of each case only the
    pictures are read, and only if they changed since the page was last written.

    Args:
        path: file to write; its folder is the one that the records' files are relative to.
        title: heading of the page.
        records: one per case, in the order of the rows.
        about: bundle and weights.
        formats: heading of a column -> format of its numbers, e.g. ``.2f``; by default four significant digits.
        tables: heading -> rows of a further table above the cases, e.g. means by domain.
        remarks: sentences under the heading, e.g. that the run stopped.
        files: text of a link -> file of all cases together, relative to the page's folder.

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written.

    """
    path = Path(path)
    formats, kept = formats or {}, kept_thumbnails(path)
    numeric = _columns(records)
    rows = [_row(number, record, numeric, formats, path.parent, kept) for number, record in enumerate(records, 1)]
    template = _environment().get_template(TEMPLATE)
    page = template.render(
        title=title,
        kind=_kind(title),
        about=about or About(),
        date=time.strftime("%Y-%m-%d %H:%M %Z").strip(),
        remarks=list(remarks),
        rows=rows,
        failed=[row for row in rows if row["failed"]],
        failed_shown=FAILED_SHOWN,
        noted=sum(bool(row["notes"]) for row in rows),
        numeric=numeric,
        summary=_summary(records, numeric, formats),
        tables={heading: _table(table) for heading, table in (tables or {}).items() if table},
        files=_links(files or {}, path.parent),
        pictures=any(row["pictures"] for row in rows),
        linked=any(row["files"] for row in rows),
    )
    return write_atomic(path, page.encode("utf-8", "replace"))  # a file name may hold bytes that are not UTF-8


def page_path(folder: str | os.PathLike, title: str) -> Path:
    """Return the path of a folder's page: ``report.html``, or another name where that is not a page of this title.

    An inference and an evaluation may write into one folder; neither replaces the page of the other, nor a file that
    someone else wrote.

    Args:
        folder: the output folder.
        title: heading of the page.

    """
    page = Path(folder) / PAGE
    try:
        with open(page, encoding="utf-8", errors="replace") as file:
            own = MARK.format(_kind(title)) in file.read(HEAD)
    except FileNotFoundError:
        own = True
    return page if own else page.with_name(f"report_{_kind(title).lower().replace(' ', '_')}.html")


def _kind(title: str) -> str:
    """Return what all pages of a kind have in their titles: the words before a colon."""
    return title.partition(":")[0]


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _columns(records: Sequence[Record]) -> dict[str, bool]:
    """Return the headings of all figures in the order of their first use, and whether a column holds numbers."""
    found: dict[str, bool] = {}
    for record in records:
        for heading, value in record.figures.items():
            found[heading] = found.get(heading, True) and (value is None or _is_number(value))
    return found


def _row(
    number: int,
    record: Record,
    numeric: Mapping[str, bool],
    formats: Mapping[str, str],
    folder: Path,
    kept: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the template shows of a case."""
    return {
        "number": number,
        "case_id": record.case_id,
        "text": record.text,
        "inputs": list(record.inputs),
        "notes": list(record.notes),
        "failed": record.failed,
        "cells": [
            _cell(record.figures.get(heading), is_number, formats.get(heading, FORMAT))
            for heading, is_number in numeric.items()
        ],
        "files": _links(record.files, folder),
        "pictures": [
            (kind, href(relative), small)
            for kind, relative in (
                ("overlay", record.overlay),
                ("preparation", record.preparation),
                ("curve", record.curve),
            )
            if relative and (small := thumbnail(folder, relative, kept))
        ],
    }


def shown(value: Any, form: str = FORMAT) -> str:
    """Return a figure as text: a dash where there is none, at most four values of a list."""
    if _is_absent(value):
        return "–"
    if isinstance(value, (list, tuple)):
        first = ", ".join(shown(part, form) for part in value[:LISTED])
        return f"{first} and {len(value) - LISTED} more" if len(value) > LISTED else first or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    return f"{number:.0f}" if form == FORMAT and 1e4 <= abs(number) < 1e15 else format(number, form)


def href(relative: str) -> str:
    """Return a relative path as a URL: a name may hold ``#``, ``%``, ``:`` or bytes that are not UTF-8."""
    return quote(os.fsencode(relative))


def _links(files: Mapping[str, str], folder: Path) -> list[tuple[str, str]]:
    """Return text and URL of the files that exist."""
    return [(text, href(relative)) for text, relative in files.items() if (folder / relative).is_file()]


def _cell(value: Any, number: bool, form: str) -> dict[str, Any]:
    """Return text and sort key of a figure; the key is empty for a case without the figure."""
    first = (value[0] if value else None) if isinstance(value, (list, tuple)) else value
    return {"text": shown(value, form), "sort": "" if _is_absent(first) else str(first), "number": number}


def _is_absent(value: Any) -> bool:
    return value is None or (_is_number(value) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _summary(
    records: Sequence[Record], numeric: Mapping[str, bool], formats: Mapping[str, str]
) -> list[tuple[str, list[str]]]:
    """Return one row per column of numbers: n, mean, median, least and greatest; none with fewer than two cases."""
    rows = []
    for heading in (heading for heading, is_numeric in numeric.items() if is_numeric):
        found = [record.figures.get(heading) for record in records]
        values = [float(value) for value in found if value is not None and not math.isnan(value)]
        if len(values) > 1:
            form = formats.get(heading, FORMAT)
            figures = (statistics.fmean(values), statistics.median(values), min(values), max(values))
            rows.append((heading, [str(len(values)), *(shown(value, form) for value in figures)]))
    return rows


def _table(rows: Table) -> dict[str, Any]:
    """Return heading and cells of a table of mappings."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [all(row.get(name) is None or _is_number(row[name]) for row in rows) for name in names]
    headings = [name.replace("_", " ") for name in names]
    return {
        "headings": list(zip(headings, numeric)),
        "rows": [[shown(row.get(name)) for name in names] for row in rows],
    }
