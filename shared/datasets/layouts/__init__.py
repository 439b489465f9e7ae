"""How public data sets lie on disk, one file per organ; `LAYOUTS` holds them by name."""

from __future__ import annotations

from shared.datasets.layouts import brain, chest, eye, heart
from shared.datasets.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {layout.name: layout for organ in (brain, eye, heart, chest) for layout in organ.LAYOUTS}
