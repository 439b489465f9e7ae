"""One bundle as a self-contained zip: the same bytes wherever and whenever it is packed.

The collection has one version, ``__version__`` in ``shared/__init__.py``, and every bundle's ``configs/metadata.json``
repeats it. Two releases are told apart by comparing two versions (`shared.options.start_up.check_release`), and a
zip always holds the `shared` of its own version.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import shared
from shared.core.errors import InputError

SHARED = Path(shared.__file__).resolve().parent
# The files that belong to a bundle; `{name}` is its own package. Caches, outputs and phantoms match no pattern.
CONTENT = (
    "LICENSE",
    "configs/*.json",
    "configs/*.conf",
    "docs/*.md",
    "docs/*.txt",
    "docs/*.png",
    "docs/*.jpg",
    "models/*.pt",
    "{name}/**/*.py",
)
SHARED_CONTENT = ("**/*.py", "results/*.html.j2")
REQUIRED = ("LICENSE", "configs/metadata.json", "configs/train.json", "{name}/prepare.py")
MAX_BYTES = 25_000_000  # the Model Zoo's limit for a single file
ENTRY_TIME = (2022, 5, 30, 0, 0, 0)  # time stamp of every entry, as in the Model Zoo's own zips
ENTRY_MODE = 0o100644  # regular file, readable by everyone


def pack(bundle: Path) -> bytes:
    """Return the bytes of a bundle's zip: its own files, and `shared` beside its package.

    Entries are sorted and stored uncompressed, because compression differs between machines.

    Args:
        bundle: the bundle's folder.

    Raises:
        InputError: a required file is missing, versions differ, or the content exceeds 25 MB.
    """
    name = bundle.name
    _check(bundle)
    own = [pattern.format(name=name) for pattern in CONTENT]
    entries = {f"{name}/{relative}": path for relative, path in _files(bundle, own)}
    entries |= {f"{name}/shared/{relative}": path for relative, path in _files(SHARED, SHARED_CONTENT)}
    sizes = {entry: path.stat().st_size for entry, path in entries.items()}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise InputError(
            f"bundle '{name}' holds {sum(sizes.values()) / 1e6:.1f} MB where a zip may have {MAX_BYTES / 1e6:.0f} MB "
            f"({largest}: {sizes[largest] / 1e6:.1f} MB): ship smaller weights, or take files out"
        )
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for entry in sorted(entries):
            info = zipfile.ZipInfo(entry, ENTRY_TIME)
            info.create_system, info.external_attr = 3, ENTRY_MODE << 16  # 3: Unix, also when packed on Windows
            archive.writestr(info, entries[entry].read_bytes())
    return memory.getvalue()


def _files(folder: Path, patterns: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield the relative name and the path of every file below `folder` that matches a pattern, except hidden ones."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            relative = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                yield relative.as_posix(), path


def _check(bundle: Path) -> None:
    """Raise InputError unless the required files exist and the bundle has the collection's version."""
    required = [pattern.format(name=bundle.name) for pattern in REQUIRED]
    missing = [name for name in required if not (bundle / name).is_file()]
    if missing:
        raise InputError(f"bundle '{bundle.name}' lacks {', '.join(missing)}: add what is missing in {bundle}")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    version = metadata.get("version")
    if version != shared.__version__:
        raise InputError(
            f"bundle '{bundle.name}' has version {version}, shared {shared.__version__}: the collection has one "
            "version, set it in shared/__init__.py and in every configs/metadata.json"
        )
    if version not in metadata.get("changelog", {}):
        raise InputError(f"bundle '{bundle.name}': changelog in configs/metadata.json has no entry {version}: add one")
