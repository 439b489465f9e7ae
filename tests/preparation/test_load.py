"""The loading transform: what `prepare` does to what is loaded, the cache, and the messages."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from shared.core.errors import InputError, OutputError
from shared.io.volumes import LoadSequencesd
from shared.preparation import load
from shared.preparation.load import META, LoadPreparedd
from shared.preparation.scan import Scan
from tests.preparation.bright_brain import BrightBrain, ball_scan

CHANNELS = ["flair", "t1"]
RADIUS = 62.0


@pytest.fixture(autouse=True)
def bright_brain(monkeypatch):
    """Replace the network by one that takes the bright part for the brain."""
    monkeypatch.setattr(load, "load_network", lambda weights: BrightBrain())


def write(path, scan: Scan) -> str:
    nib.save(nib.Nifti1Image(scan.voxels, scan.affine), path)
    return str(path)


def loader(tmp_path, **options) -> LoadPreparedd:
    return LoadPreparedd("image", CHANNELS, tmp_path / "brain.pt", tmp_path / "prepared", **options)


def record_of(image) -> dict:
    return json.loads(image.meta[META])


@pytest.fixture
def raw(tmp_path):
    """A case of one sequence with a skull."""
    return {"image": [write(tmp_path / "flair.nii", ball_scan((2, 2, 3), RADIUS, skull=True)[0]), None], "case_id": "a"}


@pytest.fixture
def stripped(tmp_path):
    """A case of two sequences on one grid without a skull."""
    scan = ball_scan((2, 2, 3), RADIUS)[0]
    twice = scan._replace(voxels=2 * scan.voxels)
    paths = [write(tmp_path / f"{name}.nii", part) for name, part in (("f", scan), ("t", twice))]
    return {"image": paths, "case_id": "b"}


def test_a_prepared_case_is_loaded_as_without_preparation(tmp_path, stripped):
    plain = LoadSequencesd("image", CHANNELS)(stripped)["image"]
    found = loader(tmp_path)(stripped)["image"]
    assert np.array_equal(found.numpy(), plain.numpy())
    assert np.array_equal(found.affine, plain.affine)
    assert found.meta["filename_or_obj"] == plain.meta["filename_or_obj"]
    assert not (tmp_path / "prepared").exists()
    assert record_of(found)["brain"]["skull"] is False


def test_a_skull_is_removed_on_the_scans_own_grid(tmp_path, raw):
    plain = LoadSequencesd("image", CHANNELS)(raw)["image"]
    found = loader(tmp_path)(raw)["image"]
    assert found.shape == plain.shape and np.array_equal(found.affine, plain.affine)
    scalp = (plain[0] > 0) & (plain[0] < 0.9)
    assert scalp.any() and not found[0][scalp].any()
    assert "remove the skull" in record_of(found)["steps"]


def test_the_second_time_a_case_comes_from_the_cache(tmp_path, raw, monkeypatch, capsys):
    first = loader(tmp_path)(raw)["image"]
    assert "remove" not in capsys.readouterr().err
    monkeypatch.setattr(load, "prepare", lambda *_: pytest.fail("prepared twice"))
    again = loader(tmp_path)(raw)["image"]
    assert np.array_equal(first.numpy(), again.numpy())
    assert record_of(again)["folder"] == record_of(first)["folder"]


def test_a_case_that_needs_nothing_is_looked_at_once(tmp_path, stripped, monkeypatch):
    load_case = loader(tmp_path)
    first = load_case(stripped)["image"]
    monkeypatch.setattr(load, "prepare", lambda *_: pytest.fail("prepared twice"))
    again = load_case(stripped)["image"]
    assert np.array_equal(again.numpy(), first.numpy()) and record_of(again) == record_of(first)


def test_another_content_is_prepared_anew(tmp_path, raw):
    first = record_of(loader(tmp_path)(raw)["image"])["folder"]
    write(tmp_path / "flair.nii", ball_scan((2, 2, 3), RADIUS - 2, skull=True)[0])
    assert record_of(loader(tmp_path)(raw)["image"])["folder"] != first


def test_off_changes_nothing_and_warns_of_a_skull(tmp_path, raw, stripped, capsys):
    found = loader(tmp_path, prepare="off")(raw)["image"]
    assert np.array_equal(found.numpy(), LoadSequencesd("image", CHANNELS)(raw)["image"].numpy())
    assert "case a: warning: flair shows the skull" in capsys.readouterr().out
    loader(tmp_path, prepare="off")(stripped)
    loader(tmp_path, prepare="off", warn=False)(raw)
    assert capsys.readouterr().out == ""


def test_off_names_the_option_where_grids_differ(tmp_path, raw):
    other = write(tmp_path / "t1.nii", ball_scan((3, 3, 3), RADIUS)[0])
    with pytest.raises(InputError, match="case a: t1 has shape .*'s grid, or run with --prepare auto$"):
        loader(tmp_path, prepare="off")({**raw, "image": [raw["image"][0], other]})


def test_another_word_is_refused(tmp_path):
    with pytest.raises(InputError, match="prepare is 'of': did you mean off"):
        loader(tmp_path, prepare="of")


def test_the_reference_gives_the_grid(tmp_path):
    scans = {"flair": ball_scan((2, 2, 4), RADIUS)[0], "t1": ball_scan((3, 2.5, 2), RADIUS)[0]}
    scans["t1"].affine[0, 3] += 4
    item = {"image": [write(tmp_path / f"{name}.nii", scan) for name, scan in scans.items()], "case_id": "c"}
    for reference in CHANNELS:
        found = loader(tmp_path, reference=reference)(item)["image"]
        assert found.shape[1:] == scans[reference].voxels.shape
        assert np.allclose(found.affine, scans[reference].affine)


def test_a_reference_that_the_case_lacks_is_named(tmp_path, raw):
    with pytest.raises(InputError, match="case a: no t1, which --reference names: it has flair"):
        loader(tmp_path, reference="t1")(raw)


def test_a_missing_sequence_stays_a_channel_of_zeros(tmp_path, raw):
    found = loader(tmp_path)(raw)["image"]
    assert found[0].any() and not found[1].any()


def test_what_shows_no_head_is_used_as_it_is(tmp_path):
    small = Scan(np.random.default_rng(0).uniform(1, 2, (40, 40, 6)).astype(np.float32), np.eye(4))
    item = {"image": [write(tmp_path / "x.nii", small), None], "case_id": "d"}
    assert np.array_equal(loader(tmp_path)(item)["image"][0].numpy(), small.voxels)


def test_a_few_slices_of_a_head_are_used_as_they_are_and_it_is_said(tmp_path, capsys):
    scan = ball_scan((2, 2, 3), RADIUS, skull=True)[0]
    thin = scan._replace(voxels=scan.voxels[:, :, 20:25])
    found = loader(tmp_path)({"image": [write(tmp_path / "x.nii", thin), None], "case_id": "d"})["image"]
    assert np.array_equal(found[0].numpy(), thin.voxels)
    assert "flair has too few slices" in record_of(found)["warnings"][0]
    assert "case d: warning: used as it is, as flair has too few slices" in capsys.readouterr().out


def test_a_coarse_image_of_a_head_is_used_as_it_is_and_it_is_said(tmp_path, capsys):
    coarse = Scan(np.random.default_rng(0).uniform(1, 2, (40, 40, 20)).astype(np.float32), np.diag([4.0, 4, 6, 1]))
    found = loader(tmp_path)({"image": [write(tmp_path / "x.nii", coarse), None], "case_id": "d"})["image"]
    assert np.array_equal(found[0].numpy(), coarse.voxels)
    assert "case d: warning: used as it is, as flair is too coarse (voxels of 4 mm)" in capsys.readouterr().out


def test_few_slices_beside_a_whole_scan_get_the_options_that_help(tmp_path):
    whole, thin = ball_scan((3, 3, 3), RADIUS)[0], Scan(np.ones((80, 80, 5), np.float32), np.diag([2.0, 2, 5, 1]))
    item = {"image": [write(tmp_path / "f.nii", thin), write(tmp_path / "t.nii", whole)], "case_id": "h"}
    with pytest.raises(InputError, match="give a whole scan, or --reference t1, or flair alone$"):
        loader(tmp_path)(item)
    with pytest.raises(InputError, match="give a whole scan, or --prepare off$"):
        loader(tmp_path, prepare="always")({**item, "image": [item["image"][0], None]})


def test_a_prepared_case_of_another_version_is_prepared_again_and_it_is_said(tmp_path, raw, capsys):
    file = Path(record_of(loader(tmp_path)(raw)["image"])["folder"]) / "preparation.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "version": 0}), encoding="utf-8")
    assert "of another version" not in capsys.readouterr().out
    loader(tmp_path)(raw)
    assert f"case a: the prepared case in {file.parent} is damaged or of another version" in capsys.readouterr().out
    assert json.loads(file.read_text(encoding="utf-8"))["version"] == load.VERSION


def test_a_case_on_one_grid_without_a_brain_is_used_as_it_is_and_says_so(tmp_path):
    tiny = ball_scan((2, 2, 2), 20.0)[0]
    wide = Scan(np.pad(tiny.voxels, 20), tiny.affine)
    item = {"image": [write(tmp_path / "x.nii", wide), None], "case_id": "e"}
    found = loader(tmp_path)(item)["image"]
    assert np.array_equal(found[0].numpy(), wide.voxels)
    assert "no brain was found" in record_of(found)["warnings"][0]
    with pytest.raises(InputError, match="case e: no brain was found"):
        loader(tmp_path, prepare="always")(item)


def test_a_ct_is_refused(tmp_path):
    scan = ball_scan((3, 3, 3), RADIUS)[0]
    ct = scan._replace(voxels=np.where(scan.voxels > 0, 40, -1000).astype(np.float32))
    with pytest.raises(InputError, match="case g: flair looks like CT"):
        loader(tmp_path)({"image": [write(tmp_path / "x.nii", ct), None], "case_id": "g"})


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path, raw, monkeypatch):
    (tmp_path / "prepared").write_text("a file", encoding="utf-8")
    monkeypatch.setattr(load, "prepare", lambda *_: pytest.fail("worked in vain"))
    with pytest.raises(OutputError, match="is a file: give another --prepared_dir"):
        loader(tmp_path, prepare="always")(raw)


def test_a_skull_that_cannot_be_removed_for_want_of_a_folder_costs_no_work(tmp_path, raw, stripped, capsys):
    (tmp_path / "prepared").write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="is a file: give another --prepared_dir"):
        loader(tmp_path)(raw)
    said = capsys.readouterr().out
    assert "with skull" in said and "skull removed" not in said
    loader(tmp_path)(stripped)
