"""``python -m shared package``: the bundles' zips, and the index in which MONAI's download finds them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import shared
from shared.core.bundles import find_bundles
from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.core.messages import meant
from shared.serving.bundle_zip import SHARED, pack

ROOT = SHARED.parent
EXPECTED = ("configs/inference.json", "docs/README.md", "models/model.pt")  # their absence is reported, not refused


def package(
    names: Sequence[str] = (),
    out: str | os.PathLike | None = None,
    repo: str | None = None,
    bundles: str | os.PathLike | None = None,
) -> list[Path]:
    """Write ``dist/<name>_v<version>.zip`` of each bundle and ``models/model_info.json`` in the Model Zoo's format.

    Args:
        names: bundles; empty for all.
        out: folder that gets ``dist`` and ``models``; None for the repository's root, where MONAI's download by tag
            expects ``models/model_info.json``.
        repo: "OWNER/NAME" on GitHub, for the URLs in ``model_info.json``. None takes the variable GITHUB_REPOSITORY,
            which GitHub's machines set; if that is unset too, the URLs are plain file names.
        bundles: folder of the bundles; None for the repository's.

    Returns:
        The paths of the zips.

    Raises:
        InputError: an unknown bundle, a missing file, versions that differ or a zip above 25 MB. Nothing is written.
    """
    folder = Path(bundles) if bundles else ROOT / "bundles"
    target = Path(out) if out else ROOT
    packed = {name: pack(folder / name) for name in _chosen(names, folder)}
    zips = []
    info = {}
    for name, content in packed.items():
        path = target / "dist" / f"{name}_v{shared.__version__}.zip"
        write_atomic(path, content)
        info[path.stem] = {"checksum": hashlib.sha1(content).hexdigest(), "source": _source(path.name, repo)}
        missing = [file for file in EXPECTED if not (folder / name / file).is_file()]
        note = f"  without {', '.join(missing)}" if missing else ""
        print(f"{path}  {len(content) / 1e6:.1f} MB  sha1 {info[path.stem]['checksum']}{note}")
        zips.append(path)
    print(_write_info(target / "models" / "model_info.json", info))
    return zips


def _chosen(names: Sequence[str], folder: Path) -> list[str]:
    """Return the names of the bundles to pack; InputError for a name that is not in the folder."""
    found = list(find_bundles(folder))
    if not found:
        raise InputError(f"no bundle in {folder}: run this in a checkout of the collection")
    for name in names:
        if name not in found:
            raise InputError(f"no bundle '{name}' in {folder}: {meant(name, found, 'there are ' + ', '.join(found))}")
    return sorted(set(names)) or found


def _source(file_name: str, repo: str | None) -> str:
    """Return the URL of a file of the release, or its plain name if the repository is unknown."""
    repo = repo or os.environ.get("GITHUB_REPOSITORY")
    return f"https://github.com/{repo}/releases/download/v{shared.__version__}/{file_name}" if repo else file_name


def _write_info(path: Path, info: dict[str, dict[str, str]]) -> Path:
    """Write ``model_info.json``: these bundles, and the other bundles of this version that it already lists.

    Entries of older versions are dropped. Each tag has its own file, and MONAI takes the last name in alphabetical
    order for the latest version, so it would prefer 0.9.0 to 0.10.0.
    """
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {key: value for key, value in old.items() if key.endswith(f"_v{shared.__version__}")}
    return write_atomic(path, json.dumps(dict(sorted({**kept, **info}.items())), indent=4) + "\n")
