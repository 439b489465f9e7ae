"""Which contrast a series has: tables of words and of times, and how they are weighed.

The times of an acquisition decide where they exclude what the name says; the name decides among the contrasts that the
times allow. Series that no brain network takes as input are recognised first and left aside.

Sources:
    - Ranges of TR, TE and TI: Bernstein, King, Zhou, "Handbook of MRI Pulse Sequences" (2004), chapters 14 and 17;
      "mriquestions.com", pages on T1 and T2 weighting, FLAIR and STIR; wide enough for 0.3 to 7 T.
    - Words of the vendors: the protocol names of Siemens, Philips, GE and Canon; cross-vendor tables of acronyms,
      such as "MRI acronyms" of imaios.com.
    - ImageType, ScanningSequence, AcquisitionContrast: DICOM PS3.3, C.8.3.1 and C.8.13.
    - File names: BIDS 1.9 (suffixes, ``ce-``), BraTS 2023 (t1n, t1c, t2w, t2f), dcm2niix (``_e2``, ``_ph``, ``_ADC``).
    - That a contrast agent in the header is unreliable, and words and times together are not: Gauriau et al., "Using
      DICOM metadata for radiological image series categorization", J Digit Imaging 33 (2020).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from shared.preparation.series import Series, Tags

# what the channels of a network may be called, by contrast
CHANNELS = {
    "flair": ("flair", "t2f", "t2flair", "t2_flair", "fl", "dark_fluid"),
    "t1": ("t1", "t1w", "t1n", "t1pre", "t1native", "mprage"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1post", "t1km", "t1wce", "t1wks", "t1+c", "t1_ce", "t1_post", "t1_gd"),
    "t2": ("t2", "t2w"),
    "pd": ("pd", "pdw"),
}

# what is left aside, by words of the normalised name (see `plain`); B and E stand for the ends of a word
B, E = r"(?<![a-z0-9])", r"(?![a-z0-9])"
DOUBLE_INVERSION, SPINE = "STIR or double inversion recovery", "spine or neck"
ASIDE: tuple[tuple[str, str], ...] = (
    ("localiser", rf"lo[ck]ali[sz]|{B}(survey|scout|locator|smartbrain|3 ?plane|3 ?pl|loc|reperage|ubersicht){E}"),
    ("calibration", rf"calib|ref ?scan|coil ?survey|{B}(shim|cal|b0|b1|fmap|field ?map|field ?mapping){E}"),
    (
        "diffusion",
        rf"diff|trace|tensor|{B}(e?adc|[ie]?dwi|isodwi|dti|colfa|fa(?! ?\d)|ivim|dki|noddi|hardi|b ?1000|b ?0){E}",
    ),
    ("perfusion", rf"perf|{B}(r?e?l?cb[fv]|rcb[fv]|mtt|ttp|tmax|p?c?asl|pcasl|dsc|dce|dyn\w*|t1 ?twist){E}"),
    ("functional", rf"{B}(fmri|bold|rest|resting|task|moco|mocoseries){E}"),
    (
        "susceptibility (T2*)",
        rf"t2 ?\*|t2 ?star|h[ae]+mo|{B}(swi|swip|swan|swim|fsbb|bsi|t2s|qsm|venbold|venobold|medic|merge|t2w? ffe){E}",
    ),
    ("phase image", rf"{B}(pha|ph|phas|phase images?|phase maps?|part phase){E}"),
    (
        "angiography",
        rf"angio|venogr|inhance|carotid|phase contrast|{B}(tof|mra|mrv|cemra|pca|3dpc|twist|tricks|trance|qflow){E}",
    ),
    ("spectroscopy", rf"spectro|{B}(svs|csi|mrs|press|semi ?laser){E}"),
    ("steady state", rf"fiesta|{B}(ciss|trufi|true ?fisp|fisp|b ?ffe|b ?tfe|balanced|ssfp|btfe){E}"),
    ("map of a quantity", rf"{B}((t1|t2|r1|r2|pd) ?\*? ?map(s|ping)?|mapit|t1rho|r2\*?|quant\w*){E}"),
    (DOUBLE_INVERSION, rf"{B}(stir|dir|psir|inv ?1|inv ?2){E}"),
    ("magnetisation transfer", rf"{B}(mt|mtc|mtr|mton|mt ?on|magnetization transfer){E}"),
    ("subtraction", rf"subtr|{B}subs?{E}(?! ?\d)"),
    ("projection", rf"{B}(min ?ip|mip|mips|projection|3d ?vol\w*|vrt|thick mip){E}"),
    (SPINE, r"spine|spinal|wirbel|cervi|lumb|thorac|rachis|medull|\b(hws|bws|lws|neck|hals)\b"),
    (
        "picture, report or other result of processing",
        rf"screen ?s|collage|report|dose (info|record)|key ?image|summary|protocol page"
        rf"|{B}(saved|fused|fusion|color|processed|results?){E}",
    ),
)
OF_THE_HEAD = rf"{B}(head|brain|kopf|schadel|hirn|neuro|cerveau|crane|cerebr\w*){E}"  # may stand beside "neck"
REFORMATTED = rf"reformat|{B}(mprs?|recon\w*|curved|oblique ref|range){E}"
# further words of files that hold no intensities
NOT_INTENSITIES = (
    rf"mask|jacobian|{B}(seg\w*|labels?|lesions?|gt|ground ?truth|consensus|rois?|annot\w*|raters?|manual|prob|pve\w*"
    rf"|aseg|aparc|warp\w*|xfm|deformation|displacement|transform|bias|res?idual|wm|gm|csf|real|imaginary|imag"
    rf"|part ph\w*|magnitude\w*|phasediff){E}"
)

# DICOM's ImageType, values 3 and later, or 1
TYPES: tuple[tuple[str, frozenset[str]], ...] = (
    ("localiser", frozenset(["LOCALIZER"])),
    ("diffusion", frozenset(["ADC", "EADC", "TRACEW", "FA", "DIFFUSION", "TENSOR", "DWI", "B0", "ISO", "AVERAGE DC"])),
    ("perfusion", frozenset(["PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX", "RELCBF", "RELCBV", "ASL"])),
    ("functional", frozenset(["MOSAIC", "FMRI", "MOCO"])),
    (
        "projection or reformatted plane",
        frozenset(["MPR", "CSA MPR", "MIP", "MIN_IP", "MNIP", "MINIP", "PROJECTION IMAGE", "CSA MIP", "REFORMATTED"]),
    ),
    ("subtraction", frozenset(["SUBTRACTION", "SUB", "SUBTRACT"])),
    ("phase or complex image", frozenset(["P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY"])),
    ("fat or opposed phase of Dixon", frozenset(["FAT", "F", "OPP_PHASE", "OUT_PHASE", "OP", "FAT_FRACTION"])),
    (
        "map of a quantity",
        frozenset(["T1 MAP", "T2 MAP", "T2_STAR MAP", "T2* MAP", "R2 MAP", "R2_STAR MAP", "B0 MAP", "PD MAP"]),
    ),
    ("picture, report or other result of processing", frozenset(["SCREEN SAVE", "SCREENSHOT", "REPORT"])),
)
KEPT_TYPES = frozenset(["UNI"])  # MP2RAGE's combined image is derived, and is the T1 image

# contrast words, in the order in which they are tried
FLAIR = rf"flair|dark ?fl|{B}da ?fl|{B}t2f{E}|{B}tirm{E}|{B}flr{E}"
AHEAD = rf"{B}(?:ax|axial|sag|cor|tra|e|s|3d|2d)*"
T1 = rf"{AHEAD}t1(?!\d)|mp2?rage|mp ?rage|bravo|f?spgr|{B}(?:tfl\w*|(?:t1)?tfe|vibe|fl3d\w*|thrive|lava|unit1){E}"
T2 = rf"{AHEAD}t2(?!\d|f{E})"
PD = rf"{AHEAD}pd(?!\d)|proton|densite|{B}dp{E}"
WEAK_T2 = rf"{B}(?:space|spc|cube|vista|brain ?view|frfse|isofse|mvox)"  # T2 unless the name says otherwise
AGENT = r"km|gd|gad|gado\w*|ce|contrast|kontrast\w*|dotarem|gadovist|magnevist|prohance|multihance|clariscan|inj\w*|iv"
WITH_AGENT = (
    rf"{B}(?:{AGENT}|post(?! ?op)|nach(?! op)|apres|enhanced|mit|wks){E}|\+ ?(?:c|k|gd|gad\w*|km|ks){E}|{B}c ?\+"
    rf"|t1w? ?(?:c|ce|gd|gad\w*|km|post|wks|ks|wce|inj\w*){E}"
)
WITHOUT_AGENT = (
    rf"{B}(?:pre(?! ?(?:op|surg))|precontrast|noncontrast|nativ\w*|unenhanced|ohne|sans|without|w o|vor|avant|t1n){E}"
    rf"|{B}(?:non?|kein) ?(?:{AGENT}){E}"
)
MINUS_C = r"(?<![a-z0-9])c ?-(?![a-z0-9])|(?<=\s)-c(?![a-z0-9])"  # of the name as it stands
FAT_SUPPRESSED = rf"{B}(?:fs|fat ?sat\w*|fatsupp?\w*|spir|spair|water|wasser|dixon w|fett\w*){E}"

# contrasts that the times allow, the most likely first
NO_CHANNEL = {"stir": "STIR", "t2star": "T2*-weighted", "pd": "proton density"}


class Verdict(NamedTuple):
    """What a series is.

    Args:
        kind: a key of `CHANNELS`, or None if it is left aside.
        why: the reason, for the table.
        named: the name tells the contrast, not the times alone.
        note: where name and header disagree; else empty.
    """

    kind: str | None
    why: str
    named: bool = False
    note: str = ""


def plain(text: str) -> str:
    """Return a name in lower case, without accents, its words divided by single blanks: ``t1w 3d tfe +c``."""
    letters = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    bare = "".join(sign for sign in letters if not unicodedata.combining(sign)).lower()
    return " ".join(re.sub(r"[^a-z0-9+*]+", " ", bare).split())


def kind_of_channel(channel: str) -> str | None:
    """Return the contrast that a network's channel expects; None if it has a name of its own."""
    name = channel.strip().lower().replace("-", "_")
    return next((kind for kind, names in CHANNELS.items() if name in names), None)


