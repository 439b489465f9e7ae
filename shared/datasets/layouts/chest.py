"""Pictures with a sentence, for TMCA: label pictures of 0 and 1.

Sentences come from tables beside the pictures (`sentences.py`); not every picture has one. The layouts are those that
public code for each data set reads, and those of LViT's authors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from shared.datasets.layouts.convert import Layer, paint
from shared.datasets.layouts.layout import Case, Conversion, Files, Layout, as_name, published_split
from shared.datasets.layouts.sentences import read_sentences

PICTURES = r"(images?|img|frames)/(?P<case>[^/]+)\.(png|jpg|jpeg|bmp|tif)"
MASKS = ("labelcol", "label", "labels", "masks", "mask", "Ground-truths", "GTs", "GT")


def _label(picture: Path, *masks: Path) -> Conversion:
    return Conversion(".png", partial(paint, picture, [Layer(mask, 1) for mask in masks], False))


def _pairs(files: Files, patient: Callable[[str], str], published_test: bool) -> Iterator[Case]:
    """Find pictures in ``img``, ``images`` or ``frames``, and masks ``[mask_]<name>`` in the folders next to these."""
    sentences = read_sentences(files)
    for found in files.find(PICTURES):
        picture, stem = files.path(found), found["case"]
        ends = [picture.suffix, ".png", ".jpg"]
        names = [f"{start}{stem}{end}" for start in ("mask_", "") for end in ends]
        mask = files.beside(found, *(f"../{folder}/{name}" for folder in MASKS for name in names))
        files.need(mask, stem, f"mask of {found[0]}")
        text = next((sentences[name] for name in names if name in sentences), None)
        split = published_split(found, testing="test") if published_test else None
        yield Case(as_name(stem), patient(stem), picture, _label(picture, mask) if mask else None, split, text=text)


def qata(files: Files) -> Iterator[Case]:
    """QaTa-COV19 v2: ``{Train Set,Test Set}/{Images,Ground-truths}/``, or LViT's ``Train_Folder/{img,labelcol}/``.

    Patients are named ``sub-S...``; every picture ``covid_N`` counts as a patient of its own. The published training
    and validation sets share patients, so validation is drawn anew; the published test set stays.
    """
    return _pairs(files, lambda name: (re.match(r"sub-S\d+", name) or [name])[0], published_test=True)


def mosmed(files: Files) -> Iterator[Case]:
    """MosMedData+: ``{frames,masks}/<name>.png``, or LViT's ``Train_Folder/{img,labelcol}/``.

    Most published test slices come from scans that also train, so the split is drawn anew, scan by scan.
    """
    scan = r"(Morozov_study_\d+|Jun_.*?case_?\d+)"
    return _pairs(files, lambda name: (re.search(scan, name) or [name])[0], published_test=False)


def kvasir(files: Files) -> Iterator[Case]:
    """Kvasir-SEG: ``{images,masks}/<name>.jpg``."""
    return _pairs(files, str, published_test=False)


def busi(files: Files) -> Iterator[Case]:
    """BUSI: ``{benign,malignant,normal}/benign (1).png``; a label unites ``benign (1)_mask.png``, ``_mask_1.png``."""
    sentences = read_sentences(files)
    for found in files.find(r"(?P<kind>benign|malignant|normal)/(?P<case>[^/]+ \(\d+\))\.png"):
        case, picture = as_name(found["case"]), files.path(found)
        names = [f"{found['case']}_mask{end}.png" for end in ("", "_1", "_2", "_3")]
        masks = [path for name in names if (path := files.beside(found, name))]
        files.need(masks[0] if masks else None, case, names[0])
        text = next((sentences[n] for n in (f"{found['case']}.png", *names) if n in sentences), None)
        yield Case(case, case, picture, _label(picture, *masks) if masks else None, domain=found["kind"], text=text)


def _layout(name: str, title: str, target: str, shape: str, licence: str, source: str, find, **more) -> Layout:
    return Layout(name, title, "tmca", {0: "background", 1: target}, shape, licence, source, find, **more)


LAYOUTS = [
    _layout(
        "qata_cov19",
        "QaTa-COV19 v2",
        "infection",
        "Train Set/Images/covid_1.png",
        "not stated; do not redistribute",
        "https://www.kaggle.com/datasets/aysendegerli/qatacov19-dataset, sentences: https://github.com/HUANGLIZI/LViT",
        qata,
        configs=("qata",),
        note="the sentences tell where the mask lies: also report scores without a sentence and with a shuffled one",
        aliases=("qata",),
    ),
    _layout(
        "mosmed_plus",
        "MosMedData+",
        "infection",
        "Train_Folder/img/Morozov_study_0255_10.png",
        "MosMedData: CC BY-NC-ND 3.0; do not redistribute",
        "https://www.kaggle.com/datasets/maedemaftouni/covid19-ct-scan-lesion-segmentation-dataset, sentences: "
        "https://github.com/HUANGLIZI/LViT",
        mosmed,
        options="--target infection",
        note="split by scan, unlike the published split",
        aliases=("mosmeddata_plus", "mosmed"),
    ),
    _layout(
        "kvasir_seg",
        "Kvasir-SEG",
        "polyp",
        "images/cju0qkwl35piu0993l0dewei2.jpg",
        "research and education",
        "https://datasets.simula.no/kvasir-seg",
        kvasir,
        options="--target polyp",
        note="TMCA reads pictures in grey",
        aliases=("kvasir",),
    ),
    _layout(
        "busi",
        "BUSI",
        "tumour",
        "benign/benign (1).png",
        "see the page's terms",
        "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        busi,
        options="--target tumour",
        note="patients are not named: pictures of one patient may be in two splits",
    ),
]
