"""The tests of this folder run TMCA on the data and weights of ``tests/bundles/conftest.py``."""

from __future__ import annotations

import pytest

from tests.bundles.running import Bundle
from tests.bundles.tmca.facts import BUNDLE


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return BUNDLE
