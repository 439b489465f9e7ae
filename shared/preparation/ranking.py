"""Which of several series of one contrast is clearly the better one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shared.preparation.contrasts import Verdict, is_fat_suppressed, says_contrast
from shared.preparation.series import Series

THINNER = 0.75  # of the other's slice thickness
WIDER = 1.25  # times the other's smallest edge of the field of view

Candidate = tuple[Series, Verdict]


def find_best(candidates: Sequence[Candidate]) -> tuple[int | None, str]:
    """Return the place of the series that is clearly better than all others, and what it has; None if there is none.

    Of each pair, the first of `RULES` that tells one from the other decides: a contrast in its name; images as
    acquired, not derived; slices thinner by a quarter; acquired as a volume (3D); no fat suppression; filtered, where
    the scanner kept both (NORM, DIS3D, DIS2D); a field of view wider by a quarter; for FLAIR and T2, before contrast;
    axial slices.
    """
    if len(candidates) == 1:
        return 0, ""
    for place, one in enumerate(candidates):
        reasons = [_better(one, other) for index, other in enumerate(candidates) if index != place]
        if reasons and all(reasons):
            return place, " and ".join(dict.fromkeys(filter(None, reasons)))
    return None, ""


def _better(one: Candidate, other: Candidate) -> str | None:
    """Return what one series has that makes it clearly better than another; None if it is not."""
    for what, rule in RULES:
        if rule(one, other):
            return what
        if rule(other, one):
            return None
    return None


def _more(value: Callable[[Candidate], Any]) -> Callable[..., bool]:
    return lambda one, other: value(one) > value(other)


def _thinner(one: Candidate, other: Candidate) -> bool:
    first, second = one[0].geometry, other[0].geometry
    return bool(first and second and first.thickness <= THINNER * second.thickness)


def _wider(one: Candidate, other: Candidate) -> bool:
    first, second = one[0].geometry, other[0].geometry
    return bool(first and second and first.extent >= WIDER * second.extent)


def _filtered(one: Candidate) -> int:
    """Rank the filters of Siemens, which keeps the images with and without."""
    types = one[0].tags.image_type
    return 4 * ("NORM" in types) + 2 * ("DIS3D" in types) + ("DIS2D" in types)


def _is_before_contrast(one: Candidate) -> bool:
    return one[1].kind in ("flair", "t2") and not (
        says_contrast(one[0]) or (says_contrast(one[0]) is None and one[0].tags.agent)
    )


RULES: tuple[tuple[str, Callable[..., bool]], ...] = (
    ("the contrast in its name", _more(lambda one: one[1].named)),
    ("images as acquired, not derived", _more(lambda one: one[0].tags.image_type[:1] != ("DERIVED",))),
    ("thinner slices", _thinner),
    ("an acquisition in 3D", _more(lambda one: one[0].tags.is_3d is True)),
    ("no fat suppression", _more(lambda one: not is_fat_suppressed(one[0]))),
    ("the scanner's filter", _more(_filtered)),
    ("a wider field of view", _wider),
    ("no contrast agent", _more(_is_before_contrast)),
    ("axial slices", _more(lambda one: one[0].geometry is not None and one[0].geometry.plane == "axial")),
)
