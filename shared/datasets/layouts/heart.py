"""Cardiac MR, for EM-CLIP with ``cardiac.json``: 1 left ventricle, 2 myocardium, 3 right ventricle.

M&Ms has these values, ACDC the reverse order, MS-CMRSeg hundreds. The layouts are those that public code for each data
set reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pandas as pd

from shared.core.errors import InputError
from shared.datasets.layouts.convert import remap, take_frame
from shared.datasets.layouts.layout import Case, Conversion, Files, Layout, published_split

CLASSES = {0: "background", 1: "left ventricle", 2: "myocardium", 3: "right ventricle"}
SAME = {1: 1, 2: 2, 3: 3}
REVERSED = {1: 3, 2: 2, 3: 1}
HUNDREDS = {500: 1, 200: 2, 600: 3}
PROCESSED = {2: 1, 1: 2, 3: 3}


def mnms(files: Files) -> Iterator[Case]:
    """M&Ms: ``Training/Labeled/<code>/<code>_sa.nii.gz`` (cine), ``<code>_sa_gt.nii.gz``, and a table of frames.

    The published validation cases of the training vendors (A, B) validate; the others and the published test set test.
    Cases without labels are left out.
    """
    table = _mnms_table(files)
    for found in files.find(r"(?P<code>[A-Z0-9]{6})_sa\.nii\.gz"):
        code, cine = found["code"].upper(), files.path(found)
        masks = files.volume(found, f"{found['code']}_sa_gt")
        if masks is None:
            continue
        if code not in table:
            files.problems.append(f"case {code}: not in the table of {files.folder}: complete the download")
            continue
        row = table[code]
        split = published_split(found, testing="test", validation="valid")
        if split == "validation" and row["vendor"] not in "AB":
            split = "testing"
        for phase in ("ED", "ES"):
            frame = int(row[phase.lower()])
            image = Conversion(".nii.gz", partial(take_frame, cine, frame))
            label = Conversion(".nii.gz", partial(remap, masks, SAME, frame))
            domain = f"vendor_{row['vendor']}"
            yield Case(f"{code}_{phase}", code, image, label, split, domain, phase=phase)


def _mnms_table(files: Files) -> dict[str, dict[str, str]]:
    """Return code -> vendor, ed, es; an empty dict for a folder that holds neither table nor cases."""
    tables = files.find(r"[^/]*M[^/]*Dataset_information[^/]*\.csv")
    if not tables:
        if files.find(r"[A-Z0-9]{6}_sa\.nii\.gz"):
            files.problems.append(f"no table *Dataset_information*.csv in {files.folder}: complete the download")
        return {}
    table = pd.read_csv(files.path(tables[0]), dtype=str)
    table.columns = [str(column).strip().lower() for column in table.columns]
    wanted = ["external code", "vendor", "ed", "es"]
    if absent := [column for column in wanted if column not in table]:
        raise InputError(f"{files.path(tables[0])} has no column {absent[0]!r}: get the file again")
    rows = table.dropna(subset=wanted)[wanted]
    return {str(row["external code"]).strip().upper(): dict(row) for _, row in rows.iterrows()}


def acdc(files: Files) -> Iterator[Case]:
    """ACDC: ``{training,testing}/patient001/patient001_frame01[_gt].nii.gz``; Info.cfg says which are ED and ES."""
    for found in files.find(r"(?P<patient>patient\d+)_frame(?P<frame>\d+)\.nii(\.gz)?"):
        patient, frame = found["patient"], found["frame"]
        mask = files.volume(found, f"{patient}_frame{frame}_gt")
        info = files.beside(found, "Info.cfg")
        text = info.read_text(encoding="utf-8", errors="replace") if info else ""
        phases = dict(re.findall(r"^(E[DS]):\s*(\d+)", text, re.MULTILINE))
        phase = next((name for name, number in phases.items() if int(number) == int(frame)), None)
        label = Conversion(".nii.gz", partial(remap, mask, REVERSED, None)) if mask else None
        split = published_split(found, testing="test")
        case = f"{patient}_{phase or 'frame' + frame}"
        yield Case(case, patient, files.path(found), label, split, "acdc", phase=phase)


def ms_cmrseg(files: Files) -> Iterator[Case]:
    """MS-CMRSeg 2019: ``patient1_{C0,LGE,T2}[_manual].nii.gz``, or ``{bSSFP,LGE}/{image,label}_1.nii.gz``.

    The second is the copy that papers on domain generalisation use (1 myocardium, 2 left, 3 right ventricle).
    """
    names = {"C0": "bSSFP", "LGE": "LGE", "T2": "T2"}
    for found in files.find(r"(?P<patient>patient\d+)_(?P<sequence>C0|LGE|T2)\.nii\.gz"):
        case = f"{found['patient']}_{found['sequence']}"
        mask = files.named(f"{case}_manual.nii.gz")
        label = Conversion(".nii.gz", partial(remap, mask, HUNDREDS, None)) if mask else None
        domain = names[found["sequence"].upper()]
        yield Case(f"{found['patient']}_{domain}", found["patient"], files.path(found), label, domain=domain)
    for found in files.find(r"(?P<domain>bSSFP|LGE)/image_(?P<number>\d+)\.nii\.gz"):
        mask = files.volume(found, f"label_{found['number']}")
        label = Conversion(".nii.gz", partial(remap, mask, PROCESSED, None)) if mask else None
        patient = f"patient{found['number']}"
        yield Case(f"{patient}_{found['domain']}", patient, files.path(found), label, domain=found["domain"])


def _layout(name: str, title: str, shape: str, licence: str, source: str, find, note: str = "", options="") -> Layout:
    return Layout(
        name, title, "emclip", CLASSES, shape, licence, source, find, ("cardiac",), options, ("cine MR",), note
    )


LAYOUTS = [
    _layout(
        "mnms",
        "M&Ms",
        "Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz",
        "terms of the challenge, registration; do not redistribute",
        "https://www.ub.edu/mnms",
        mnms,
        "--source vendor_A or --source vendor_B trains on one vendor",
    ),
    _layout(
        "acdc",
        "ACDC",
        "training/patient001/patient001_frame01.nii.gz",
        "research use, registration; do not redistribute",
        "https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html",
        acdc,
    ),
    _layout(
        "ms_cmrseg",
        "MS-CMRSeg 2019",
        "patient1_LGE.nii.gz",
        "terms of the challenge, registration; do not redistribute",
        "https://zmiclab.github.io/zxh/0/mscmrseg19",
        ms_cmrseg,
        "patients have several sequences; no patient is in two splits",
        "--source bSSFP",
    ),
]
