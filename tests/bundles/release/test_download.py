"""`python -m monai.bundle download` of a release, by URL and from GitHub; the server is our own, on loopback."""

from __future__ import annotations

import functools
import json
import re
import runpy
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from monai.bundle import get_all_bundles_list, scripts

import shared
from tests.bundles.facts import BUNDLES, NAMES
from tests.bundles.release.helpers import SEVERAL, Release, python
from tests.bundles.running import environment
from tests.warm import run_module

REPO, TAG = "owner/name", f"v{shared.__version__}"
Download = Callable[..., Path]


class Quiet(SimpleHTTPRequestHandler):
    """A folder over HTTP, without a line a request."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(release: Release, tmp_path_factory) -> Iterator[str]:
    """The address of a server with the files of the release, where GitHub has them."""
    folder = tmp_path_factory.mktemp("site")
    for source, target in (("dist", f"{REPO}/releases/download/{TAG}"), ("models", f"{REPO}/{TAG}/models")):
        shutil.copytree(release.folder / source, folder / target)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def download(site: str, tmp_path, monkeypatch) -> Download:
    """MONAI's own command in this process, GitHub's addresses replaced; it returns the folder of the bundles."""
    get = scripts.requests.get
    names = ("repo_owner", "repo_name", "tag_name", "filename")
    address = "{}/{}/{}/releases/download/{}/{}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(
        scripts,
        "_get_git_release_url",
        lambda *values, **named: address.format(site, *values, *(named[name] for name in names if name in named)),
    )
    raw = "https://raw.githubusercontent.com"
    monkeypatch.setattr(scripts.requests, "get", lambda url, **options: get(url.replace(raw, site), **options))

    def run(*arguments: str) -> Path:
        words = ["download", *arguments, "--bundle_dir", str(tmp_path / "downloaded"), "--progress", "false"]
        monkeypatch.setattr(sys, "argv", ["monai.bundle", *words])
        runpy.run_module("monai.bundle", run_name="__main__")
        return tmp_path / "downloaded"

    return run


def assert_whole(bundle: Path, archive: Path) -> None:
    """Every file of the zip is in the folder as it was packed."""
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.namelist():
            assert (bundle.parent / entry).read_bytes() == packed.read(entry)


@pytest.mark.parametrize("version", [[], ["--version", shared.__version__]], ids=["latest", "version"])
@pytest.mark.parametrize("name", NAMES)
def test_from_github(name, version, release, download):
    folder = download("--name", name, *version, "--source", "github", "--repo", f"{REPO}/{TAG}")
    assert_whole(folder / name, release.zips[name])


def test_github_lists_the_bundles(download):
    assert get_all_bundles_list(repo=REPO, tag=TAG) == [(name, shared.__version__) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_from_a_url(name, release, site, download):
    url = f"{site}/{REPO}/releases/download/{TAG}/{release.zips[name].name}"
    assert_whole(download("--name", name, "--url", url) / name, release.zips[name])


@pytest.mark.slow
def test_from_a_url_in_a_process_of_its_own(release, site, tmp_path):
    name = NAMES[0]
    url = f"{site}/{REPO}/releases/download/{TAG}/{release.zips[name].name}"
    words = ["download", "--name", name, "--url", url, "--bundle_dir", "."]
    done = run_module("monai.bundle", *words, cwd=tmp_path, environment=environment() | {"NO_PROXY": "127.0.0.1"})
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path / name, release.zips[name])


@pytest.mark.slow
def test_downloaded_bundles_segment_in_one_process_but_no_two_releases_do(release, download, tmp_path):
    """All bundles of one release share one process; a bundle of another release is refused in one line."""
    ready = [
        name for name in NAMES if f"{name}/configs/inference.json" in zipfile.ZipFile(release.zips[name]).namelist()
    ]
    bundles = {}
    for name in ready:
        folder = download("--name", name, "--source", "github", "--repo", f"{REPO}/{TAG}")
        weights = folder / name / "models"
        if not (weights / "model.pt").is_file():  # none is shipped yet
            weights = release.used(name)["here"] / "trained" / "models"
        bundles[name] = [str(folder / name), str(release.data(name)), str(weights), BUNDLES[name].size]
    later = tmp_path / "later" / ready[0]
    shutil.copytree(tmp_path / "downloaded" / ready[0], later)
    start = later / "shared" / "__init__.py"
    start.write_text(
        re.sub(re.escape(shared.__version__), "9.0.0", start.read_text(encoding="utf-8")), encoding="utf-8"
    )
    here = tmp_path / "here"
    ran = python(SEVERAL, bundles, str(later / "configs" / "inference.json"), cwd=here)
    assert (here / "found.json").is_file(), ran.stdout + ran.stderr
    for name, (module, file) in json.loads((here / "found.json").read_text(encoding="utf-8")).items():
        assert module == f"{name}.network" and Path(file).parents[1] == tmp_path / "downloaded" / name
        assert len(json.loads((here / name / "predictions.json").read_text(encoding="utf-8"))) == 1
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    for part in ("shared 9.0.0", shared.__version__, "bundles of different releases in different processes"):
        assert part in line
