"""From an empty folder with only a bundle's zip: no repository on the path, every verb."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.bundles.facts import NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_verb(name, release):
    used = release.used(name)
    assert Path(used["shared"]).parents[1] == used["bundle"], "the zip's own shared"
    assert Path(used["package"]).parents[1] == used["bundle"]
    assert (used["here"] / "trained" / "models" / "model.pt").is_file()
    assert used["parameters"] > 10_000
    configs = used["bundle"] / "configs"
    if (configs / "evaluate.json").is_file():
        assert json.loads((used["here"] / "evaluated" / "metrics.json").read_text(encoding="utf-8"))
    if (configs / "inference.json").is_file():
        assert not used["missing"]
        for folder in ("segmented", "flow"):
            (entry,) = json.loads((used["here"] / folder / "predictions.json").read_text(encoding="utf-8"))
            assert "p3" in str(entry["image"])
    untouched = {path.relative_to(used["bundle"].parent).as_posix() for path in used["bundle"].rglob("*.json")}
    assert untouched <= set(zipfile.ZipFile(release.zips[name]).namelist()), "nothing is written into the bundle"
