"""Sentences in the scheme of QaTa-COV19: describe a mask of lung opacities, and read the findings from a sentence.

    bilateral pulmonary infection, three infected areas, middle lower left lung and lower right lung.

The number of areas is the number of named zones. "left" is the left of the picture, the patient's right: this holds in
97 % of QaTa's 1,487 one-sided training and validation cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from shared.core.errors import InputError

SIDES = ("left", "right")  # of the picture, in the order of the sentence
ZONES = ("upper", "middle", "lower")
NUMBERS = ("one", "two", "three", "four", "five", "six")
# Fitted to the sentences of QaTa:
BORDERS = (0.36, 0.55)  # between the zones, in heights of the lungs from the top
COVERAGE = (0.30, 0.85, 0.30)  # share of a zone's height from which an area is said to lie in it too
SMALLEST_AREA = 1e-3  # share of the picture from which an area is reported

Findings = dict[str, tuple[str, ...]]
"""Side -> zones from top to bottom, for sides with a finding."""

_ZONES = "((?:upper |middle |lower )+)"
_SENTENCE = re.compile(
    rf"(unilateral|bilateral) pulmonary infection, ({'|'.join(NUMBERS)}) infected areas?, "
    rf"(?:{_ZONES}left lung)?( and )?(?:{_ZONES}right lung)?\."
)


@dataclass(frozen=True)
class LungFrame:
    """Position of the lungs, in fractions of the picture's height and width from the top left corner.

    Attributes:
        top, bottom: highest and lowest row of both lungs.
        midline: column of the spine.
    """

    top: float = 15 / 224
    bottom: float = 150 / 224
    midline: float = 0.5


QATA_FRAME = LungFrame()  # fitted to masks, as QaTa has no lung masks; a mask that reaches further extends it


def write_sentence(findings: Findings) -> str:
    """Write `findings` as a sentence.

    Raises:
        InputError: there are no findings, or a side or a zone is unknown, repeated or out of order.
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
    """Return the first half of the sentence: one lung or both, and the number of areas."""
    number = sum(map(len, findings.values()))
    laterality, plural = ("bilateral" if len(findings) == 2 else "unilateral"), ("s" if number > 1 else "")
    return f"{laterality} pulmonary infection, {NUMBERS[number - 1]} infected area{plural}"


def places(findings: Findings) -> list[str]:
    """Return the places of the sentence, such as "middle lower left lung": one per lung, the left one first."""
    return [f"{' '.join(findings[side])} {side} lung" for side in SIDES if side in findings]


def parse(sentence: str) -> Findings:
    """Return the findings that `sentence` names; inverse of `write_sentence`.

    Raises:
        InputError: the sentence is not in the scheme, or its first half contradicts its places.
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
    """Return the text for the picture flipped left to right.

    A sentence of the scheme stays in the scheme. In any other text the words "left" and "right" are exchanged.
    """
    try:
        findings = parse(text)
    except InputError:
        other = dict(zip(SIDES, SIDES[::-1]))
        words = other | {name.capitalize(): swapped.capitalize() for name, swapped in other.items()}
        return re.sub(rf"\b({'|'.join(words)})\b", lambda word: words[word[0]], text)
    return write_sentence({side: findings[other] for side, other in zip(SIDES, SIDES[::-1]) if other in findings})


def _zones(rows: np.ndarray, top: int, bottom: int) -> set[str]:
    """Return the zones of one connected area from its pixels per row (H,): those it spans and its main one."""
    ends = np.round(top + (bottom - top) * np.array([0, *BORDERS, 1])).astype(int)
    parts = [rows[start:end] for start, end in zip(ends[:-1], ends[1:])]
    most = int(np.argmax([part.sum() for part in parts]))
    spans = [(part > 0).mean() if part.size else 0.0 for part in parts]
    return {zone for k, zone in enumerate(ZONES) if k == most or spans[k] >= COVERAGE[k]}


def find_areas(mask: np.ndarray, frame: LungFrame = QATA_FRAME) -> Findings:
    """Return the zones that contain the connected areas of `mask`.

    Args:
        mask: (H, W), non-zero where infected; rows run from top to bottom, as on the screen.
        frame: position of the lungs in this picture.
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
    """Return the sentence for the areas that `find_areas` finds in `mask`.

    Args:
        mask: (H, W), non-zero where infected.
        frame: position of the lungs in this picture; by default their usual position in QaTa.

    Raises:
        InputError: no area is large enough to report; the scheme has no sentence for healthy lungs.
    """
    return write_sentence(find_areas(mask, frame))
