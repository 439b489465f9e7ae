"""Every bundle that can be trained, as its own tests describe it in `tests/bundles/<name>/facts.py`."""

from __future__ import annotations

from importlib import import_module

from tests.bundles.running import ROOT, Bundle

NAMES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/train.json"))
BUNDLES: dict[str, Bundle] = {name: import_module(f"tests.bundles.{name}.facts").BUNDLE for name in NAMES}
