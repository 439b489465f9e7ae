"""Descriptions and times as scanners and exports write them, with the right answer beside each."""

from __future__ import annotations

import pytest

from shared.preparation.contrasts import classify, kind_in_words, kind_of_channel, separate_contrast
from shared.preparation.series import Series, Tags, to_number

SE, GR, IR, EP = (frozenset(words.split()) for words in ("SE", "GR", "SE IR", "EP"))
GR_IR = frozenset(["GR", "IR"])
ORIGINAL = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
DERIVED = ("DERIVED", "SECONDARY", "MPR", "CSA MPR")
PRIMARY = ("ORIGINAL", "PRIMARY", "OTHER")


def one(words: str, tr=None, te=None, ti=None, scanning=frozenset(), types=ORIGINAL, **tags) -> Series:
    made = Tags("MR", types, scanning=scanning, tr=tr, te=te, ti=ti, **tags)
    return Series(name=words, words=words, files=(), path=None, tags=made)


# description, TR, TE, TI, ScanningSequence, ImageType, what it is (None: left aside)
SIEMENS = [
    ("localizer", 8.6, 4, None, GR, ORIGINAL, None),
    ("AAHead_Scout_64ch-head-coil", 3.15, 1.37, None, GR, ORIGINAL, None),
    ("t2_tirm_tra_dark-fluid", 9000, 86, 2500, IR, ORIGINAL, "flair"),
    ("t2_tirm_tra_dark-fluid_fs_4mm", 9000, 81, 2500, IR, ORIGINAL, "flair"),
    ("t2_spc_da-fl_sag_p2_iso_1.0", 5000, 388, 1800, IR, ORIGINAL, "flair"),
    ("t2_space_dark-fluid_sag_p2_ns-t2prep", 5000, 393, 1600, IR, ORIGINAL, "flair"),
    ("FLAIR_tra", 8000, 119, 2370, IR, ORIGINAL, "flair"),
    ("t1_mprage_sag_p2_iso", 2300, 2.98, 900, GR_IR, ORIGINAL, "t1"),
    ("t1_mpr_ns_sag_p2_iso", 1900, 2.52, 900, GR_IR, ORIGINAL, "t1"),
    ("t1_mprage_sag_p2_iso_MPR_tra", 2300, 2.98, 900, GR_IR, DERIVED, None),
    ("t1_mprage_sag_p2_iso_KM", 2300, 2.98, 900, GR_IR, ORIGINAL, "t1ce"),
    ("t1_tse_tra_fs_KM", 700, 10, None, SE, ORIGINAL, "t1ce"),
    ("t1_se_tra nach KM", 500, 7.8, None, SE, ORIGINAL, "t1ce"),
    ("t1_se_tra nativ", 500, 7.8, None, SE, ORIGINAL, "t1"),
    ("t1_fl2d_tra ohne KM", 250, 2.5, None, GR, ORIGINAL, "t1"),
    ("t1_vibe_tra_fs_post Gd", 5.2, 2.5, None, GR, ORIGINAL, "t1ce"),
    ("t1_space_sag_p2_iso", 700, 11, None, SE, ORIGINAL, "t1"),
    ("t2_tse_tra_512", 6000, 99, None, SE, ORIGINAL, "t2"),
    ("t2_space_sag_p2_iso", 3200, 408, None, SE, ORIGINAL, "t2"),
    ("t2_blade_tra", 4000, 117, None, SE, ORIGINAL, "t2"),
    ("pd+t2_tse_tra_p2", 3000, 12, None, SE, ORIGINAL, "pd"),
    ("pd+t2_tse_tra_p2", 3000, 96, None, SE, ORIGINAL, "t2"),
    ("t2_tirm_cor_fs", 5000, 40, 150, IR, ORIGINAL, None),
    ("t2_fl2d_tra_hemo", 800, 20, None, GR, ORIGINAL, None),
    ("SWI_Images", 28, 20, None, GR, ORIGINAL, None),
    ("Pha_Images", 28, 20, None, GR, ("ORIGINAL", "PRIMARY", "P", "ND"), None),
    ("mIP_Images(SW)", 28, 20, None, GR, ORIGINAL, None),
    ("ep2d_diff_3scan_trace_p2_TRACEW", 6000, 90, None, EP, ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"), None),
    ("ep2d_diff_3scan_trace_p2_ADC", 6000, 90, None, EP, ("DERIVED", "PRIMARY", "DIFFUSION", "ADC"), None),
    ("ep2d_perf_p2", 1500, 30, None, EP, ORIGINAL, None),
    ("TOF_3D_multi-slab", 21, 3.4, None, GR, ORIGINAL, None),
    ("t1_mp2rage_sag_p3_iso_INV1", 5000, 2.98, 700, GR_IR, ORIGINAL, None),
    ("t1_mp2rage_sag_p3_iso_UNI_Images", 5000, 2.98, 700, GR_IR, ("DERIVED", "PRIMARY", "M", "UNI"), "t1"),
    ("t2_space_dir_sag_p2_iso", 7500, 325, 3000, IR, ORIGINAL, None),
    ("t2_tse_sag HWS", 3500, 100, None, SE, ORIGINAL, None),
]
PHILIPS = [
    ("Survey", 11, 4.6, None, GR, PRIMARY, None),
    ("T2W_TSE_ax", 3000, 80, None, SE, ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"), "t2"),
    ("T2W_FLAIR_ax", 11000, 125, 2800, IR, ("ORIGINAL", "PRIMARY", "M_IR", "M", "IR"), "flair"),
    ("sFLAIR_3D VIEW", 4800, 289, 1650, IR, ("ORIGINAL", "PRIMARY", "M_IR", "M", "IR"), "flair"),
    ("3D_Brain_VIEW_FLAIR_SHC", 4800, 340, 1650, IR, ("ORIGINAL", "PRIMARY", "M_IR", "M", "IR"), "flair"),
    ("VISTA FLAIR", 4800, 280, None, IR, ("ORIGINAL", "PRIMARY", "M_IR", "M", "IR"), "flair"),
    ("sT1W_3D_TFE", 8.1, 3.7, None, GR, ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"), "t1"),
    ("T1W_3D_TFE +GADO", 8.1, 3.7, None, GR, ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"), "t1ce"),
    ("T1W_SE GADO", 450, 15, None, SE, ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"), "t1ce"),
    ("T1 TSE SANS INJECTION", 600, 10, None, SE, PRIMARY, "t1"),
    ("AX T1 APRÈS INJ", 600, 10, None, SE, PRIMARY, "t1ce"),
    ("T2W_FFE_ax", 700, 23, None, GR, ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"), None),
    ("DWI_b1000_iso", 3500, 80, None, EP, PRIMARY, None),
    ("dDWI_ADC", 3500, 80, None, EP, ("DERIVED", "SECONDARY", "ADC"), None),
    ("s3DI_MC_HR TOF", 25, 3.5, None, GR, PRIMARY, None),
    ("3D_DRIVE_CLEAR T2 bFFE IAC", 6, 3, None, GR, PRIMARY, None),
    ("T1W_IR_TSE Reformat ax", 2000, 20, 400, IR, ("DERIVED", "SECONDARY"), None),
]
GE = [
    ("3-Pl T2* FGRE S", 5, 1.5, None, GR, PRIMARY, None),
    ("3Plane Loc SSFSE", 1000, 80, None, SE, PRIMARY, None),
    ("ASSET calibration", 150, 2, None, GR, PRIMARY, None),
    ("Ax T2 FLAIR", 9000, 120, 2250, IR, PRIMARY, "flair"),
    ("Ax T1 FLAIR", 2500, 24, 860, IR, PRIMARY, "t1"),
    ("Ax T1 FLAIR +C", 2500, 24, 860, IR, PRIMARY, "t1ce"),
    ("Sag CUBE T2 FLAIR ARC", 6000, 115, 1850, IR, PRIMARY, "flair"),
    ("Sag 3D T1 BRAVO", 8.2, 3.2, 450, GR_IR, PRIMARY, "t1"),
    ("BRAVO +C", 8.2, 3.2, 450, GR_IR, PRIMARY, "t1ce"),
    ("AX FSPGR 3D POST", 8.5, 3.3, 450, GR_IR, PRIMARY, "t1ce"),
    ("Ax T2 PROPELLER", 5000, 100, None, SE, PRIMARY, "t2"),
    ("AX T2 FRFSE ASSET", 4000, 102, None, SE, PRIMARY, "t2"),
    ("CUBE T2", 2500, 90, None, SE, PRIMARY, "t2"),
    ("3D T1 C-", 600, 12, None, SE, PRIMARY, "t1"),
    ("Ax T1 -C", 600, 12, None, SE, PRIMARY, "t1"),
    ("CUBE T1 C+", 600, 12, None, SE, PRIMARY, "t1ce"),
    ("Ax SWAN", 40, 24, None, GR, PRIMARY, None),
    ("Ax DWI Asset", 8000, 80, None, EP, PRIMARY, None),
    ("Apparent Diffusion Coefficient (mm2/s)", 8000, 80, None, EP, ("DERIVED", "SECONDARY", "ADC"), None),
    ("FIESTA IAC", 5, 2, None, GR, PRIMARY, None),
    ("Ax GRE T2*", 500, 15, None, GR, PRIMARY, None),
]
CANON = [
    ("Locator", 6, 3, None, GR, PRIMARY, None),
    ("FLAIR AX", 10000, 105, 2600, IR, PRIMARY, "flair"),
    ("T2 FSE2D AX", 4300, 105, None, SE, PRIMARY, "t2"),
    ("T1 SE AX CE", 540, 15, None, SE, PRIMARY, "t1ce"),
    ("3D MPRAGE", 7.5, 3.2, 900, GR_IR, PRIMARY, "t1"),
    ("FSBB AX", 35, 20, None, GR, PRIMARY, None),
]
# without a word that helps: the times alone
TIMES = [
    ("Serie 4", 9000, 110, 2500, IR, PRIMARY, "flair"),
    ("Serie 5", 550, 12, None, SE, PRIMARY, "t1"),
    ("Serie 6", 4500, 100, None, SE, PRIMARY, "t2"),
    ("Serie 7 Gadolinium", 550, 12, None, SE, PRIMARY, "t1ce"),
    ("Serie 8", 1500, 50, None, SE, PRIMARY, None),
]
ROWS = [*SIEMENS, *PHILIPS, *GE, *CANON, *TIMES]


def kind(series: Series, is_file: bool = False) -> str | None:
    found = classify(series, is_file).kind
    return "t1ce" if found == "t1" and separate_contrast([series])[0][0] else found


@pytest.mark.parametrize(
    "words, tr, te, ti, scanning, types, expected",
    ROWS,
    ids=[f"{number}-{row[0]}"[:40] for number, row in enumerate(ROWS)],
)
def test_a_series_is_recognised(words, tr, te, ti, scanning, types, expected):
    series = one(words, tr, te, ti, scanning, types)
    assert kind(series) == expected, classify(series)


def test_the_table_is_long_enough():
    assert len({row[0] for row in ROWS}) >= 60


NAMES = {
    "t1n": "t1",
    "t1c": "t1ce",
    "t2w": "t2",
    "t2f": "flair",
    "T1W_3D_TFE": "t1",
    "T2_FLAIR_TSE": "flair",
    "MPRAGE_post_KM": "t1ce",
    "tirm_dark-fluid": "flair",
    "BRAVO": "t1",
    "SPACE": "t2",
    "CUBE": "t2",
    "SPACE_KM": None,
    "acq-mprage_ce-gadolinium_T1w": "t1ce",
    "T1post": "t1ce",
    "t1gd": "t1ce",
    "T1ce": "t1ce",
    "T1wKS": "t1ce",
    "t1_pre": "t1",
    "T1_preop": "t1",
    "FLAIR_postop": "flair",
    "3DT1": "t1",
    "Ax_T2": "t2",
    "PDw": "pd",
    "T2starw": None,
    "T1map": None,
    "dwi": None,
    "T1w_ph": None,
    "brain_mask": None,
    "FLAIR_seg": None,
    "T1_to_MNI_warp": None,
    "gt": None,
    "1_lesion": None,
    "aseg": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_recognised_by_its_name(name):
    assert kind(Series(name=name, words=name, files=(), path=None), is_file=True) == NAMES[name]


def test_times_beat_the_name_and_the_verdict_says_so():
    verdict = classify(one("T1 tra", 9000, 110, 2500, IR))
    assert verdict.kind == "flair" and "called T1, but TR 9000, TE 110, TI 2500 ms make it FLAIR" in verdict.note
    assert classify(one("T2 tra", 550, 12, None, SE)).kind == "t1"


def test_long_times_without_inversion_leave_flair_and_t2_to_the_name():
    assert classify(one("FLAIR", 9000, 110)).kind == "flair"
    assert classify(one("Serie 3", 9000, 110)).kind == "t2"
    assert not classify(one("FLAIR", 9000, 110)).note


def test_an_inversion_time_of_zero_is_none():
    assert [to_number(value) for value in (0, "0", "", None, "x", "nan", "2500")] == [None] * 6 + [2500]


def test_a_named_contrast_decides_before_the_header():
    (after, note), (other, _) = separate_contrast([one("T1 ohne KM", agent="Gadovist"), one("T1 KM")])
    assert (after, other) == (False, True) and "taken as before" in note


def test_an_agent_in_the_header_means_after_contrast():
    assert [after for after, _ in separate_contrast([one("T1 ax", agent="Dotarem"), one("T1 sag")])] == [True, False]


def test_an_agent_in_every_header_says_nothing():
    found = separate_contrast([one("T1 ax", agent="Dotarem"), one("T1 ax +C", agent="Dotarem")])
    assert [after for after, _ in found] == [False, True] and "every T1 series names an agent" in found[0][1]


@pytest.mark.parametrize("modality, words", [("CT", "CT, not MR"), ("PT", "PT, not MR")])
def test_other_modalities_are_left_aside(modality, words):
    assert classify(Series("x", "T1", (), None, tags=Tags(modality))).why == words


def test_channels_have_synonyms():
    names = ["FLAIR", "t1", "T1Gd", "t1c", "t2w", "t2f", "t1n", "pd", "dwi"]
    assert [kind_of_channel(name) for name in names] == ["flair", "t1", "t1ce", "t1ce", "t2", "flair", "t1", "pd", None]


def test_a_neck_beside_the_head_is_no_spine():
    assert classify(one("T2 Head Neck", 5000, 100, None, SE)).kind == "t2"
    assert classify(one("T2 Neck", 5000, 100, None, SE)).why == "spine or neck"


def test_two_contrasts_in_one_name_tell_none():
    assert kind_in_words("t1 t2 registered") is None
