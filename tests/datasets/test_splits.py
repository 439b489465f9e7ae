"""Training and validation cases of one list: by patient, always the same, and never an empty side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import InputError
from shared.datasets.splits import check_apart, hold_out


def items(patients: list[str | None]) -> list[dict]:
    """One case per patient of the list; None leaves the key out."""
    return [
        {"image": f"{number}.png", "case_id": f"c{number}"} | ({"patient": patient} if patient is not None else {})
        for number, patient in enumerate(patients)
    ]


@given(st.lists(st.sampled_from([None, "p1", "p2", "p3", "p4"]), min_size=2, max_size=30), st.floats(0.05, 0.95))
def test_every_patient_is_on_one_side_and_no_side_is_empty(patients, share):
    cases = items(patients)
    if len({*patients}) == 1 and None not in patients:
        with pytest.raises(InputError, match="^training has .* cases of one patient"):
            hold_out(cases, share, "training")
        return
    training, validation = hold_out(cases, share, "training")
    assert training and validation
    assert sorted(case["case_id"] for case in training + validation) == sorted(case["case_id"] for case in cases)
    named = [{case["patient"] for case in side if "patient" in case} for side in (training, validation)]
    assert not named[0] & named[1]
    assert hold_out(cases, share, "training") == (training, validation)


def test_both_phases_of_a_heart_stay_together():
    training, validation = hold_out(items([f"p{number // 2}" for number in range(20)]), 0.2, "training")
    assert len(training) == 16 and len(validation) == 4
    assert not {case["patient"] for case in training} & {case["patient"] for case in validation}


def test_cases_of_one_image_stay_together():
    twice = [{"image": f"{number // 2}.png", "case_id": str(number)} for number in range(10)]
    training, validation = hold_out(twice, 0.2, "training")
    assert len(validation) == 2 and validation[0]["image"] == validation[1]["image"]


def test_patients_of_numbers_and_of_text_are_the_same():
    training, validation = hold_out(items([1, "1", 2, "2"]), 0.5, "training")
    assert len(training) == len(validation) == 2


@pytest.mark.parametrize(
    ("patients", "count"), [([None], "1 case"), (["p1"], "1 case"), (["p1", "p1", "p1"], "3 cases of one patient")]
)
def test_too_few_patients_to_divide_are_one_line(patients, count):
    with pytest.raises(InputError) as caught:
        hold_out(items(patients), 0.2, "training of set.json")
    message = str(caught.value)
    assert (
        message.startswith(f"training of set.json has {count}, and there is no validation list") and "\n" not in message
    )


def test_a_patient_who_trains_and_validates_is_refused():
    check_apart(items(["p1", None]), items([None, None, "p2", None])[2:], "set.json")
    check_apart(items(["p1"]), ["a.png", {"image": "b.png", "patient": None}], "set.json")
    with pytest.raises(InputError, match="^patient 'p1' has cases in training and in validation of set.json: move all"):
        check_apart(items(["p1", "p2"]), items(["p1"]), "set.json")
    with pytest.raises(InputError, match=r"^patient '1' has .* of set.json \(2 such patients\): move"):
        check_apart(items([1, "p2"]), items(["p2", "1"]), "set.json")


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        ({"image": "/set/a.png"}, {"image": "a.png"}),
        ({"image": "/set/a.png"}, "./b/../a.png"),
        ({"image": "/set/a.png", "patient": "p1"}, {"image": "a.png", "patient": "p2"}),
        ({"image": ["/set/t1.png", None, "/set/a.png"]}, {"image": ["a.png", None, "t2.png"]}),
    ],
)
def test_an_image_that_trains_and_validates_is_refused(training, validation):
    with pytest.raises(InputError) as caught:
        check_apart([{"image": "/set/z.png"}, training], [validation, validation], "/set/dataset.json")
    line = "/set/a.png is an image of training and of validation in /set/dataset.json: keep it in one list"
    assert str(caught.value) == line


def test_images_that_train_and_validate_are_counted():
    with pytest.raises(InputError, match=r"^/set/0.png is .* in /set/dataset.json \(2 such files\): keep"):
        check_apart(items([None, "p2"]), items([None, None]), "/set/dataset.json")


def test_entries_without_a_path_share_no_image():
    check_apart([{"image": [None, "a.png"]}], [{"image": [None, "", 1]}, {"label": "a.png"}, None, 3], "set.json")
