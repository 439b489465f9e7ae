"""Bundles as one file each: self-contained, and byte for byte the same wherever and whenever they are packed.

The collection has one version, ``__version__`` in ``shared/__init__.py``; every bundle's ``configs/metadata.json`` says
the same. So "another release" is one comparison of two versions (`start_up.check_release`), and no zip of one
version can hold the `shared` of another.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import shared
from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.core.messages import meant

SHARED = Path(shared.__file__).resolve().parent
ROOT = SHARED.parent
# Kinds of files that a bundle holds; `{name}` is the bundle's own package. Caches, outputs and phantoms are of none.
KINDS = (
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
NECESSARY = ("LICENSE", "configs/metadata.json", "configs/train.json", "{name}/prepare.py")
EXPECTED = ("configs/inference.json", "docs/README.md", "models/model.pt")
MAX_BYTES = 25_000_000  # what the Model Zoo takes as a single file
TIME = (2022, 5, 30, 0, 0, 0)  # of every entry, that of the Model Zoo's own zips
MODE = 0o100644  # a plain file that everybody may read


def package(
    names: Sequence[str] = (),
    out: str | os.PathLike | None = None,
    repo: str | None = None,
    bundles: str | os.PathLike | None = None,
) -> list[Path]:
    """Write ``dist/<name>_v<version>.zip`` of each bundle and ``models/model_info.json`` in the Model Zoo's format.

    Args:
        names: bundles; none for all.
        out: folder that gets ``dist`` and ``models``; None for the repository's root, where MONAI's download by tag
            expects ``models/model_info.json``.
        repo: "OWNER/NAME" on GitHub, for the URLs in ``model_info.json``; None takes GITHUB_REPOSITORY, which GitHub's
            machines set. Without either they are plain file names.
        bundles: folder of the bundles; None for that of the repository.

    Returns:
        The paths of the zips.

    Raises:
        InputError: an unknown bundle, a missing file, versions that differ, a zip above 25 MB; then nothing is written.
    """
    folder = Path(bundles) if bundles else ROOT / "bundles"
    target = Path(out) if out else ROOT
    packed = {name: pack(folder / name) for name in _known(names, folder)}
    files = []
    info = {}
    for name, content in packed.items():
        path = target / "dist" / f"{name}_v{shared.__version__}.zip"
        write_atomic(path, content)
        info[path.stem] = {"checksum": hashlib.sha1(content).hexdigest(), "source": _source(path.name, repo)}
        absent = [kind for kind in EXPECTED if not (folder / name / kind).is_file()]
        note = f"  without {', '.join(absent)}" if absent else ""
        print(f"{path}  {len(content) / 1e6:.1f} MB  sha1 {info[path.stem]['checksum']}{note}")
        files.append(path)
    print(_write_info(target / "models" / "model_info.json", info))
    return files


def _known(names: Sequence[str], folder: Path) -> list[str]:
    """Return the names of the bundles to pack."""
    found = sorted(path.parents[1].name for path in folder.glob("*/configs/metadata.json"))
    if not found:
        raise InputError(f"no bundle in {folder}: run this in a checkout of the collection")
    for name in names:
        if name not in found:
            raise InputError(f"no bundle '{name}' in {folder}: {meant(name, found, 'there are ' + ', '.join(found))}")
    return sorted(set(names)) or found


def pack(bundle: Path) -> bytes:
    """Return the bytes of a bundle's zip, entries sorted, stored as they are (compression differs between machines).

    Raises:
        InputError: a missing file, versions that differ, more than 25 MB.
    """
    name = bundle.name
    _check(bundle)
    entries = {f"{name}/{relative}": path for relative, path in _files(bundle, [k.format(name=name) for k in KINDS])}
    entries |= {f"{name}/shared/{relative}": path for relative, path in _files(SHARED, ["**/*.py"])}
    size = {key: path.stat().st_size for key, path in entries.items()}
    if sum(size.values()) > MAX_BYTES:
        largest = max(size, key=size.__getitem__)
        raise InputError(
            f"bundle '{name}' holds {sum(size.values()) / 1e6:.1f} MB where a zip may have {MAX_BYTES / 1e6:.0f} MB "
            f"({largest}: {size[largest] / 1e6:.1f} MB): ship smaller weights, or take files out"
        )
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(entries):
            entry = zipfile.ZipInfo(key, TIME)
            entry.create_system, entry.external_attr = 3, MODE << 16  # Unix, on Windows too
            archive.writestr(entry, entries[key].read_bytes())
    return memory.getvalue()


def _files(folder: Path, patterns: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the files below `folder` that a pattern matches; hidden ones are of no kind."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            relative = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                yield relative.as_posix(), path


def _check(bundle: Path) -> None:
    """Raise InputError unless the necessary files are there and the versions are one."""
    absent = [kind for kind in (k.format(name=bundle.name) for k in NECESSARY) if not (bundle / kind).is_file()]
    if absent:
        raise InputError(f"bundle '{bundle.name}' lacks {', '.join(absent)}: add what is missing in {bundle}")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    version = metadata.get("version")
    if version != shared.__version__:
        raise InputError(
            f"bundle '{bundle.name}' has version {version}, shared {shared.__version__}: the collection has one "
            "version, set it in shared/__init__.py and in every configs/metadata.json"
        )
    if version not in metadata.get("changelog", {}):
        raise InputError(f"bundle '{bundle.name}': changelog in configs/metadata.json has no entry {version}: add one")


def _source(file_name: str, repo: str | None) -> str:
    """Return the URL of a file of the release, or its plain name if no repository is known."""
    repo = repo or os.environ.get("GITHUB_REPOSITORY")
    return f"https://github.com/{repo}/releases/download/v{shared.__version__}/{file_name}" if repo else file_name


def _write_info(path: Path, info: dict[str, dict[str, str]]) -> Path:
    """Write ``model_info.json``: these bundles, and others of this version that it lists already.

    Older versions are left out: each tag has its own file, and MONAI takes the last name in alphabetical order for the
    latest, 0.9.0 after 0.10.0.
    """
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {key: value for key, value in old.items() if key.endswith(f"_v{shared.__version__}")}
    return write_atomic(path, json.dumps(dict(sorted({**kept, **info}.items())), indent=4) + "\n")
