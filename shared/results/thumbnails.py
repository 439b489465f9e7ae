"""Small copies of overlays as data URIs, so that a page shows them without another file."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

WIDTH = 480  # pixels, at most
QUALITY = 72  # of JPEG, see `PIL.Image.Image.save`
KEPT = re.compile(r'data-of="([\w-]+)" width="(\d+)" height="(\d+)" src="(data:image/jpeg;base64,[\w+/=]+)"')


@dataclass(frozen=True)
class Thumbnail:
    """A small picture: `key` names the version of the file that it shows, `uri` holds the JPEG."""

    key: str
    width: int
    height: int
    uri: str


def thumbnail(
    folder: str | os.PathLike, relative: str, kept: Mapping[str, Thumbnail] | None = None
) -> Thumbnail | None:
    """Shrink a picture to at most 480 pixels in width.

    Args:
        folder: folder of the page.
        relative: picture that Pillow reads, relative to it.
        kept: thumbnails of an earlier page by their key, which are used again for pictures that did not change.

    Returns:
        The thumbnail, or None where the file is missing or is not a picture.

    """
    try:
        path = Path(folder, relative)
        state = path.stat()
        name = hashlib.sha256(os.fsencode(relative)).hexdigest()[:16]
        key = f"{name}-{state.st_size}-{state.st_mtime_ns}"
        return (kept or {}).get(key) or _shrunk(path, key)
    except (OSError, ValueError):  # Pillow's own errors are OSErrors
        return None


def kept_thumbnails(page: str | os.PathLike) -> dict[str, Thumbnail]:
    """Return the thumbnails of a page that was written before, by their key; empty without such a page."""
    try:
        text = Path(page).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    return {key: Thumbnail(key, int(width), int(height), uri) for key, width, height, uri in KEPT.findall(text)}


def _shrunk(path: Path, key: str) -> Thumbnail:
    memory = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((WIDTH, 2 * WIDTH), reducing_gap=2.0)
        small.save(memory, "JPEG", quality=QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(memory.getvalue()).decode("ascii")
    return Thumbnail(key, small.width, small.height, uri)
