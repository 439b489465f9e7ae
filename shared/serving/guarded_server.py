"""The server's ASGI application: MONAI Label's own behind `Access`, with every request's options and files checked.

It runs in MONAI Label's environment alone: ``--uvicorn_app shared.serving.guarded_server:app``. The endpoints of MONAI
Label 0.8.5 read a request and hand its values to functions of their modules; these functions are wrapped here, so that
the values that are checked are the values that are used. A function that a later version lacks stops the start.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel import app as monai_label
from monailabel.endpoints import batch_infer, datastore, infer, model, session, train
from monailabel.interfaces.utils.app import app_instance

from shared.core.errors import InputError, find_input_error
from shared.serving.access import Access
from shared.serving.label_server import ACCESS
from shared.serving.publish import publish_upload
from shared.serving.request_options import BATCH, IMAGES, INFER, LABELS, SERIES, TRAIN, check_file_name, checked

logger = logging.getLogger(__name__)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Answer bad input with its one line and status 400; any other error stays MONAI Label's 500."""
    try:
        yield
    except Exception as error:
        found = find_input_error(error)
        if found is None:
            raise
        logger.warning("refused: %s", found)
        raise HTTPException(status_code=400, detail=str(found)) from None


def read_json(text: str | None) -> Any:
    """Return the value of a form's field."""
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raise InputError(f"params {text!r:.80} is not JSON") from None


def own_options(kind: str, name: str) -> dict[str, Any]:
    """Return the options that the server lists for a model; `kind` is "models" or "trainers"."""
    listed = app_instance().info()[kind]
    if name not in listed:
        raise InputError(f"no model {name!r:.80}: there are {', '.join(listed) or 'none'}")
    return listed[name]["config"]


def checked_training(params: Any, name: str) -> dict[str, Any]:
    """Return the options of a training that MONAI Label may see."""
    own = own_options("trainers", name)
    if (params or {}).get("tracking_uri") == own.get("tracking_uri"):
        params = {key: value for key, value in (params or {}).items() if key != "tracking_uri"}
    return checked(params or {}, TRAIN, own)


def wrap(module: Any, name: str) -> Callable[[Callable], Callable]:
    """Replace a function of `module` by the decorated one, which gets the original as its first argument."""

    def decorate(function: Callable) -> Callable:
        original = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with one_line_errors():
                return function(original, *args, **kwargs)

        setattr(module, name, wrapped)
        return wrapped

    return decorate


@wrap(infer, "run_inference")
def run_inference(
    original: Callable,
    tasks: Any,
    name: str,
    image: str = "",
    session_id: str = "",
    params: str = "{}",
    file: Any = None,
    label: Any = None,
    output: Any = None,
) -> Any:
    """Segment with checked options."""
    for upload in (file, label):
        check_file_name(upload.filename if upload else None, LABELS)
    options = json.dumps(checked(read_json(params), INFER, own_options("models", name)))
    return original(tasks, name, image, session_id, options, file, label, output)


@wrap(batch_infer, "run")
def run_batch(original: Callable, name: str, images: Any, params: Any = None, run_sync: bool | None = False) -> Any:
    """Segment many images with checked options."""
    return original(name, images, checked(params or {}, BATCH, own_options("models", name)), run_sync)


@wrap(train, "run_model")
def run_training(
    original: Callable, name: str, params: Any = None, run_sync: bool | None = False, enqueue: bool | None = False
) -> Any:
    """Train one model with checked options."""
    return original(name, checked_training(params, name), run_sync, enqueue)


@wrap(train, "run")
def run_trainings(original: Callable, params: Any = None, run_sync: bool | None = False) -> Any:
    """Train every model with checked options."""
    names = app_instance().info()["trainers"]
    return original({name: checked_training((params or {}).get(name), name) for name in names}, run_sync)


@wrap(datastore, "add_image")
def add_image(original: Callable, tasks: Any, image: Any, params: Any, file: Any, user: Any = None) -> Any:
    """Store an image of a known kind."""
    check_file_name(file.filename, IMAGES)
    return original(tasks, image, params, file, user)


@wrap(datastore, "save_label")
def save_label(original: Callable, tasks: Any, image: Any, params: Any, tag: Any, label: Any, user: Any = None) -> Any:
    """Store a label of a known kind."""
    check_file_name(label.filename, LABELS)
    return original(tasks, image, params, tag, label, user)


@wrap(session, "create_session")
def create_session(original: Callable, tasks: Any, uncompress: bool, expiry: int, files: list[Any]) -> Any:
    """Open a session with images; archives must be zip files, whose entries cannot leave their folder."""
    for file in files:
        check_file_name(file.filename, (".zip",) if uncompress else SERIES)
    return original(tasks, uncompress, expiry, files)


@wrap(model, "update_model")
def update_model(original: Callable, tasks: Any, name: str, file: Any) -> dict[str, Any]:
    """Serve weights that a client sends, and keep the earlier ones; the original copies whatever it gets over them."""
    instance = app_instance()
    own_options("models", name)
    served = Path(instance.model_file(name, validate=False))
    with tempfile.TemporaryDirectory() as folder:
        upload = Path(folder) / "model.pt"
        with upload.open("wb") as draft:
            shutil.copyfileobj(file.file, draft)
        kept = publish_upload(upload, served, instance._infers[name].network.state_dict())
    return {**instance.model_info(name), "kept": kept.name if kept else None}


# The token leaves the environment here, because trainings inherit it. Without the variable the server does not start.
app = Access(monai_label.app, **json.loads(os.environ.pop(ACCESS)))
