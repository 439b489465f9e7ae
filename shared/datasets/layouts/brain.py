"""Brain lesions, for BrainSegDMLF: ``image`` is FLAIR, T1, T1 after contrast, T2, with None for a missing sequence.

BraTS's labels are 1 necrosis, 2 oedema, 3 or 4 enhancing tumour, whose unions are the regions of ``brats.json``; in the
other data sets 1 is the lesion. The layouts are those that public code for each data set reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from shared.datasets.layouts.convert import binary, remap
from shared.datasets.layouts.layout import Case, Conversion, Files, Layout, published_split

LESION = {0: "background", 1: "lesion"}
TUMOUR = {0: "background", 1: "necrosis", 2: "oedema", 3: "enhancing tumour", 4: "enhancing tumour"}
SEQUENCES = ("flair", "t1", "t1ce", "t2")


def brats(files: Files) -> Iterator[Case]:
    """BraTS 2018 to 2021: ``<case>/<case>_{flair,t1,t1ce,t2,seg}.nii.gz``; names of 2018 end in a scan number."""
    for found in files.find(r"(?P<case>Brats[^/]+)_flair\.nii(\.gz)?"):
        case = found["case"]
        image = [files.need(files.volume(found, f"{case}_{s}"), case, f"{case}_{s}.nii.gz") for s in SEQUENCES]
        yield Case(case, re.sub("_1$", "", case), image, files.volume(found, f"{case}_seg"))


def brats_2023(files: Files) -> Iterator[Case]:
    """BraTS 2023 and later: ``<case>/<case>-{t2f,t1n,t1c,t2w,seg}.nii.gz``, 3 is the enhancing tumour.

    Value 4 of 2024, the resection cavity, becomes background. Paediatric cases have other values and are left out.
    """
    values = {1: 1, 2: 2, 3: 3, 4: 0}
    for found in files.find(r"(?P<case>BraTS-(?P<patient>(GLI|MEN|MET|SSA|GoAT)-\w+)(-\w+)?)-t2f\.nii(\.gz)?"):
        case = found["case"]
        names = [f"{case}-{sequence}" for sequence in ("t2f", "t1n", "t1c", "t2w")]
        image = [files.need(files.volume(found, name), case, f"{name}.nii.gz") for name in names]
        seg = files.volume(found, f"{case}-seg")
        label = Conversion(".nii.gz", partial(remap, seg, values, None)) if seg else None
        yield Case(case, found["patient"], image, label)


def msd(files: Files) -> Iterator[Case]:
    """MSD Task01: ``imagesTr/BRATS_001.nii.gz``, the four sequences as 4-D; 1 is oedema, 2 the core, 3 enhancing."""
    for found in files.find(r"images(?P<part>Tr|Ts)/(?P<case>BRATS_\d+)\.nii\.gz"):
        case = found["case"]
        label = None
        if found["part"].lower() == "tr":
            source = files.need(files.named(f"{case}.nii.gz", folder="labelsTr"), case, f"labelsTr/{case}.nii.gz")
            label = Conversion(".nii.gz", partial(remap, source, {1: 2, 2: 1, 3: 4}, None)) if source else None
        yield Case(case, case, files.path(found), label)


def isles(files: Files) -> Iterator[Case]:
    """ISLES 2022: ``.../<case>_ses-0001_{dwi,adc}.nii.gz``, the mask ``derivatives/.../<case>_ses-0001_msk.nii.gz``."""
    for found in files.find(r"(?P<case>(?P<patient>sub-strokecase\d+)_ses-\d+)_dwi\.nii\.gz"):
        case = found["case"]
        adc = files.need(files.volume(found, f"{case}_adc"), case, f"{case}_adc.nii.gz")
        yield Case(case, found["patient"], [files.path(found), adc], files.named(f"{case}_msk.nii.gz"))


def wmh(files: Files) -> Iterator[Case]:
    """WMH 2017: ``[training|test]/<site>[/<scanner>]/<number>/{pre/{FLAIR,T1}.nii.gz,wmh.nii.gz}``.

    Value 2, other pathology, becomes background.
    """
    for found in files.find(r"(?P<home>(?P<site>[^/]+)/(?P<number>\d+))/pre/FLAIR\.nii\.gz"):
        case = f"{found['site']}_{found['number']}"
        t1 = files.need(files.volume(found, "T1"), case, f"{found['home']}/pre/T1.nii.gz")
        source = files.beside(found, "../wmh.nii.gz")
        label = Conversion(".nii.gz", partial(remap, source, {1: 1, 2: 0}, None)) if source else None
        split = published_split(found, testing="test")
        yield Case(case, case, [files.path(found), t1, None, None], label, split, found["site"])


def atlas(files: Files) -> Iterator[Case]:
    """ATLAS 2: ``.../sub-r001s001_ses-1_space-<MNI>_T1w.nii.gz``, ``..._label-L_desc-T1lesion_mask.nii.gz``."""
    space = "space-MNI152NLin2009aSym"
    for found in files.find(rf"(?P<case>(?P<patient>sub-(?P<cohort>r\d+)s\d+)_ses-\d+)_{space}_T1w\.nii(\.gz)?"):
        mask = files.named(f"{found['case']}_{space}_label-L_desc-T1lesion_mask.nii.gz")
        image = [None, files.path(found), None, None]
        yield Case(found["case"], found["patient"], image, mask, domain=found["cohort"])


def open_ms(files: Files) -> Iterator[Case]:
    """Open MS data, cross-sectional: the first existing of ``{MNI,coregistered_resampled,coregistered}/patient01/``."""
    registered = ("FLAIR", "T1W", "T1WKS", "T2W", "consensus_gt")
    end = "_N4_noneck_reduced_winsor_regtoFLAIR"
    brain = [f"{name}{end}_brain_N4_regtoMNI" for name in ("FLAIR", "T1", "T1POST", "T2")]
    variants = [("MNI/", (*brain, f"GOLD_STANDARD{end}_regtoMNI"))]
    variants += [(folder, registered) for folder in ("coregistered_resampled/", "coregistered/", "")]
    for folder, names in variants:
        matches = files.find(rf"{folder}(?P<case>patient\d+)/(patient\d+_)?{names[0]}\.nii\.gz")
        for found in matches:
            case = found["case"]
            *image, mask = (files.volume(found, name, f"{case}_{name}") for name in names)
            for name, path in zip(names, image):
                files.need(path, case, f"{name}.nii.gz")
            yield Case(case, case, image, Conversion(".nii.gz", partial(binary, mask)) if mask else None)
        if matches:
            return


LAYOUTS = [
    Layout(
        "brats2021",
        "BraTS 2018-2021",
        "brainsegdmlf",
        TUMOUR,
        "<case>/<case>_flair.nii.gz",
        "terms of the challenge, registration; do not redistribute",
        "https://www.med.upenn.edu/cbica/brats2021 and https://www.synapse.org",
        brats,
        ("brats",),
        channels=SEQUENCES,
        aliases=("brats2018", "brats2019", "brats2020"),
    ),
    Layout(
        "brats2023",
        "BraTS 2023 and later (adult, meningioma, metastasis, Africa)",
        "brainsegdmlf",
        TUMOUR,
        "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz",
        "terms of the challenge, registration; do not redistribute",
        "https://www.synapse.org/brats2023",
        brats_2023,
        ("brats",),
        channels=SEQUENCES,
        note="the resection cavity (4) of 2024 becomes background; paediatric cases have other values and are left out",
        aliases=("brats2024", "brats2025"),
    ),
    Layout(
        "msd_brain",
        "MSD Task01 brain tumour",
        "brainsegdmlf",
        TUMOUR,
        "imagesTr/BRATS_001.nii.gz",
        "CC BY-SA 4.0",
        "http://medicaldecathlon.com",
        msd,
        ("brats",),
        channels=SEQUENCES,
        aliases=("msd_task01", "task01_braintumour"),
    ),
    Layout(
        "isles2022",
        "ISLES 2022",
        "brainsegdmlf",
        LESION,
        "sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
        "CC BY 4.0",
        "https://isles22.grand-challenge.org",
        isles,
        options="--channels \"['dwi','adc']\"",
        channels=("dwi", "adc"),
        note="FLAIR lies on a grid of its own and is left out; give --channels to evaluate.json and inference.json too",
    ),
    Layout(
        "wmh2017",
        "WMH segmentation challenge 2017",
        "brainsegdmlf",
        LESION,
        "Utrecht/0/pre/FLAIR.nii.gz",
        "terms of the challenge; do not redistribute",
        "https://wmh.isi.uu.nl",
        wmh,
        channels=SEQUENCES,
        note="other pathology (2) is background here; there is no T1 after contrast and no T2",
    ),
    Layout(
        "atlas2",
        "ATLAS 2",
        "brainsegdmlf",
        LESION,
        "sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        "data use agreement, registration; do not redistribute",
        "https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
        atlas,
        channels=SEQUENCES,
        note="T1 only",
    ),
    Layout(
        "open_ms",
        "open MS data (Lesjak 2017), cross-sectional",
        "brainsegdmlf",
        LESION,
        "coregistered/patient01/FLAIR.nii.gz",
        "CC BY 4.0",
        "https://github.com/muschellij2/open_ms_data",
        open_ms,
        channels=SEQUENCES,
        note="the shipped brain weights were trained on patients 07 and 26",
        aliases=("open_ms_data",),
    ),
]
