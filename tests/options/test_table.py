"""The table of a bundle's options, in the terminal and on its page."""

import os

import pytest

from shared.options.schema import load_schema
from shared.options.table import option_markdown
from tests.bundles.running import ROOT
from tests.warm import run_module

CONFIGS = [path.parent for path in sorted(ROOT.glob("bundles/*/configs/metadata.json"))]


@pytest.mark.parametrize("configs", CONFIGS, ids=lambda path: path.parent.name)
def test_the_bundles_page_holds_the_table(configs):
    page = (configs.parent / "docs" / "options.md").read_text(encoding="utf-8")
    remedy = f"python -m shared options {configs.parent.name} --markdown true"
    assert page.endswith(option_markdown(configs)), f"write it again: {remedy}"


def test_the_command_prints_every_option():
    text = run_module("shared", "options", "emclip", cwd=ROOT, environment=os.environ).stdout
    names = [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]
    assert names == list(load_schema(ROOT / "bundles" / "emclip" / "configs"))
    assert "default 40" in text and max(map(len, text.splitlines())) <= 100
