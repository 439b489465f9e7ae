"""What a user gives wrongly to other commands than a run: one line per problem, and nothing is lost on disk."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tmca import data as tmca_data

import shared
from shared.backbones.checkpoint import load_weights
from shared.backbones.text import build_text_encoder
from shared.core.errors import require
from shared.datasets.datalist import expand_datalist
from shared.datasets.public import make_datalist
from shared.engine.checkpoints import RunCheckpoint
from shared.engine.distributed import own_share, start_processes
from shared.io import picture_files, pictures
from shared.options.check import check
from shared.options.start_up import check_release
from shared.serving.packaging import package
from tests.bundles.bad_input import table
from tests.bundles.facts import BUNDLES
from tests.bundles.running import ROOT, assert_lines, files, input_error
from tests.datasets.layouts.published import SETS


def unknown_layout(folder, _):
    return partial(make_datalist, "brat2020", folder)


def layout_of_no_name(folder, _):
    return partial(make_datalist, "cityscapes", folder)


def layout_in_no_folder(folder, _):
    return partial(make_datalist, "busi", folder / "absent")


def layout_in_an_empty_folder(folder, _):
    (folder / "empty").mkdir()
    return partial(make_datalist, "busi", folder / "empty")


def layout_of_another_set(folder, _):
    SETS["acdc"].make(folder / "hearts")
    return partial(make_datalist, "kvasir_seg", folder / "hearts", progress=False)


def list_of_another_set(folder, _):
    SETS["acdc"].make(folder / "hearts")
    (folder / "busi").mkdir()
    (folder / "busi" / "dataset.json").write_text('{"layout": "busi"}', encoding="utf-8")
    return partial(make_datalist, "acdc", folder / "hearts", folder / "busi", progress=False)


def share_above_one(folder, _):
    return partial(make_datalist, "acdc", folder, val_share=1.5)


def packing_of_an_unknown_bundle(folder, _):
    return partial(package, ["emclop"], out=folder / "out", bundles=ROOT / "bundles")


def check_of_an_unknown_bundle(_, monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda: require(check("emclop"))


def check_of_an_unknown_config(_, monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda: require(check("emclip", ["trian"]))


def check_of_no_config(_, monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda: require(check("emclip", []))


def release_of_another_version(folder, _):
    (folder / "shared").mkdir()
    (folder / "shared" / "__init__.py").write_text('__version__ = "9.9.9"\n', encoding="utf-8")
    return partial(check_release, folder)


def data_list(folder, content):
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return partial(expand_datalist, folder / "dataset.json", "training")


def list_that_holds_no_splits(folder, _):
    return data_list(folder, ["p01.nii.gz"])


def case_without_an_image(folder, _):
    return data_list(folder, {"training": [{"label": "p01.nii.gz"}]})


def two_cases_of_a_name(folder, _):
    return data_list(folder, {"training": 2 * [{"image": "a.png", "case_id": "p01"}]})


def case_named_as_a_path(folder, _):
    return data_list(folder, {"training": [{"image": "a.png", "case_id": "../p01"}]})


def weights_that_are_a_list(folder, _):
    torch.save([torch.zeros(1)], folder / "model.pt")
    return partial(load_weights, torch.nn.Linear(1, 1), folder / "model.pt")


def several_machines_without_torchrun(_, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return start_processes


def more_processes_than_cases(_, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 4)
    return partial(own_share, ["val_a", "val_b"], even=False)


def text_folder_of_another_kind(folder, _):
    (folder / "bert").mkdir()
    return partial(build_text_encoder, str(folder / "bert"))


def tag_for_a_text_folder(folder, _):
    (folder / "bert").mkdir()
    return partial(build_text_encoder, str(folder / "bert"), pretrained="openai")


OTHERS: list[tuple[Callable[[Path, pytest.MonkeyPatch], Callable[[], Any]], list[str]]] = [
    (unknown_layout, ["unknown layout 'brat2020'", "did you mean 'brats20"]),
    (layout_of_no_name, ["unknown layout 'cityscapes'", "there are brats2021, "]),
    (layout_in_no_folder, ["absent is not a folder", "BUSI"]),
    (layout_in_an_empty_folder, ["empty is empty: get it from https://scholar"]),
    (layout_of_another_set, ["hearts holds no Kvasir-SEG, e.g. images/", "https://datasets.simula.no"]),
    (list_of_another_set, ["a list of busi", "another --out"]),
    (share_above_one, ["--val_share is 1.5", "below 1"]),
    (packing_of_an_unknown_bundle, ["no bundle 'emclop'", "did you mean 'emclip'?"]),
    (check_of_an_unknown_bundle, ["no bundle 'emclop'", "did you mean emclip?"]),
    (check_of_an_unknown_config, ["no config 'trian' in", "it has cardiac"]),
    (check_of_no_config, ["no config '' in", "it has cardiac"]),
    (release_of_another_version, ["needs shared 9.9.9", shared.__version__, "in different processes"]),
    (list_that_holds_no_splits, ["dataset.json is not a JSON object", "write"]),
    (case_without_an_image, ["training[0]", "names no image", "give a path"]),
    (two_cases_of_a_name, ["case_id 'p01' occurs 2 times", "every case needs its own"]),
    (case_named_as_a_path, ["case_id '../p01'", "cannot be a folder name", "leave out"]),
    (weights_that_are_a_list, ["model.pt: holds a list, not a dictionary of tensors"]),
    (several_machines_without_torchrun, ["runs under torchrun", "torchrun --nproc_per_node=2"]),
    (more_processes_than_cases, ["2 cases for 4 processes: each process needs a case of every list; start at most 2"]),
    (text_folder_of_another_kind, ["bert", "no config.json", "save_pretrained"]),
    (tag_for_a_text_folder, ["bert", "option 'pretrained' is for models of open_clip"]),
]


@pytest.mark.parametrize("prepare, parts", [pytest.param(*row, id=row[0].__name__) for row in OTHERS])
def test_other_commands(prepare, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = prepare(tmp_path, monkeypatch)
    before = files(tmp_path)
    assert_lines(input_error(ask), parts)
    assert files(tmp_path) == before


def test_the_table_is_long_enough():
    """Distinct inputs; what is given to several bundles counts once."""
    tables = [table(bundle, config) for bundle in BUNDLES.values() for config in ("train", "inference")]
    assert len({row[0].__name__ for rows in [*tables, OTHERS] for row in rows}) >= 100


def grey_for_colour(folder, monkeypatch):
    monkeypatch.setattr(picture_files, "FIRST_GREY", threading.Lock())
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "p1.png")
    return lambda: pictures.LoadPictured("image")({"image": folder / "p1.png", "case_id": "p1"})


def no_sentence(folder, _):
    BUNDLES["tmca"].write_cases(folder / "data")
    lists = json.loads((folder / "data" / "dataset.json").read_text(encoding="utf-8"))
    del lists["training"][0]["text"]
    (folder / "data" / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    items = tmca_data.load_split(folder / "data", "training", folder / "phantoms")
    return lambda: tmca_data.preflight([items], folder / "out", [0, 1])


def sentence_too_long_for_the_encoder(_, monkeypatch):
    return lambda: build_text_encoder("clip_tiny").encode(["lower left lung, " * 40])


def nothing_to_resume(folder, _):
    trainer = SimpleNamespace(state=SimpleNamespace(epoch=0, max_epochs=1, epoch_length=1))
    network = torch.nn.Linear(1, 1)
    return lambda: RunCheckpoint(folder, network, None, None, None, resume=True).start(trainer)  # type: ignore[arg-type]


ACCEPTED = [
    (grey_for_colour, "case p1: a grey picture where colour is expected: repeated to three channels"),
    (no_sentence, '1 of 2 cases have no sentence (key "text"): they are segmented by the image alone'),
    (sentence_too_long_for_the_encoder, "text encoder clip_tiny takes 77 tokens: cut "),
    (nothing_to_resume, "starting with epoch 1"),
]


@pytest.mark.parametrize("prepare, notice", [pytest.param(*row, id=row[0].__name__) for row in ACCEPTED])
def test_accepted_with_a_notice(prepare, notice, tmp_path, monkeypatch, caplog, capsys):
    accept = prepare(tmp_path, monkeypatch)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        accept()
    said = [record.getMessage() for record in caplog.records] + capsys.readouterr().out.splitlines()
    said += [str(warning.message) for warning in warned]
    assert sum(notice in line for line in said) == 1, said
