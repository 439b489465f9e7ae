"""A bundle's zip: what it holds, that its bytes are always the same, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

import shared
from shared.core.errors import InputError
from shared.serving.packaging import package
from tests.warm import run_code, run_module

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundles(tmp_path) -> Path:
    """A folder with one small bundle and files of every kind that its zip leaves out."""
    bundle = tmp_path / "bundles" / "toy"
    metadata = {"version": shared.__version__, "changelog": {shared.__version__: "first"}}
    texts = {
        "LICENSE": "Apache-2.0",
        "configs/metadata.json": json.dumps(metadata),
        "configs/train.json": "{}",
        "configs/logging.conf": "",
        "docs/README.md": "# toy",
        "models/model.pt": "weights",
        "toy/__init__.py": "",
        "toy/prepare.py": "",
        "toy/parts/__init__.py": "",
        "toy/__pycache__/prepare.cpython-312.pyc": "cache",
        "toy/.hidden.py": "",
        "data/phantoms/dataset.json": "{}",
        "output/train/models/model.pt": "mine",
        "models/model.ts": "",
        "notes.txt": "",
        "configs/mine.yaml": "",
    }
    for name, text in texts.items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text(text, encoding="utf-8")
    return bundle.parent


def test_zip_holds_the_bundle_and_shared_and_nothing_else(bundles, tmp_path):
    (path,) = package(["toy"], out=tmp_path, bundles=bundles)
    assert path == tmp_path / "dist" / f"toy_v{shared.__version__}.zip"
    names = zipfile.ZipFile(path).namelist()
    assert names == sorted(names) and all(name.startswith("toy/") for name in names)
    own = [name.removeprefix("toy/") for name in names if not name.startswith("toy/shared/")]
    assert own == [
        "LICENSE",
        "configs/logging.conf",
        "configs/metadata.json",
        "configs/train.json",
        "docs/README.md",
        "models/model.pt",
        "toy/__init__.py",
        "toy/parts/__init__.py",
        "toy/prepare.py",
    ]
    files = [*(ROOT / "shared").rglob("*.py"), ROOT / "shared" / "results" / "report_page.html.j2"]
    sources = {f"toy/{path.relative_to(ROOT).as_posix()}" for path in files}
    assert {name for name in names if name.startswith("toy/shared/")} == sources


def test_bytes_depend_on_no_time_mode_or_folder(bundles, tmp_path):
    first = package(out=tmp_path / "a", bundles=bundles)[0].read_bytes()
    copy = tmp_path / "elsewhere"
    shutil.copytree(bundles, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (10**9, 10**9))
    script = (
        f"from shared.serving.packaging import package; package(out={str(tmp_path / 'b')!r}, bundles={str(copy)!r})"
    )
    done = run_code(script, cwd=ROOT, environment=os.environ)
    assert done.returncode == 0, done.stderr
    second = (tmp_path / "b" / "dist" / f"toy_v{shared.__version__}.zip").read_bytes()
    assert first == second
    assert "did you mean" in run_module("shared", "package", "emclp", cwd=ROOT, environment=os.environ).stderr


def test_index_has_the_model_zoos_format(bundles, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    info = tmp_path / "models" / "model_info.json"
    info.parent.mkdir()
    others = {f"other_v{shared.__version__}": {"checksum": "1", "source": "u"}, "toy_v0.0.9": {}}
    info.write_text(json.dumps(others), encoding="utf-8")
    (path,) = package(out=tmp_path, repo="owner/name", bundles=bundles)
    found = json.loads(info.read_text(encoding="utf-8"))
    assert list(found) == [f"other_v{shared.__version__}", path.stem], "those of this version, no older ones"
    assert found[path.stem] == {
        "checksum": hashlib.sha1(path.read_bytes()).hexdigest(),
        "source": f"https://github.com/owner/name/releases/download/v{shared.__version__}/{path.name}",
    }
    package(out=tmp_path, bundles=bundles)
    assert json.loads(info.read_text(encoding="utf-8"))[path.stem]["source"] == path.name
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    package(out=tmp_path, bundles=bundles)
    assert "github.com/a/b/" in json.loads(info.read_text(encoding="utf-8"))[path.stem]["source"]


def say_version(bundle: Path, **metadata) -> None:
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")


@pytest.mark.parametrize(
    "spoil, names, parts",
    [
        (lambda b: shutil.rmtree(b), [], ["no bundle in", "checkout"]),
        (lambda b: (b / "LICENSE").unlink(), [], ["'toy' lacks LICENSE"]),
        (lambda b: shutil.rmtree(b / "toy"), [], ["lacks toy/prepare.py"]),
        (lambda b: say_version(b, version="9.9.9"), [], ["version 9.9.9", shared.__version__, "one version"]),
        (lambda b: say_version(b, version=shared.__version__), [], ["changelog", "no entry"]),
        (
            lambda b: (b / "models" / "model.pt").write_bytes(bytes(25_000_000)),
            [],
            ["MB where a zip may have 25 MB", "toy/models/model.pt: 25.0 MB"],
        ),
    ],
)
def test_refused_in_one_line(bundles, tmp_path, spoil, names, parts):
    spoil(bundles / "toy")
    with pytest.raises(InputError) as error:
        package(names, out=tmp_path / "out", bundles=bundles)
    message = str(error.value)
    assert "\n" not in message and not (tmp_path / "out").exists()
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()))
def test_a_real_bundles_zip_is_small_enough(name, tmp_path):
    if not (ROOT / "bundles" / name / "configs" / "train.json").is_file():
        pytest.skip("not finished")
    (path,) = package([name], out=tmp_path)
    assert path.stat().st_size <= 25_000_000
