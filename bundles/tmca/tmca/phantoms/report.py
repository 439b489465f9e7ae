"""The sentence that goes with a mask of lung opacities, in the scheme of QaTa-COV19's text, and the way back.

    bilateral pulmonary infection, three infected areas, middle lower left lung and lower right lung.

"Areas" counts the named zones. "left" is the left of the picture, where one sees the patient's right lung: so it is in
97 % of QaTa's 1,487 one-sided training and validation cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from shared.core.errors import InputError

SIDES = ("left", "right")  # of the picture; in the order of the sentence
ZONES = ("upper", "middle", "lower")
NUMBERS = ("one", "two", "three", "four", "five", "six")
BORDERS = (0.36, 0.55)  # of the lungs' height from the top, between the zones; fitted to QaTa, like the two lines below
COVERAGE = (0.30, 0.85, 0.30)  # share of a zone's height that an area must span to be said to lie there, too
SMALLEST_AREA = 1e-3  # of the picture; what is smaller is not reported

Findings = dict[str, tuple[str, ...]]
"""Side -> its zones from top to bottom; only sides with a finding."""

_ZONES = "((?:upper |middle |lower )+)"
_SENTENCE = re.compile(
    rf"(unilateral|bilateral) pulmonary infection, ({'|'.join(NUMBERS)}) infected areas?, "
    rf"(?:{_ZONES}left lung)?( and )?(?:{_ZONES}right lung)?\."
)


@dataclass(frozen=True)
class LungFrame:
    """Where the lungs stand in a picture, in fractions of its height and width from the top left corner.

    top, bottom: highest and lowest row of either lung; midline: column of the spine.
    """

    top: float = 15 / 224
    bottom: float = 150 / 224
    midline: float = 0.5


QATA_FRAME = LungFrame()  # fitted to pictures of unknown lungs; a mask that reaches beyond it extends it


def write_sentence(findings: Findings) -> str:
    """Say `findings` in one sentence.

    Raises:
        InputError: nothing is found, or a side or a zone is unknown, repeated or out of order.
    """
    for side, zones in findings.items():
        if side not in SIDES or not zones or list(zones) != [zone for zone in ZONES if zone in zones]:
            raise InputError(
                f"no sentence for {findings!r}: sides are {', '.join(SIDES)}, zones {', '.join(ZONES)} in this order"
            )
    if not any(findings.values()):
        raise InputError("no sentence for a picture without findings: the scheme has none")
    return f"{opening(findings)}, {' and '.join(places(findings))}."


def opening(findings: Findings) -> str:
    """Return the sentence's first words: one lung or both, and the number of areas."""
    number = sum(map(len, findings.values()))
    laterality, plural = ("bilateral" if len(findings) == 2 else "unilateral"), ("s" if number > 1 else "")
    return f"{laterality} pulmonary infection, {NUMBERS[number - 1]} infected area{plural}"


def places(findings: Findings) -> list[str]:
    """Return the sentence's places, one a lung, such as "middle lower left lung"; the left one first."""
    return [f"{' '.join(findings[side])} {side} lung" for side in SIDES if side in findings]


def parse(sentence: str) -> Findings:
    """Return the findings that `sentence` names, the inverse of `write_sentence`.

    Raises:
        InputError: the sentence is not in the scheme, or its first words contradict the places that it names.
    """
    match = _SENTENCE.fullmatch(sentence)
    findings = (
        {side: tuple(match[group].split()) for side, group in zip(SIDES, (3, 5)) if match[group]} if match else {}
    )
    try:
        known = write_sentence(findings) == sentence
    except InputError:
        known = False
    if not known:
        raise InputError(
            f"{sentence!r} is not in the scheme of QaTa's reports, such as 'unilateral pulmonary infection, "
            "two infected areas, middle lower left lung.'"
        )
    return findings


def mirror_sentence(text: str) -> str:
    """Return `text` for the picture flipped left to right.

    A sentence of the scheme stays in it (left is said first); in any other text the words left and right change places.
    """
    try:
        findings = parse(text)
    except InputError:
        other = dict(zip(SIDES, SIDES[::-1]))
        words = other | {name.capitalize(): swapped.capitalize() for name, swapped in other.items()}
        return re.sub(rf"\b({'|'.join(words)})\b", lambda word: words[word[0]], text)
    return write_sentence({side: findings[other] for side, other in zip(SIDES, SIDES[::-1]) if other in findings})


def _zones(rows: np.ndarray, top: int, bottom: int) -> set[str]:
    """Zones of one connected area with `rows` (H,) pixels in each row: those it fills, and the one with most of it."""
    ends = np.round(top + (bottom - top) * np.array([0, *BORDERS, 1])).astype(int)
    parts = [rows[start:end] for start, end in zip(ends[:-1], ends[1:])]
    most = int(np.argmax([part.sum() for part in parts]))
    spans = [(part > 0).mean() if part.size else 0.0 for part in parts]
    return {zone for k, zone in enumerate(ZONES) if k == most or spans[k] >= COVERAGE[k]}


def find_areas(mask: np.ndarray, frame: LungFrame = QATA_FRAME) -> Findings:
    """Return the zones that the connected areas of `mask` lie in.

    Args:
        mask: (H, W), what is not zero is infected; rows from top to bottom, as on the screen.
        frame: the lungs in this picture.
    """
    found = np.asarray(mask) != 0
    height, width = found.shape
    filled = np.flatnonzero(found.any(1))
    if not filled.size:
        return {}
    top = min(round(frame.top * height), int(filled[0]))
    bottom = max(round(frame.bottom * height), int(filled[-1]) + 1)
    middle = round(frame.midline * width)
    findings: Findings = {}
    for side, half in zip(SIDES, (found[:, :middle], found[:, middle:])):
        labels, number = ndimage.label(half)
        zones: set[str] = set()
        for area in range(1, number + 1):
            rows = (labels == area).sum(1)
            if rows.sum() >= SMALLEST_AREA * found.size:
                zones |= _zones(rows, top, bottom)
        if zones:
            findings[side] = tuple(zone for zone in ZONES if zone in zones)
    return findings


def describe(mask: np.ndarray, frame: LungFrame = QATA_FRAME) -> str:
    """Return the sentence for `mask`, as `find_areas` sees it.

    Args:
        mask: (H, W), what is not zero is infected.
        frame: the lungs in this picture; without them their usual place in QaTa.

    Raises:
        InputError: the mask is empty or holds specks only: the scheme has no sentence for a healthy lung.
    """
    return write_sentence(find_areas(mask, frame))
