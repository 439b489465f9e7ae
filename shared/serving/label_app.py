"""MONAI Label's app folder with the bundles inside.

The app is a copy of MONAI Label's own sample app ``monaibundle``. Every model in it is a packaged, self-contained
bundle, so nothing that the server trains or writes reaches the checkout.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from shared.core.bundles import find_bundles
from shared.core.errors import InputError
from shared.core.files import whole, write_atomic
from shared.core.messages import meant
from shared.serving.bundle_zip import pack
from shared.serving.packaging import ROOT

SAMPLE = "sample-apps/monaibundle/"
INSTALL = (
    "python3 -m venv labelenv && labelenv/bin/pip install -r requirements-label.txt, then start this command with "
    "labelenv/bin/python"
)
TRAINING = "monailabel"  # the config that trains on MONAI Label's list of images in place of a dataset.json
WEIGHTS = "shipped_weights"  # a config that sets this key has weights of its own and is served as a model of its own
SERVED = "model.pt"
PARTS = "parts"  # folder of other weights that a config reads: MONAI Label offers every .pt file in models to users
PURPOSES = ("train", "evaluate", "inference", "metadata", "options.schema")  # files that are not a variant


class Model(NamedTuple):
    """A model of the server: a bundle, or a bundle with one of its configs."""

    bundle: Path
    config: str | None = None


def known_models(bundles: str | os.PathLike | None = None) -> dict[str, Model]:
    """Return every model by its name: ``<bundle>``, and ``<bundle>_<config>`` for a config with weights of its own.

    Args:
        bundles: folder of the bundles; None for the repository's.
    """
    models = {}
    for name, bundle in find_bundles(bundles or ROOT / "bundles").items():
        models[name] = Model(bundle)
        for file in sorted((bundle / "configs").glob("*.json")):
            if file.stem not in PURPOSES and WEIGHTS in json.loads(file.read_text(encoding="utf-8")):
                models[f"{name}_{file.stem}"] = Model(bundle, file.stem)
    return models


def set_up(
    app: str | os.PathLike, models: Sequence[str] = (), bundles: str | os.PathLike | None = None
) -> dict[str, Path]:
    """Create the app folder, or update the code and the configs of an existing one.

    Existing files in ``model/<name>/models`` are never replaced: the server may have trained them.

    Args:
        app: the folder; created if it does not exist.
        models: names from `known_models`; empty for all.
        bundles: folder of the bundles; None for the repository's.

    Returns:
        The models' folders by name.

    Raises:
        InputError: MONAI Label is not installed, a name is unknown, or the folder holds files but no app.
    """
    sample, known = _sample_app(), known_models(bundles)
    chosen = list(dict.fromkeys(models)) or list(known)
    for name in chosen:
        if name not in known:
            raise InputError(f"no model '{name}': {meant(name, known, 'there are ' + ', '.join(known))}")
    target = Path(app).expanduser().absolute()
    if target.is_dir() and any(target.iterdir()) and not (target / "main.py").is_file():
        raise InputError(f"{target} holds files but no app of MONAI Label: give --app a new folder")
    for name, source in sample.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
    return {name: _unpack(known[name], target / "model" / name) for name in chosen}


def _sample_app() -> dict[str, Path]:
    """Return the files of MONAI Label's sample app by their path in it."""
    if util.find_spec("monailabel") is None:
        raise InputError(f"MONAI Label is not installed for {sys.executable}: {INSTALL}")
    files = metadata.distribution("monailabel").files or []
    found = {str(file).partition(SAMPLE)[2]: Path(str(file.locate())) for file in files if SAMPLE in file.as_posix()}
    kept = {name: path for name, path in found.items() if path.is_file() and path.suffix != ".pyc"}
    if "main.py" not in kept:
        raise InputError(f"the installed MONAI Label has no {SAMPLE}main.py: {INSTALL}")
    return kept


def _unpack(model: Model, target: Path) -> Path:
    """Write a packaged bundle to `target` with merged configs: MONAI Label reads one file for each purpose."""
    prefix, configs = f"{model.bundle.name}/", target / "configs"
    with zipfile.ZipFile(io.BytesIO(pack(model.bundle))) as archive:
        content = {name.removeprefix(prefix): archive.read(name) for name in archive.namelist()}
    weights = {name: content.pop(name) for name in list(content) if name.startswith("models/")}
    for name, data in content.items():
        write_atomic(target / name, data)
    # With this file MONAI Label would train on the bundle's own list when it sees several GPUs.
    (configs / "multi_gpu_train.json").unlink(missing_ok=True)
    variant = [f"{model.config}.json"] if model.config else []
    inference = _merge(configs, ["inference.json", *variant])
    _merge(configs, ["train.json", f"{TRAINING}.json", *variant])
    _name_labels(configs / "metadata.json", inference)
    _place_parts(target, weights)
    if not (target / "models" / SERVED).exists():
        write_atomic(target / "models" / SERVED, weights[f"models/{inference.get(WEIGHTS, SERVED)}"])
    return target


def _place_parts(target: Path, weights: Mapping[str, bytes]) -> None:
    """Write the weights that configs read beside the served ones, and correct their paths in the configs."""
    for path in sorted((target / "configs").glob("*.json")):
        text = path.read_text(encoding="utf-8")
        for name, data in weights.items():
            file = name.removeprefix("models/")
            if file != SERVED and f"'/{name}'" in text:
                write_atomic(target / PARTS / file, data)
                text = text.replace(f"'/{name}'", f"'/{PARTS}/{file}'")
        write_atomic(path, text)


def _merge(configs: Path, names: Sequence[str]) -> dict:
    """Merge config files as ``--config_file`` does, and write the result to the first one."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(configs / name) for name in names])
    merged = dict(parser.get())
    merged.pop("_meta_", None)
    with whole(configs / names[0]) as draft:
        ConfigParser.export_config_file(merged, str(draft), indent=4)
    return merged


def _name_labels(path: Path, inference: dict) -> None:
    """Write the names of the labels in the merged config's masks to the metadata, where viewers read them."""
    names, values = inference.get("structures"), inference.get("structure_values")
    if names is None or values is None:
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    named = {"0": "background", **{str(value): name for name, value in zip(names, values)}}
    content["network_data_format"]["outputs"]["pred"]["channel_def"] = named
    write_atomic(path, json.dumps(content, indent=4) + "\n")