def classify(series: Series, is_file: bool = False) -> Verdict:
    """Tell what a series is; T1 after contrast is ``t1`` here, see `separate_contrast`.

    Args:
        series: the series.
        is_file: it is a file without a DICOM header, whose name may say that it holds no intensities.
    """
    words, tags = plain(series.words), series.tags
    aside = series.not_a_scan or _aside_by_tags(tags) or _aside_by_words(words, tags, is_file) or series.flaw
    if aside:
        return Verdict(None, aside)
    named, allowed = kind_in_words(words), kinds_in_tags(tags)
    times = f"; {tags.times}" if tags.times else ""
    if named and (not allowed or named in allowed):
        return Verdict(named, f"its name{times}", named=True)
    if not allowed:
        return Verdict(None, f"nothing tells its contrast{times}")
    kind = allowed[0]
    if not named:
        return Verdict(_channel(kind), tags.times if _channel(kind) else f"{_other(kind)} ({tags.times})")
    note = f"{series.label} is called {_other(named)}, but {tags.times} make it {_other(kind)}"
    return Verdict(
        _channel(kind), f"{tags.times}, against its name" + ("" if _channel(kind) else f": {_other(kind)}"), note=note
    )


def kind_in_words(words: str) -> str | None:
    """Return the contrast that a normalised name tells, or None; T1-FLAIR is T1."""
    flair, t1, t2, pd = (re.search(pattern, words) is not None for pattern in (FLAIR, T1, T2, PD))
    if flair:
        return "t1" if t1 else "flair"
    found = [kind for kind, is_there in (("t1", t1), ("t2", t2), ("pd", pd)) if is_there]
    if len(found) > 1:
        return None
    weak = re.search(WEAK_T2, words) and not re.search(WITH_AGENT, words)
    return found[0] if found else "t2" if weak else None


