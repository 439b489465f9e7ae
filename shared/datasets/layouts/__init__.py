"""How public data sets lie on disk, one small file a field; `LAYOUTS` holds them by name."""

from __future__ import annotations

from shared.datasets.layouts import brain, chest, eye, heart
from shared.datasets.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {layout.name: layout for field in (brain, eye, heart, chest) for layout in field.LAYOUTS}
