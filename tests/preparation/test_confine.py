"""Results stay within the brain that the preparation cut out."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from shared.preparation.cache import BRAIN
from shared.preparation.confine import ConfineToBraind
from shared.preparation.load import META

AFFINE = np.diag([2.0, 2, 3, 1])


@pytest.fixture
def prepared(tmp_path):
    brain = np.zeros((6, 5, 4), np.uint8)
    brain[1:4, 1:4, 1:3] = 1
    nib.save(nib.Nifti1Image(brain, AFFINE), tmp_path / BRAIN)
    return tmp_path, brain > 0


def item(record):
    image = MetaTensor(torch.rand(1, 6, 5, 4), affine=AFFINE, meta={META: json.dumps(record)} if record else {})
    return {"image": image, "pred": MetaTensor(0.1 + torch.rand(2, 6, 5, 4), affine=AFFINE)}


def test_what_lies_outside_the_brain_is_zero_and_the_rest_is_as_it_was(prepared):
    folder, brain = prepared
    given = item({"steps": ["register t1", "remove the skull"], "folder": str(folder)})
    found = ConfineToBraind("pred")(given)["pred"]
    assert np.array_equal(found[:, brain], given["pred"][:, brain])
    assert not found[:, ~brain].any()
    assert given["pred"][:, ~brain].all() and torch.equal(found.affine, given["pred"].affine)


@pytest.mark.parametrize("steps", [None, [], ["register t1"]])
def test_nothing_changes_where_the_skull_was_not_removed(prepared, steps):
    given = item(steps and {"steps": steps, "folder": str(prepared[0])})
    assert torch.equal(ConfineToBraind("pred")(given)["pred"], given["pred"])
