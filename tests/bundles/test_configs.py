"""Configs, which users read and edit, stay short and say each thing once; other programs can read them, too."""

from __future__ import annotations

import configparser
import importlib
import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine
from monai.bundle import ConfigComponent, ConfigParser
from pydicom.pixels import decoders

from shared.options.config_format import format_config

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = [file.parents[1] for file in sorted(ROOT.glob("bundles/*/configs/metadata.json"))]
FILES = [file for bundle in BUNDLES for file in sorted((bundle / "configs").glob("*.json"))]
CONFIGS = [file for file in FILES if file.name not in ("metadata.json", "options.schema.json")]
LONGEST = {"train.json": 300, "inference.json": 160}
RUN = [*LONGEST, "evaluate.json", "multi_gpu_train.json", "monailabel.json"]  # the others only override options
SHORT = 80  # lines of evaluate.json and of every override file
LONGEST_EXPRESSION = 100
# What MONAI, MONAI Label and plain parsers read without running ``initialize``, which loads the bundle's code.
READ_EARLY = ["network_def", "preprocessing", "pre_transforms", "inferer", "postprocessing", "post_transforms"]
BEGINNING = ["dataset_dir"]
END = ["imports", "reader", "bundle_root", "code", "start", "initialize", "run"]


def name(file: Path) -> str:
    return f"{file.parents[1].name}-{file.name}"


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config with its id."""
    yield place, value
    if isinstance(value, (dict, list)):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(entry, f"{place}#{key}".lstrip("#"))


every_config = pytest.mark.parametrize("file", CONFIGS, ids=name)
every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)


def test_every_bundle_is_found():
    assert {"brainsegdmlf", "emclip", "tmca"} <= {bundle.name for bundle in BUNDLES}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_files_are_formatted(file):
    text = file.read_text(encoding="utf-8")
    assert format_config(text) == text, f"run python -m shared.options.config_format {file.relative_to(ROOT)}"


@every_config
def test_files_are_short(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST.get(file.name, SHORT)


@every_bundle
def test_a_case_that_fails_is_one_line_without_the_log_of_its_engine(bundle):
    log = configparser.RawConfigParser()
    log.read(bundle / "configs" / "logging.conf", encoding="utf-8")
    assert "engines" in log["loggers"]["keys"].split(",") and log["logger_engines"]["level"] == "CRITICAL"
    assert Engine(lambda engine, batch: None).logger.name.startswith(f"{log['logger_engines']['qualname']}.")
    assert "decoders" in log["loggers"]["keys"].split(",") and log["logger_decoders"]["level"] == "CRITICAL"
    assert decoders.base.LOGGER.name == log["logger_decoders"]["qualname"]


@every_config
def test_expressions_are_short(file):
    long = {place: value for place, value in walk(read(file)) if isinstance(value, str) and value.startswith("$")}
    assert [place for place, value in long.items() if len(value) > LONGEST_EXPRESSION] == []


@every_config
def test_only_what_is_read_before_initialize_asks_for_the_code(file):
    asking = [place.rpartition("#")[0] for place, _ in walk(read(file)) if place.endswith("#_requires_")]
    allowed = ["network_def", "start"] if file.name != "inference.json" else [*READ_EARLY, "start"]
    assert set(asking) <= set(allowed)


@every_config
def test_no_element_of_a_list_is_addressed_by_its_index(file):
    ids = re.compile(r"(#|::)\d")
    assert [place for place, value in walk(read(file)) if isinstance(value, str) and ids.search(value)] == []
    assert [key for key in read(file) if ids.search(key)] == []


@every_config
def test_no_chain_of_transforms_stands_twice(file):
    chains = [value for _, value in walk(read(file)) if isinstance(value, list)]
    targets = [[step["_target_"] for step in chain if ConfigComponent.is_instantiable(step)] for chain in chains]
    neighbours = Counter(pair for chain in targets for pair in pairwise(chain))
    assert [pair for pair, times in neighbours.items() if times > 1] == []


@every_bundle
@pytest.mark.parametrize("config", ["train", "inference"])
def test_settings_come_first_and_how_the_bundle_is_found_last(bundle, config):
    keys = list(read(bundle / "configs" / f"{config}.json"))
    assert keys[: len(BEGINNING)] == BEGINNING
    assert keys[-len(END) :] == END
    assert not [key for key in END if key in read(bundle / "configs" / "evaluate.json")][:-2]


@every_bundle
@pytest.mark.parametrize("chain", ["loading", "fitting"])
def test_inference_prepares_an_image_as_training_does(bundle, chain):
    """Training's chain also names the label and its arguments: the image's come first. What a request to MONAI Label
    may change is read from `displayable_configs`, which has the option's value."""
    train, inference = (read(bundle / "configs" / f"{config}.json")[chain] for config in ("train", "inference"))
    assert [kind(step) for step in train] == [kind(step) for step in inference]
    for trained, step in zip(train, inference, strict=True):
        if isinstance(step, str):
            continue
        for key, value in step.items():
            value = value.replace("@displayable_configs#", "@") if isinstance(value, str) else value
            assert value in (trained[key], trained[key][0] if isinstance(trained[key], list) else None), key
        assert set(trained) - set(step) <= {"allow_missing_keys", "warn"}


def kind(step: dict[str, Any] | str) -> str:
    """Return the class of a transform, or the macro that stands for one."""
    return step if isinstance(step, str) else step["_target_"]


def early_reads() -> Iterator[Any]:
    """What is read early of train.json, of inference.json, and of inference.json with each override file."""
    for bundle in BUNDLES:
        overrides = [file.stem for file in CONFIGS if file.parents[1] == bundle and file.name not in RUN]
        for names in (["train"], ["inference"], *(["inference", override] for override in overrides)):
            keys = READ_EARLY if "inference" in names else ["network_def"]
            for key in keys:
                yield pytest.param(bundle, names, key, id=f"{bundle.name}-{'+'.join(names)}-{key}")


class Loaded(Exception):
    """The bundle's code is being loaded."""


@pytest.mark.parametrize(("bundle", "names", "key"), list(early_reads()))
def test_what_other_programs_read_loads_the_code_first(bundle, names, key, monkeypatch):
    """In MONAI's own order of resolving: no component of ours is located before the code is loaded."""
    package = importlib.import_module(bundle.name).__name__
    located = []

    def locate(component: ConfigComponent) -> object:
        located.append(component.get_config()["_target_"])
        return None

    def load(path: str) -> dict:
        raise Loaded(path)

    monkeypatch.setattr(ConfigComponent, "instantiate", locate)
    monkeypatch.setattr(runpy, "run_path", load)
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / f"{name}.json") for name in names])
    parser["bundle_root"] = str(bundle)
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content(key)
    assert isinstance(error.value.__cause__, Loaded)
    assert not [target for target in located if target.split(".")[0] in ("shared", package)]
