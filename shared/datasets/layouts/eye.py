"""Fundus photographs, for EM-CLIP: label pictures of 0 background, 100 optic disc, 200 optic cup (inside the disc).

The layouts are those that public code for each data set reads. Each publishes masks in its own form, so every label is
converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from shared.datasets.layouts.convert import Layer, crop_left, fill_outline, paint
from shared.datasets.layouts.layout import Case, Conversion, Files, Layout, as_name, published_split

DISC, CUP = 100, 200
CLASSES = {0: "background", DISC: "optic disc", CUP: "optic cup"}
DISC_ONLY = ("optic disc",)
THREE_OF_FOUR = 160  # grey value; one to four raters are 64, 128, 191 and 255
WHOLE = "whole photographs: the shipped fundus weights expect a crop around the disc (two to three disc diameters wide)"


def _painted(picture: Path, *layers: Layer, left_half: bool = False) -> Conversion:
    return Conversion(".png", partial(paint, picture, layers, left_half))


def drishti(files: Files) -> Iterator[Case]:
    """Drishti-GS: ``{Training,Test}/Images/.../drishtiGS_002.png``, ``.../drishtiGS_002_{ODseg,cupseg}Softmap.png``.

    A soft map gives the share of four experts; a pixel is labelled where three of them agree.
    """
    for found in files.find(r"Images/(.*/)?(?P<case>drishtiGS_\d+)\.png"):
        case, picture = found["case"], files.path(found)
        disc = files.named(f"{case}_ODsegSoftmap.png")
        cup = files.named(f"{case}_cupsegSoftmap.png")
        if disc:
            files.need(cup, case, f"{case}_cupsegSoftmap.png")
        both = [Layer(path, value, THREE_OF_FOUR) for path, value in ((disc, DISC), (cup, CUP)) if path]
        label = _painted(picture, *both) if both else None
        yield Case(case, case, picture, label, published_split(found, testing="test"), "drishti_gs")


def rim_one_r2(files: Files) -> Iterator[Case]:
    """RIM-ONE r2: ``{Normal,Glaucoma and suspicious}/Im001.jpg`` and ``Im001-gs.txt``, the outline of the disc."""
    for found in files.find(r"(?P<group>Normal|Glaucoma[^/]*)/(?P<case>Im\d+)\.jpg"):
        case, picture = found["case"], files.path(found)
        outline = files.need(files.named(f"{case}-gs.txt"), case, f"{case}-gs.txt")
        label = Conversion(".png", partial(fill_outline, picture, outline, DISC)) if outline else None
        yield Case(case, case, picture, label, domain="rim_one_r2", labelled=DISC_ONLY)


def rim_one_r3(files: Files) -> Iterator[Case]:
    """RIM-ONE r3: ``Healthy/Stereo Images/N-1-L.jpg``, ``Healthy/Average_masks/N-1-L-{Disc,Cup}-Avg.png``.

    A picture holds two views side by side, of which the left one was annotated; picture and label keep the left half.
    """
    for found in files.find(r"Stereo Images/(?P<case>(?P<patient>[NGS]-\d+)-[LR])\.jpg"):
        case, picture = found["case"], files.path(found)
        names = (f"../Average_masks/{case}-{{}}-Avg.png", f"../Expert1_masks/{case}-1-{{}}-exp1.png")
        disc, cup = (files.beside(found, *(name.format(what) for name in names)) for what in ("Disc", "Cup"))
        files.need(disc, case, f"{case}-Disc-Avg.png")
        files.need(cup, case, f"{case}-Cup-Avg.png")
        layers = [Layer(path, value) for path, value in ((disc, DISC), (cup, CUP)) if path]
        label = _painted(picture, *layers, left_half=True)
        yield Case(case, found["patient"], Conversion(".png", partial(crop_left, picture)), label, domain="rim_one_r3")


def refuge(files: Files) -> Iterator[Case]:
    """REFUGE: ``{g,n}0001.jpg`` (training, Zeiss), ``V0001.jpg``, ``T0001.jpg`` (Canon); masks ``g0001.bmp`` ...

    In a mask 0 is the cup, 128 the disc, 255 the background. All Canon pictures are test cases, of an unseen camera.
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

    In a mask 128 is the cup, other values above 0 are the rim. BinRushed and Magrabia train, the MESSIDOR sets test.
    """
    for found in files.find(r"RIGA-mask/(?P<place>(?P<domain>[^/]+)/(.*/)?)(?P<name>[^/]+)-1\.(tif|png|jpg)"):
        case = as_name(found["place"] + found["name"])
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
            yield Case(case, case, picture, label, published_split(found, testing="test"), "idrid", labelled=DISC_ONLY)


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
        "only the disc was outlined",
    ),
    _layout(
        "rim_one_r3",
        "RIM-ONE r3",
        "Healthy/Stereo Images/N-1-L.jpg",
        "research use; do not redistribute",
        "http://medimrg.webs.ull.es/research/retinal-imaging/rim-one",
        rim_one_r3,
        "the left view of each stereo pair, which is the one that was outlined",
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
        f"{WHOLE}; only the disc was outlined",
    ),
]
