"""Per bundle a tiny data set, untrained weights, a training and an inference, each done once per session."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.bundles.facts import BUNDLES, NAMES
from tests.bundles.running import Bundle, Run, recorded


class Prepared:
    """What the tests of one session share; each part is computed when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.cases, self.weights = cache(self._data), cache(self._cases), cache(self._weights)
        self.trained, self.segmented = cache(self._trained), cache(self._segmented)

    def _data(self, name: str) -> Path:
        folder = self.folder / f"{name}_data"
        BUNDLES[name].make_data(folder)
        return folder

    def _cases(self, name: str) -> Path:
        """Four tiny cases."""
        folder = self.folder / f"{name}_cases"
        BUNDLES[name].write_cases(folder)
        return folder

    def _weights(self, name: str) -> Path:
        return BUNDLES[name].save_weights(self.folder / f"{name}_weights")

    def _trained(self, name: str) -> Run:
        """Two epochs, `bundle_root` left to the config."""
        bundle, output = BUNDLES[name], self.folder / f"{name}_trained"
        places = {"dataset_dir": str(self.data(name)), "output_dir": str(output)}
        flow = bundle.workflow("train", **places, **{**bundle.train_options, "epochs": 2})
        return recorded(flow, output, bundle.folder / "models" / "model.pt")

    def _segmented(self, name: str) -> Run:
        """The testing cases with the untrained weights."""
        bundle, output = BUNDLES[name], self.folder / f"{name}_segmented"
        weights = self.weights(name)
        places = {"dataset_dir": str(self.data(name)), "output_dir": str(output), "ckpt_dir": str(weights)}
        return recorded(bundle.workflow("inference", **places, **bundle.infer_options), output, weights / "model.pt")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session", params=NAMES)
def bundle(request) -> Bundle:
    """Every bundle in turn; the folder of one bundle has that bundle alone."""
    return BUNDLES[request.param]


@pytest.fixture(scope="module")
def data_dir(bundle, prepared) -> Path:
    return prepared.data(bundle.name)


@pytest.fixture(scope="module")
def weights_dir(bundle, prepared) -> Path:
    return prepared.weights(bundle.name)


@pytest.fixture(scope="module")
def trained(bundle, prepared) -> Run:
    return prepared.trained(bundle.name)


@pytest.fixture(scope="module")
def segmented(bundle, prepared) -> Run:
    return prepared.segmented(bundle.name)