def kinds_in_tags(tags: Tags) -> tuple[str, ...]:
    """Return the contrasts that the times of an acquisition allow, the most likely first; empty if they tell nothing.

    | sequence | TR, ms | TE, ms | TI, ms | contrast |
    |---|---|---|---|---|
    | FLAIR | | 60 and more | 1400 to 2950 | flair |
    | inversion recovery, MPRAGE | | below 45 | 300 to 1400 | t1 |
    | STIR | 1500 and more | | below 300 | stir, t2 |
    | any | | up to 6 | | t1 |
    | gradient echo | | up to 8; 12 and more | | t1; t2star |
    | spin echo | up to 1200 | up to 40 | | t1 |
    | spin echo | 1800 and more | up to 50 | | pd, t1 |
    | spin echo | 1800 and more | 60 and more | | t2, flair; flair, t2 if it is inversion recovery |
    """
    stated = {
        "FLUID_ATTENUATED": "flair",
        "T1": "t1",
        "T2": "t2",
        "PROTON_DENSITY": "pd",
        "STIR": "stir",
        "T2_STAR": "t2star",
    }
    if tags.contrast in stated:
        return (stated[tags.contrast],)
    if tags.tr is None or tags.te is None:
        return ()
    tr, te, ti = tags.tr, tags.te, tags.ti
    gradient = "GR" in tags.scanning and "SE" not in tags.scanning
    if ti is not None and not gradient and 1400 <= ti <= 2950 and te >= 60:
        return ("flair",)
    if ti is not None and 300 <= ti < 1400 and te < 45:
        return ("t1",)
    if ti is not None and ti < 300 and tr >= 1500 and not gradient and te > 6:
        return ("stir", "t2")
    if te <= (8 if gradient else 6):
        return ("t1",)
    if gradient:
        return ("t2star",) if te >= 12 else ()
    if tr <= 1200:
        return ("t1",) if te <= 40 else ()
    if tr < 1800:
        return ()
    if te >= 60:
        return ("flair", "t2") if "IR" in tags.scanning else ("t2", "flair")
    return ("pd", "t1") if te <= 50 else ()


