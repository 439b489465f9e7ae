"""Inference of EM-CLIP: unseen cameras without the text tower, and new words with it."""

from __future__ import annotations

import numpy as np

from tests.bundles.emclip.facts import BUNDLE, SENTENCES, UNSEEN
from tests.bundles.running import mask_of


def test_unseen_cameras_need_no_text_tower(segmented):
    assert [entry["case_id"] for entry in segmented.index] == [f"eye_006_{camera}" for camera in UNSEEN]
    assert segmented.flow.parser.get_parsed_content("network_def").texts._encoder == [None]


def test_the_text_tower_gives_the_same_for_the_classes_of_training(data_dir, weights_dir, tmp_path):
    for tower in (False, True):
        output = tmp_path / str(tower)
        BUNDLE.infer(output, weights_dir, **BUNDLE.one_case(data_dir), overlays=False, text_tower=tower)
    assert np.array_equal(mask_of(tmp_path / "False"), mask_of(tmp_path / "True"))


def test_new_words_and_a_new_class_with_the_text_tower(data_dir, weights_dir, tmp_path):
    """One structure more is one sentence more; the weights stay as they are."""
    more = {
        "sentences": [*SENTENCES, "a vessel, a dark red line"],
        "structures": {"optic disc": [100, 200], "optic cup": [200], "vessel": [50]},
        "structure_values": [1, 2, 3],
    }
    BUNDLE.infer(tmp_path, weights_dir, **BUNDLE.one_case(data_dir), text_tower=True, **more)
    assert set(np.unique(mask_of(tmp_path))) <= {0, 1, 2, 3}
