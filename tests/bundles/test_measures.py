"""Each bundle measures what its masks mean, and leaves it out where it is told to."""

import brainsegdmlf.measures
import emclip.measures
import pytest
import tmca.measures

from shared.io import dicom_seg
from tests.bundles.facts import BUNDLES

CASES = [
    ("brainsegdmlf", ["inference"], brainsegdmlf.measures.lesions, True),
    ("brainsegdmlf", ["inference", "brats"], brainsegdmlf.measures.lesions, True),
    ("emclip", ["inference"], emclip.measures.cup_to_disc, True),
    ("emclip", ["inference", "cardiac"], emclip.measures.heart, True),
    ("tmca", ["inference"], tmca.measures.chest, True),
]


@pytest.mark.parametrize(("bundle", "names", "measure", "volumes"), CASES)
@pytest.mark.parametrize("switch", ["true", "false"])
def test_numbers_and_dicom_by_a_word_on_the_command_line(bundle, names, measure, volumes, switch):
    options = {"measures": switch, **({"write_dicom_seg": switch} if volumes else {})}
    flow = BUNDLES[bundle].workflow(*names, **options)
    flow.parser["initialize"] = ["$@start()"]
    flow.initialize()
    made = {key: flow.parser.get_parsed_content(key) for key in ("measure", "dicom_seg") if key in flow.parser.get()}
    wanted = {"measure": measure, "dicom_seg": dicom_seg.save_dicom_seg if volumes else None}
    for key, found in made.items():
        function = getattr(found, "func", found)
        assert function is (wanted[key] if switch == "true" else None)
    assert "measure" in made and ("dicom_seg" in made or not volumes)
    if "cardiac" in names:
        patients = flow.parser.get_parsed_content("measure_patients")
        assert (patients is not None) == (switch == "true")
