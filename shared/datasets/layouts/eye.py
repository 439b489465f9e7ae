"""Fundus photographs, for EM-CLIP: label pictures of 0 background, 100 optic disc, 200 optic cup (inside the disc).

Layouts as read in public code of each set; every published mask differs, so every label is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from shared.datasets.layouts.convert import Layer, crop_left, fill_outline, paint
from shared.datasets.layouts.layout import Case, Files, Layout, Made, part, plain

DISC, CUP = 100, 200
CLASSES = {0: "background", DISC: "optic disc", CUP: "optic cup"}
DISC_ONLY = ("optic disc",)
THREE_OF_FOUR = 160  # raters: their share of 255 is 64, 128, 191 or 255
WHOLE = (
    "whole photographs: the shipped fundus weights expect them cropped round the disc (two to three of its diameters)"
)


def _painted(picture: Path, *layers: Layer, left_half: bool = False) -> Made:
    return Made(".png", partial(paint, picture, layers, left_half))


def drishti(files: Files) -> Iterator[Case]:
    """Drishti-GS: ``{Training,Test}/Images/.../drishtiGS_002.png``, ``.../drishtiGS_002_{ODseg,cupseg}Softmap.png``.

    A soft map is the share of four experts; three of them make the label.
    """
    for found in files.find(r"Images/(.*/)?(?P<case>drishtiGS_\d+)\.png"):
        case, picture = found["case"], files.path(found)
        disc = files.named(f"{case}_ODsegSoftmap.png")
        cup = files.named(f"{case}_cupsegSoftmap.png")
        if disc:
            files.need(cup, case, f"{case}_cupsegSoftmap.png")
        both = [Layer(path, value, THREE_OF_FOUR) for path, value in ((disc, DISC), (cup, CUP)) if path]
        label = _painted(picture, *both) if both else None
        yield Case(case, case, picture, label, part(found, testing="test"), "drishti_gs")


def rim_one_r2(files: Files) -> Iterator[Case]:
    """RIM-ONE r2: ``{Normal,Glaucoma and suspicious}/Im001.jpg`` and ``Im001-gs.txt``, the disc's outline."""
    for found in files.find(r"(?P<group>Normal|Glaucoma[^/]*)/(?P<case>Im\d+)\.jpg"):
        case, picture = found["case"], files.path(found)
        outline = files.need(files.named(f"{case}-gs.txt"), case, f"{case}-gs.txt")
        label = Made(".png", partial(fill_outline, picture, outline, DISC)) if outline else None
        yield Case(case, case, picture, label, domain="rim_one_r2", labelled=DISC_ONLY)


def rim_one_r3(files: Files) -> Iterator[Case]:
    """RIM-ONE r3: ``Healthy/Stereo Images/N-1-L.jpg``, ``Healthy/Average_masks/N-1-L-{Disc,Cup}-Avg.png``.

    A picture holds two views side by side, the left one was annotated: both are cut in half.
    """
    for found in files.find(r"Stereo Images/(?P<case>(?P<patient>[NGS]-\d+)-[LR])\.jpg"):
        case, picture = found["case"], files.path(found)
        names = (f"../Average_masks/{case}-{{}}-Avg.png", f"../Expert1_masks/{case}-1-{{}}-exp1.png")
        disc, cup = (files.beside(found, *(name.format(what) for name in names)) for what in ("Disc", "Cup"))
        files.need(disc, case, f"{case}-Disc-Avg.png")
        files.need(cup, case, f"{case}-Cup-Avg.png")
        layers = [Layer(path, value) for path, value in ((disc, DISC), (cup, CUP)) if path]
        label = _painted(picture, *layers, left_half=True)
        yield Case(case, found["patient"], Made(".png", partial(crop_left, picture)), label, domain="rim_one_r3")


def refuge(files: Files) -> Iterator[Case]:
    """REFUGE: ``{g,n}0001.jpg`` (training, Zeiss), ``V0001.jpg``, ``T0001.jpg`` (Canon), masks ``.bmp`` of their names.

    In a mask 0 is the cup, 128 the disc, 255 the background. The Canon's are unseen in training: all of them test.
    """
    for found in files.find(r"(?P<case>(?P<kind>[gnVT])\d{4})\.jpg"):
        case, picture, canon = found["case"], files.path(found), found["kind"].lower() in "vt"
        mask = files.named(f"{case}.bmp", f"{case}.png")
        label = _painted(picture, Layer(mask, DISC, 0, 191), Layer(mask, CUP, 0, 63)) if mask else None
        if not canon:
            files.need(mask, case, f"{case}.bmp")
        yield Case(case, case, picture, label, "testing" if canon else None, "canon" if canon else "zeiss")


