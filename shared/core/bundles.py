"""The bundles of a folder: every subfolder with ``configs/metadata.json``. Adding such a folder adds a bundle."""

from __future__ import annotations

import os
from pathlib import Path


def find_bundles(folder: str | os.PathLike) -> dict[str, Path]:
    """Return the bundles in a folder.

    Args:
        folder: the folder that holds the bundles, each in a folder of its own name.

    Returns:
        Every bundle's folder by its name, in alphabetical order.
    """
    found = (file.parents[1] for file in Path(folder).glob("*/configs/metadata.json"))
    return {path.name: path for path in sorted(found)}
