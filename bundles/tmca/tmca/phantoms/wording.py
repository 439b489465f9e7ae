"""The same findings in other words: English names that radiologists use for places and shadows."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import RandomState

from tmca.phantoms.sentence import SIDES, ZONES, Findings, opening, places

THINGS = (
    "opacity", "opacities", "patchy opacities", "ground-glass opacity", "consolidation", "infiltrates", "infection",
    "airspace disease", "pneumonia", "shadowing", "pulmonary infection", "infected areas",
)  # fmt: skip
FRAMES = (
    "{thing} in {places}",
    "{thing} seen in {places}",
    "there is evidence of {thing} in {places}",
    "{places}: {thing}",
)
PARTS = ("lung", "lung", "zone", "field", "lung zone", "lung field", "lobe")
SYNONYMS = {"upper": ("upper", "upper", "apical"), "middle": ("middle", "mid"), "lower": ("lower", "lower", "basal")}
WHOLE = ("the whole {side} lung", "the entire {side} lung", "all zones of the {side} lung")
EVERYWHERE = ("both lungs", "all zones of both lungs", "the whole of both lungs", "both lungs, diffusely")


def reword(findings: Findings, chance: RandomState) -> str:
    """Describe exactly these findings in one of several thousand wordings.

    Args:
        findings: side -> zones; not empty.
        chance: random generator.
    """
    if chance.randint(3) == 0:  # the words of the scheme in either order, or only the places
        said = " and ".join(_either_order(places(findings), chance))
        return f"{opening(findings)}, {said}." if chance.randint(2) else f"{said}."
    sides = [_side(side, findings[side], chance) for side in SIDES if side in findings]
    said = _both(findings, chance) or " and ".join(_either_order(sides, chance))
    if chance.randint(4):
        said = _pick(FRAMES, chance).format(thing=_pick(THINGS, chance), places=said)
    said = said[0].upper() + said[1:] if chance.randint(2) else said
    return said + ("." if chance.randint(3) else "")


def _side(side: str, zones: Sequence[str], chance: RandomState) -> str:
    """Name the zones of one lung."""
    if len(zones) == len(ZONES) and chance.randint(2):
        return _pick(WHOLE, chance).format(side=side)
    named, part = _listed(zones, chance), _pick(PARTS, chance)
    if len(zones) > 1 and part != "lung":
        part += "s"
    ways = [f"the {side} {named} {part}", f"the {named} {side} {part}", f"{side} {named} {part}"]
    ways.append(f"the {named} part of the {side} lung" if "lung" in part else f"the {named} {part} of the {side} lung")
    return _pick(ways, chance)


def _both(findings: Findings, chance: RandomState) -> str:
    """Name the zones of both lungs together; empty if they differ, and in half of the other cases."""
    zones = findings.get("left", ())
    if not zones or zones != findings.get("right") or chance.randint(2):
        return ""
    if len(zones) == len(ZONES):
        return _pick(EVERYWHERE, chance)
    named = _listed(zones, chance)
    return _pick((f"both {named} lungs", f"both {named} lung zones", f"the {named} zones of both lungs"), chance)


def _listed(zones: Sequence[str], chance: RandomState) -> str:
    """List the zones as "upper, mid and lower", or without commas as in the scheme."""
    words = [_pick(SYNONYMS[zone], chance) for zone in zones]
    if chance.randint(3) == 0:
        return " ".join(words)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _either_order(named: list[str], chance: RandomState) -> list[str]:
    return named if chance.randint(2) else named[::-1]


def _pick(ways: Sequence[str], chance: RandomState) -> str:
    return ways[chance.randint(len(ways))]
