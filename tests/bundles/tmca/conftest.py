"""The tests of this folder run TMCA on the data and weights of ``tests/bundles/conftest.py``."""

from __future__ import annotations

import pytest

from tests.bundles.facts import FACTS, Facts


@pytest.fixture(scope="session")
def bundle() -> Facts:
    return FACTS["tmca"]
