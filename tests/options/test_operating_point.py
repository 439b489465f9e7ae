"""Arguments of `python -m shared operating_point` that are refused before anything is read."""

import pytest

from shared.__main__ import operating_point
from tests.bundles.running import input_error


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"aim": "dise"}, "--aim 'dise' is unknown: did you mean dice?"),
        ({"aim": "sensitivity", "false_lesions": -1}, "--false_lesions is -1: give a number of at least 0"),
        ({"aim": "sensitivity", "false_lesions": "few"}, "--false_lesions is 'few': give a number of at least 0"),
        ({"report_split": "validation"}, "--report_split is 'validation', on which the threshold is chosen"),
        ({"threshold": 0.4}, "--threshold is what operating_point finds: leave it out"),
        ({"temperature": 2}, "--temperature is what operating_point finds: leave it out"),
        ({}, "no bundle 'brains'"),
    ],
    ids=lambda value: "-".join(value) or "bundle" if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_gets_one_line(options, part):
    line = input_error(operating_point, "brains", **options)
    assert part in line and "\n" not in line
