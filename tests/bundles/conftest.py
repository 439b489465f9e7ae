"""Per bundle a tiny data set, untrained weights and a trained run, each prepared once per session."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.bundles.facts import FACTS, NAMES, Facts
from tests.bundles.running import Run, recorded


class Prepared:
    """What the tests of one session share; each part is computed when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.weights, self.trained = map(cache, (self._data, self._weights, self._trained))

    def _data(self, name: str) -> Path:
        return FACTS[name].helpers.make_data(self.folder / f"{name}_data")

    def _weights(self, name: str) -> Path:
        folder = self.folder / f"{name}_weights"
        folder.mkdir()
        FACTS[name].helpers.save_weights(folder / "model.pt")
        return folder

    def _trained(self, name: str) -> Run:
        """Two epochs, `bundle_root` left to the config."""
        helpers, output = FACTS[name].helpers, self.folder / f"{name}_trained"
        places = {"dataset_dir": str(self.data(name)), "output_dir": str(output)}
        flow = helpers.workflow("train", "train", **places, **{**helpers.TRAIN, "epochs": 2, **FACTS[name].trained})
        return recorded(flow, output, helpers.BUNDLE / "models" / "model.pt")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session", params=NAMES)
def bundle(request) -> Facts:
    """Every bundle in turn; the folder of one bundle has that bundle alone."""
    return FACTS[request.param]


@pytest.fixture(scope="module")
def data_dir(bundle, prepared) -> Path:
    return prepared.data(bundle.name)


@pytest.fixture(scope="module")
def weights_dir(bundle, prepared) -> Path:
    return prepared.weights(bundle.name)


@pytest.fixture(scope="module")
def trained(bundle, prepared) -> Run:
    return prepared.trained(bundle.name)
