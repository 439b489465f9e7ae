"""The cases of a training: what their data list may hold besides images and labels."""

from __future__ import annotations

import json

from monai.data import list_data_collate

from tests.bundles.brainsegdmlf.facts import BUNDLE
from tests.making import write_brain


def test_keys_that_only_some_cases_have_do_not_stop_a_batch(tmp_path):
    cases = [{"case_id": f"p{seed}", **write_brain(tmp_path, f"p{seed}", seed)} for seed in range(3)]
    lists = {"training": [{**cases[0], "age": 3, "domain": "here"}, {**cases[1], "age": None}], "validation": cases[2:]}
    (tmp_path / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    places = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    flow = BUNDLE.workflow("train", **places, **BUNDLE.train_options)
    flow.initialize()
    batch = list_data_collate(list(flow.parser.get_parsed_content("train#dataset")))
    assert {"image", "label"} <= set(batch) and not {"age", "domain"} & set(batch)
    assert len(batch["image"]) == 2 * BUNDLE.training["patches_per_volume"]
