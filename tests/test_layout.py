"""The rooms of ``shared``: imports point one way, and no room knows a bundle."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.bundles.running import ROOT

ROOMS = (  # an arrow may point from a room to any that stands after it
    *("serving", "options", "engine", "results", "datasets", "preparation"),
    *("transforms", "io", "backbones", "layers", "core"),
)
STRANGERS = {("engine", "results"), ("results", "engine")}  # rooms that do not know each other
FILES = sorted((ROOT / "shared").rglob("*.py"))
BUNDLES = [path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")]


@cache
def imports(file: Path) -> set[str]:
    """The modules that a file imports anywhere, as full names."""
    package = ".".join(file.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, [home, node.module]))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def room(file: Path) -> str | None:
    parts = file.relative_to(ROOT / "shared").parts
    return parts[0] if len(parts) > 1 else None


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports from)."""
    found = set()
    for file in FILES:
        here = room(file)
        for name in imports(file):
            parts = name.split(".")
            if here and parts[0] == "shared" and len(parts) > 1 and parts[1] in ROOMS and parts[1] != here:
                found.add((here, parts[1]))
    return found


def test_imports_point_down_the_list_of_rooms():
    upward = {(here, there) for here, there in arrows() if ROOMS.index(here) > ROOMS.index(there)}
    assert upward == set()


def test_rooms_that_should_not_know_each_other_do_not():
    assert arrows() & STRANGERS == set()


def test_the_rooms_have_few_connections():
    assert len(arrows()) <= 25
    assert {room(file) for file in FILES} - {None} <= set(ROOMS)


@pytest.mark.parametrize("name", sorted({room(file) for file in FILES} - {None}))
def test_each_room_says_its_rule(name):
    text = ast.get_docstring(ast.parse((ROOT / "shared" / name / "__init__.py").read_text(encoding="utf-8")))
    assert text and text.rstrip().endswith(".")


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_shared_imports_no_bundle(file):
    assert {name.split(".")[0] for name in imports(file)} & {*BUNDLES, "bundles", "tests", "benchmarks"} == set()


def test_no_function_inspects_the_stack():
    code = [*FILES, *ROOT.glob("bundles/*/*/**/*.py"), *ROOT.glob("bundles/*/configs/*.json")]
    pattern = re.compile(r"inspect\.stack|currentframe|_getframe|f_locals|f_back|tb_frame")
    assert [str(path) for path in code if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_no_test_imports_another_test():
    """Makers of data and helpers stand in support modules, whose names do not begin with ``test_``."""
    found = {
        (str(file.relative_to(ROOT)), name)
        for file in (ROOT / "tests").rglob("*.py")
        for name in imports(file)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    }
    assert found == set()
