"""MONAI Label: an app folder with the bundles inside, and its server.

The app is MONAI Label's own sample app ``monaibundle``, copied from where pip put it. Every bundle in it is the
packaged one, self-contained, so nothing that the server trains or writes reaches the checkout.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from shared.core.errors import InputError
from shared.core.files import whole, write_atomic
from shared.core.messages import meant
from shared.serving.packaging import ROOT, pack

SAMPLE = "sample-apps/monaibundle/"
INSTALL = (
    "python3 -m venv labelenv && labelenv/bin/pip install -r requirements-label.txt, then start this command with "
    "labelenv/bin/python"
)
TRAINING = "monailabel"  # the config that lets MONAI Label's list of images take the place of a dataset.json
WEIGHTS = "shipped_weights"  # a config that sets it brings weights of its own: it is a model of its own
SERVED = "model.pt"
PORTS = range(1, 65536)


class Model(NamedTuple):
    """What the server offers under a name: a bundle, or a bundle with one of its configs."""

    bundle: Path
    config: str | None = None


def known_models(bundles: str | os.PathLike | None = None) -> dict[str, Model]:
    """Return every model by its name: a bundle's, or ``<bundle>_<config>`` of a config with weights of its own."""
    found = {}
    for file in sorted((Path(bundles) if bundles else ROOT / "bundles").glob("*/configs/metadata.json")):
        bundle = file.parents[1]
        found[bundle.name] = Model(bundle)
        for config in sorted(file.parent.glob("*.json")):
            own = config.stem not in ("train", "evaluate", "inference", "metadata")
            if own and WEIGHTS in json.loads(config.read_text(encoding="utf-8")):
                found[f"{bundle.name}_{config.stem}"] = Model(bundle, config.stem)
    return found


def set_up(
    app: str | os.PathLike, models: Sequence[str] = (), bundles: str | os.PathLike | None = None
) -> dict[str, Path]:
    """Make the app folder, or bring the code and the configs of an earlier one up to date.

    Files in ``model/<name>/models`` that are there already are never replaced: they may have been trained here.

    Args:
        app: the folder; made if absent.
        models: names of `known_models`; none for all.
        bundles: folder of the bundles; None for that of the repository.

    Returns:
        The models' folders by name.

    Raises:
        InputError: MONAI Label is not installed, an unknown name, or a folder that is no such app.
    """
    sample, known = _sample_app(), known_models(bundles)
    chosen = list(dict.fromkeys(models)) or list(known)
    for name in chosen:
        if name not in known:
            raise InputError(f"no model '{name}': {meant(name, known, 'there are ' + ', '.join(known))}")
    target = Path(app).expanduser().absolute()
    if target.is_dir() and any(target.iterdir()) and not (target / "main.py").is_file():
        raise InputError(f"{target} holds files and is no app of MONAI Label: give --app a new folder")
    for name, source in sample.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
    return {name: _unpack(known[name], target / "model" / name) for name in chosen}


def serve(
    studies: str | os.PathLike,
    models: Sequence[str] = (),
    app: str | os.PathLike = "label_app",
    host: str = "127.0.0.1",
    port: int = 8000,
    train: bool = True,
    start: bool = True,
) -> None:
    """Set up the app and become its server, until it is ended.

    Args:
        studies: folder of the images; MONAI Label writes labels below it.
        models, app: of `set_up`.
        host: address to listen on.
        port: port to listen on.
        train: offer training.
        start: False sets up the app alone.

    Raises:
        InputError: of `set_up`; no such folder of images; the address cannot be listened on.
    """
    images = Path(studies).expanduser().absolute()
    if not images.is_dir():
        raise InputError(f"no folder {images} for --studies: give the folder of your images (NIfTI, PNG or JPG)")
    if start:
        check_port(host, port)
    folder = Path(app).expanduser().absolute()
    names = set_up(folder, models)
    print(f"MONAI Label app in {folder}: {', '.join(names)}", flush=True)
    if not start:
        return
    options = {"models": ",".join(names), "zoo_source": "local", "sam2": "false", "skip_trainers": str(not train)}
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(folder), "--studies", str(images)]
    command += ["--host", host, "--port", str(port)]
    command += [word for key, value in options.items() for word in ("--conf", key, value.lower())]
    os.environ.setdefault("PYTHONPATH", "")  # its training processes ask for it
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # on several GPUs it would train nothing, see `_unpack`
    os.chdir(folder)  # the checkout's `shared` is out of reach: each bundle brings its own
    sys.stdout.flush()
    os.execv(sys.executable, command)


def check_port(host: str, port: int) -> None:
    """Raise InputError unless a server can listen there."""
    if not isinstance(port, int) or port not in PORTS:
        raise InputError(f"--port {port!r} is no port: give a whole number from 1 to 65535, e.g. --port 8000")
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}): end the other server, or give another --host or "
            "--port"
        ) from error


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
    """Write a packaged bundle to `target`, its configs as MONAI Label reads them: one file each."""
    prefix, configs = f"{model.bundle.name}/", target / "configs"
    with zipfile.ZipFile(io.BytesIO(pack(model.bundle))) as archive:
        content = {name.removeprefix(prefix): archive.read(name) for name in archive.namelist()}
    weights = {name: content.pop(name) for name in list(content) if name.startswith("models/")}
    for name, data in content.items():
        write_atomic(target / name, data)
    # with this file MONAI Label would train on the bundle's own list; without it, on several GPUs, on nothing
    (configs / "multi_gpu_train.json").unlink()
    extra = [f"{model.config}.json"] if model.config else []
    merged = _merge(configs, ["inference.json", *extra])
    _merge(configs, ["train.json", f"{TRAINING}.json", *extra])
    _name_labels(configs / "metadata.json", merged)
    if not (target / "models" / SERVED).exists():
        write_atomic(target / "models" / SERVED, weights[f"models/{merged.get(WEIGHTS, SERVED)}"])
    return target


def _merge(configs: Path, names: Sequence[str]) -> dict:
    """Merge config files as ``--config_file`` does, into the first one."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(configs / name) for name in names])
    merged = dict(parser.get())
    merged.pop("_meta_", None)
    with whole(configs / names[0]) as draft:
        ConfigParser.export_config_file(merged, str(draft), indent=4)
    return merged


def _name_labels(path: Path, inference: dict) -> None:
    """Let the metadata name the labels that the merged config paints."""
    names, values = inference.get("structures"), inference.get("structure_values")
    if names is None or values is None:
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    named = {"0": "background", **{str(value): name for name, value in zip(names, values)}}
    content["network_data_format"]["outputs"]["pred"]["channel_def"] = named
    write_atomic(path, json.dumps(content, indent=4) + "\n")
