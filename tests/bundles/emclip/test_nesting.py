"""Nesting augmentation: the inside of a structure changes its size, the outside stays unchanged."""

from __future__ import annotations

import pytest
import torch
from emclip.nesting import SMALLEST, RandNestedd, nested_grid


def eye(disc=(30, 22), cup=0.6, middle=(50, 44), size=(96, 112)):
    """A label of an elliptic disc (100) with a cup (200) of a share of its diameter, and a picture of it."""
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in size), indexing="ij")
    rho = (((rows - middle[0]) / disc[0]) ** 2 + ((columns - middle[1]) / disc[1]) ** 2).sqrt()
    label = torch.zeros(1, *size, dtype=torch.uint8)
    label[0][rho < 1], label[0][rho < cup] = 100, 200
    torch.manual_seed(0)
    return {"image": torch.rand(3, *size), "label": label, "rho": rho}


def change(data, gamma, labels=(100, 200)):
    turn = RandNestedd(["image", "label"], labels, prob=1.0, gamma=(gamma, gamma))
    return turn(data)


@pytest.mark.parametrize("gamma", [0.4, 0.7, 1.4])
@pytest.mark.parametrize("cup", [0.4, 0.6, 0.8])
def test_a_cup_goes_where_the_formula_says(gamma, cup):
    data = eye(cup=cup)
    changed = change(data, gamma)["label"]
    share = (changed == 200).sum() / (changed > 0).sum()  # of areas, so the square of a diameter's
    assert float(share) ** 0.5 == pytest.approx(cup ** (1 / gamma), abs=0.03)
    assert set(changed.unique().tolist()) == {0, 100, 200}


@pytest.mark.parametrize("gamma", [0.4, 1.4])
def test_nothing_changes_outside(gamma):
    data = eye()
    changed = change(data, gamma)
    outside = data["rho"] > 1.05
    assert torch.allclose(changed["image"][:, outside], data["image"][:, outside], atol=1e-4)
    moved = (changed["label"][0] > 0) != (data["label"][0] > 0)  # the disc keeps its outline, but for its edge's pixels
    assert not moved[outside | (data["rho"] < 0.9)].any() and moved.sum() < 20
    assert not torch.allclose(changed["image"], data["image"], atol=0.1)


def test_gamma_one_changes_nothing():
    data = eye()
    changed = change(data, 1.0)
    assert torch.equal(changed["label"], data["label"])
    assert torch.allclose(changed["image"], data["image"], atol=1e-4)


def test_picture_and_label_move_together():
    data = eye()
    data["image"] = data["label"].float() / 200
    changed = change(data, 0.5)
    assert float((changed["image"] * 200 - changed["label"]).abs().mean()) < 2  # but for the edges


@pytest.mark.parametrize(
    "structure",
    [
        torch.zeros(32, 32, dtype=torch.bool),
        torch.eye(64, dtype=torch.bool),
        torch.arange(32 * 32).reshape(32, 32) < SMALLEST - 1,
    ],
    ids=["nothing", "a line", "a few pixels"],
)
def test_what_has_no_inside_is_left_alone(structure):
    assert nested_grid(structure, 0.5) is None
    data = {"image": torch.rand(1, *structure.shape), "label": structure[None].to(torch.uint8)}
    changed = change(data, 0.5, labels=(1,))
    assert changed["image"] is data["image"] and changed["label"] is data["label"]


def test_chance_and_seed():
    data = eye()
    never = RandNestedd(["image", "label"], (100, 200), prob=0.0)
    assert never(data)["image"] is data["image"]
    one, other = (RandNestedd(["image", "label"], (100, 200), prob=1.0).set_random_state(seed=3) for _ in range(2))
    assert torch.equal(one(data)["image"], other(data)["image"])
    ratios = {int((one(data)["label"] == 200).sum()) for _ in range(8)}
    assert len(ratios) > 4
