"""The tests of this folder run EM-CLIP on the data and weights of ``tests/bundles/conftest.py``."""

from __future__ import annotations

import pytest

from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import Bundle


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return BUNDLE