def riga(files: Files) -> Iterator[Case]:
    """RIGA+: ``RIGA/BinRushed/BinRushed1/image1.tif``, ``RIGA-mask/BinRushed/BinRushed1/image1-1.tif`` (first rater).

    In a mask 128 is the cup, other values above 0 are the rim. BinRushed and Magrabia train, MESSIDOR's bases test.
    """
    for found in files.find(r"RIGA-mask/(?P<place>(?P<domain>[^/]+)/(.*/)?)(?P<name>[^/]+)-1\.(tif|png|jpg)"):
        case = plain(found["place"] + found["name"])
        top = "../" * (found["place"].count("/") + 1)
        names = [f"{top}RIGA/{found['place']}{found['name']}.{end}" for end in ("tif", "jpg", "png", "JPG")]
        picture = files.need(files.beside(found, *names), case, f"RIGA/{found['place']}{found['name']}.tif")
        if picture:
            mask = files.path(found)
            label = _painted(picture, Layer(mask, DISC, 1), Layer(mask, CUP, 128, 128))
            unseen = found["domain"].upper().startswith("MESSIDOR")
            yield Case(case, case, picture, label, "testing" if unseen else None, found["domain"])


def idrid(files: Files) -> Iterator[Case]:
    """IDRiD, segmentation: ``.../{a. Training Set,b. Testing Set}/IDRiD_01.jpg``, ``.../IDRiD_01_OD.tif``."""
    for found in files.find(r"(?P<case>IDRiD_\d+)_OD\.tif"):
        case = found["case"]
        picture = files.need(files.named(f"{case}.jpg"), case, f"{case}.jpg")
        if picture:
            label = _painted(picture, Layer(files.path(found), DISC))
            yield Case(case, case, picture, label, part(found, testing="test"), "idrid", labelled=DISC_ONLY)


def _layout(name: str, title: str, shape: str, licence: str, source: str, find, note: str = "", aliases=()) -> Layout:
    return Layout(name, title, "emclip", CLASSES, shape, licence, source, find, note=note, aliases=aliases)


LAYOUTS = [
    _layout(
        "drishti_gs",
        "Drishti-GS",
        "Training/Images/GLAUCOMA/drishtiGS_002.png",
        "research use; do not redistribute",
        "http://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php",
        drishti,
        WHOLE,
    ),
    _layout(
        "rim_one_r2",
        "RIM-ONE r2",
        "Normal/Im001.jpg",
        "research use; do not redistribute",
        "http://medimrg.webs.ull.es/research/retinal-imaging/rim-one",
        rim_one_r2,
        "the disc alone was outlined",
    ),
    _layout(
        "rim_one_r3",
        "RIM-ONE r3",
        "Healthy/Stereo Images/N-1-L.jpg",
        "research use; do not redistribute",
        "http://medimrg.webs.ull.es/research/retinal-imaging/rim-one",
        rim_one_r3,
        "of each stereo pair the left view, which was outlined",
    ),
    _layout(
        "refuge",
        "REFUGE",
        "Training400/Glaucoma/g0001.jpg",
        "terms of the challenge, registration; do not redistribute",
        "https://refuge.grand-challenge.org",
        refuge,
        f"{WHOLE}; the second camera's validation and test sets are unseen domains here",
    ),
    _layout(
        "riga_plus",
        "RIGA+",
        "RIGA-mask/BinRushed/BinRushed1/image1-1.tif",
        "see the page's terms",
        "https://zenodo.org/record/6325549",
        riga,
        "labels of the first of six raters; --source BinRushed or --source Magrabia trains on one domain",
        ("riga",),
    ),
    _layout(
        "idrid",
        "IDRiD",
        "Segmentation/All Segmentation Groundtruths/a. Training Set/5. Optic Disc/IDRiD_01_OD.tif",
        "CC BY 4.0",
        "https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid",
        idrid,
        f"{WHOLE}; the disc alone was outlined",
    ),
]
