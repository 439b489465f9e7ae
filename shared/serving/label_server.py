"""``python -m shared label``: set up the app and become its server."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from shared.core.errors import InputError
from shared.serving.access import LOOPBACK
from shared.serving.label_app import set_up

PORTS = range(1, 65536)
TOKEN = "LABEL_TOKEN"  # environment variable: a token of the user's own choice
SHORTEST_TOKEN = 16  # characters
ACCESS = "LABEL_ACCESS"  # environment variable: the arguments of `Access` as JSON, read once by the server


def serve(
    studies: str | os.PathLike,
    models: Sequence[str] = (),
    app: str | os.PathLike = "label_app",
    host: str = "127.0.0.1",
    port: int = 8000,
    train: bool = True,
    start: bool = True,
    allow_origin: Sequence[str] = (),
    no_token: bool = False,
) -> None:
    """Set up the app and replace this process by its server.

    Args:
        studies: folder of the images; MONAI Label writes labels below it.
        models, app: as in `shared.serving.label_app.set_up`.
        host: address to listen on.
        port: port to listen on.
        train: offer training.
        start: False only sets up the app.
        allow_origin: other origins whose pages may use the server, e.g. "https://viewer.hospital.org".
        no_token: answer requests without a token.

    Raises:
        InputError: the app cannot be set up, the folder of images does not exist, the server cannot listen on the
            address, or an origin or the token cannot be used.
    """
    images = Path(studies).expanduser().absolute()
    if not images.is_dir():
        raise InputError(f"no folder {images} for --studies: give the folder of your images (NIfTI, PNG or JPG)")
    origins = [check_origin(origin) for origin in allow_origin]
    token = None if no_token else choose_token()
    if start:
        check_port(host, port)
    folder = Path(app).expanduser().absolute()
    names = set_up(folder, models)
    print(f"MONAI Label app in {folder}: {', '.join(names)}", flush=True)
    if not start:
        return
    print(announcement(host, port, token), flush=True)
    options = {"models": ",".join(names), "zoo_source": "local", "sam2": "false", "skip_trainers": str(not train)}
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(folder), "--studies", str(images)]
    command += ["--host", host, "--port", str(port), "--uvicorn_app", "shared.serving.guarded_server:app"]
    command += [word for key, value in options.items() for word in ("--conf", key, value.lower())]
    os.environ[ACCESS] = json.dumps({"host": host, "token": token, "allow_origins": origins})
    # The server imports `shared` from a bundle in the app and runs in the app's folder, never in the checkout.
    paths = [str(next(iter(names.values()))), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several GPUs it would look for multi_gpu_train.json
    os.chdir(folder)
    sys.stdout.flush()
    os.execv(sys.executable, command)


def check_port(host: str, port: int) -> None:
    """Raise InputError unless a server can listen there."""
    if not isinstance(port, int) or port not in PORTS:
        raise InputError(f"--port {port!r} is not a port: give a whole number from 1 to 65535, e.g. --port 8000")
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


def check_origin(origin: str) -> str:
    """Return an origin as browsers send it.

    Raises:
        InputError: it is not of the form ``http://NAME`` or ``http://NAME:PORT``.
    """
    try:
        parts = urlsplit(origin.strip().rstrip("/"))
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.path or parts.query)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"--allow_origin {origin!r} is not an origin: give one such as https://viewer.hospital.org")
    return f"{parts.scheme}://{parts.netloc}".lower()


def choose_token() -> str:
    """Return the token of the environment variable LABEL_TOKEN, or a new one.

    Raises:
        InputError: the variable's value is shorter than 16 characters.
    """
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"the variable {TOKEN} must hold at least {SHORTEST_TOKEN} letters, digits or signs without spaces: "
            "choose a longer token, or unset it to get a new one"
        )
    return token


def announcement(host: str, port: int, token: str | None) -> str:
    """Return the lines that tell how to reach the server."""
    name = f"[{host}]" if ":" in host else host
    if token is not None:
        return f"server http://{name}:{port}  user: any  password: {token}"
    reach = "programs of this machine" if host in LOOPBACK else "whoever reaches this machine"
    return f"server http://{name}:{port}  no token: {reach} can read, replace and delete images, labels and weights"