def separate_contrast(series: Sequence[Series]) -> list[tuple[bool, str]]:
    """Tell which of the T1 series of one study were acquired after contrast.

    The name decides where it says so. Else a ContrastBolusAgent in the header means after contrast, unless every T1
    series of the study has one and a name says "after" in some of them: then it was entered for the whole examination.

    Returns:
        Of each series: whether it was after contrast, and a note where name and header disagree.
    """
    said = [says_contrast(one) for one in series]
    for_all = len(series) > 1 and all(one.tags.agent for one in series) and True in said
    result = []
    for one, word in zip(series, said):
        agent, note = bool(one.tags.agent), ""
        after = word if word is not None else agent and not for_all
        if word is False and agent:
            note = (
                f"{one.label} has a contrast agent in its header and a name that says before contrast: taken as before"
            )
        elif word is None and agent and for_all:
            note = (
                f"{one.label} counts as before contrast: every T1 series names an agent, other names say after contrast"
            )
        result.append((after, note))
    return result


def says_contrast(series: Series) -> bool | None:
    """Return whether the name says after (True) or before contrast (False); None if it says nothing."""
    words = plain(series.words)
    if re.search(WITHOUT_AGENT, words) or re.search(MINUS_C, series.words.lower()):
        return False
    return True if re.search(WITH_AGENT, words) else None


def is_fat_suppressed(series: Series) -> bool:
    """Return True if the name, or a Dixon image type, says that fat is suppressed."""
    return bool(re.search(FAT_SUPPRESSED, plain(series.words)) or {"WATER", "W"} & set(series.tags.image_type[2:]))


def _aside_by_tags(tags: Tags) -> str:
    if tags.modality not in ("", "MR"):
        return {"CT": "CT, not MR"}.get(tags.modality, f"{tags.modality}, not MR")
    types = set(tags.image_type)
    if types & KEPT_TYPES:
        return ""
    for reason, values in TYPES:
        if types & values:
            return reason
    if tags.image_type[1:2] == ("SECONDARY",):
        return "derived from other series"
    if tags.diffusion or tags.contrast in ("DIFFUSION", "PERFUSION"):
        return "diffusion" if tags.diffusion else tags.contrast.lower()
    if tags.angiography or tags.contrast in ("TOF", "FLOW_ENCODED"):
        return "angiography"
    return ""


def _aside_by_words(words: str, tags: Tags, is_file: bool) -> str:
    flair = re.search(FLAIR, words)
    for reason, pattern in ASIDE:
        excused = (reason == DOUBLE_INVERSION and flair) or (reason == SPINE and re.search(OF_THE_HEAD, words))
        if re.search(pattern, words) and not excused:
            return reason
    if is_file and re.search(NOT_INTENSITIES, words):
        return "a mask or another result, not an image"
    acquired = tags.image_type[:2] == ("ORIGINAL", "PRIMARY")  # Siemens calls MPRAGE mpr
    if re.search(REFORMATTED, words) and not acquired and not (tags.image_type and set(tags.image_type) & KEPT_TYPES):
        return "reformatted from another series"
    if re.match(r"\*?(ci3d|ci2d|tfi|trufi)", tags.sequence_name.lower()):
        return "steady state"
    if "EP" in tags.scanning and not flair:
        return "echo planar, as for diffusion, perfusion or function"
    return ""


def _channel(kind: str) -> str | None:
    return kind if kind in CHANNELS else None


def _other(kind: str) -> str:
    return NO_CHANNEL.get(kind, {"flair": "FLAIR"}.get(kind, kind.upper()))
