"""A release: a zip a bundle, unpacked where no repository is near, and used there; once a session."""

from __future__ import annotations

import json
import zipfile
from functools import cache
from typing import Any

import pytest

from shared.serving.packaging import package
from tests.bundles.facts import BUNDLES, NAMES
from tests.bundles.release.helpers import VERBS, Release, python


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Release:
    folder = tmp_path_factory.mktemp("release")
    package(NAMES, out=folder, repo="owner/name")

    @cache
    def use(name: str) -> dict[str, Any]:
        zipfile.ZipFile(done.zips[name]).extractall(folder / "unpacked")
        here = folder / "here" / name
        bundle = folder / "unpacked" / name
        size = BUNDLES[name].size  # the usual network: `load` takes no options
        ran = python(VERBS, name, str(bundle), str(done.data(name)), size, BUNDLES[name].short, cwd=here)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return {
            "here": here,
            "bundle": bundle,
            "text": ran.stdout,
            **json.loads((here / "found.json").read_text(encoding="utf-8")),
        }

    done = Release(folder, use)
    return done
