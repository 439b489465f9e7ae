"""Which rules for masks run, and in which order."""

import pytest
import torch
from emclip.postprocessing.rules import shape_rules

from shared.core.errors import InputError

NAMES = ("optic disc", "optic cup")
PIECES = ["KeepCommonPieced", "KeepLargestConnectedComponentd"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, PIECES),
        ({"cavity_and_wall": ["optic cup", "optic disc"]}, [PIECES[0], "CavityInWalld", PIECES[1]]),
        ({"drawn_size": {"optic cup": 0.9}}, [*PIECES, "DrawnSized"]),
        ({"largest_component": False}, []),
        ({"largest_component": False, "cavity_and_wall": ["optic cup", "optic disc"]}, []),
        ({"largest_component": False, "drawn_size": {"optic cup": 0.9}}, ["DrawnSized"]),
        ({"cavity_and_wall": None, "drawn_size": {}}, PIECES),
    ],
)
def test_options_choose_the_rules(options, wanted):
    assert [type(rule).__name__ for rule in shape_rules(NAMES, **options)] == wanted


def test_each_structure_keeps_its_largest_piece():
    masks = torch.zeros(2, 8, 8)
    masks[0, 1:5, 1:5] = masks[0, 7, 7] = masks[1, 2, 2] = 1
    masks[1, 3:5, 3:5] = 1
    masks[1, 1, 4] = 1
    data = {"pred": masks}
    for rule in shape_rules(NAMES):
        data = rule(data)
    assert data["pred"].sum((1, 2)).tolist() == [16, 5]  # MONAI joins diagonal neighbours


def test_an_unknown_structure_is_refused():
    with pytest.raises(InputError, match="macula"):
        shape_rules(NAMES, drawn_size={"macula": 0.9})
