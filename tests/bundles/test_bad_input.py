"""What a user gives wrongly to a bundle: one line per problem, before anything begins, and nothing is lost on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.bundles.bad_input import Place, assert_command_refused, assert_refused, make_place, table
from tests.bundles.brainsegdmlf.bad_input import nan_voxels
from tests.bundles.facts import BUNDLES
from tests.bundles.tmca.bad_input import unknown_backbone


@pytest.fixture
def place(prepared, tmp_path, monkeypatch) -> Callable[[str], Place]:
    return lambda name: make_place(prepared.cases(name), prepared.weights(name), tmp_path, monkeypatch)


def rows(config: str) -> list[Any]:
    """The rows of every bundle, of a training or an inference."""
    return [
        pytest.param(name, *row, id=f"{name}-{row[0].__name__}")
        for name, bundle in BUNDLES.items()
        for row in table(bundle, config)
    ]


@pytest.mark.parametrize("name, spoil, parts", rows("train"))
def test_training(name, spoil, parts, place):
    assert_refused(spoil, parts, place(name), BUNDLES[name], "train")


@pytest.mark.parametrize("name, spoil, parts", rows("inference"))
def test_inference(name, spoil, parts, place):
    assert_refused(spoil, parts, place(name), BUNDLES[name], "inference")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, spoil",
    [("brainsegdmlf", nan_voxels), ("tmca", unknown_backbone)],
    ids=["in_a_loading_thread", "in_a_component"],
)
def test_command_line(name, spoil, place):
    parts = dict(table(BUNDLES[name], "train"))[spoil]
    assert_command_refused(spoil, parts, place(name), BUNDLES[name])
