"""Who may talk to the label server: an ASGI middleware that checks host, origin, token and names.

A web page in the user's browser can send requests to the loopback address, and a name that resolves to it lets the page
read the answers. So a request must name the server as its host, come from one of the server's own pages or from an
allowed origin, and carry the token. The token is accepted in the ways that clients can send it: 3D Slicer asks for user
and password and exchanges them at ``/auth/token``; browsers and curl send HTTP Basic; scripts send a bearer token.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::", "")
NAMES = ("image", "id", "label", "tag", "session_id", "model")  # query parameters that become parts of file names
CLOSED = (("*", "/proxy/"), ("*", "/infer/wsi"), ("POST", "/scoring/"))  # parts of MONAI Label that our app lacks
LONGEST_LOGIN = 4096  # bytes
HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::\d{1,5})?")


class Refusal(Exception):
    """A request that is answered with `status` and one line, and never reaches MONAI Label."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Access:
    """Pass on the requests that may reach `app`, and answer all others.

    Args:
        app: an ASGI application.
        host: the address that the server listens on.
        token: the secret that every request must carry; None to ask for none.
        allow_origins: other origins, such as "https://viewer.hospital.org", whose pages may use the server and whose
            host names may stand for it.
    """

    def __init__(self, app: App, host: str, token: str | None = None, allow_origins: Sequence[str] = ()) -> None:
        self.app = app
        self.token = token
        self.origins = {origin.lower() for origin in allow_origins}
        self.any_address = host in EVERY_ADDRESS
        self.hosts = own_hosts(host) | {str(urlsplit(origin).hostname) for origin in self.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self._answer(scope, receive)
            except Refusal as refusal:
                await respond(send, refusal.status, {"detail": str(refusal)})
            else:
                await (self.app(scope, receive, send) if answer is None else respond(send, 200, answer))
        else:  # MONAI Label has no WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive) -> dict[str, Any] | None:
        """Return the answer to a login; None for a request to pass on.

        Raises:
            Refusal: the request must not be passed on.
        """
        headers = read_headers(scope)
        self._check_host(headers)
        origin = self._check_origin(headers)
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS" and origin:  # browsers send it before a request, without the token
            return None
        if self.token is not None:
            if path == "/auth/" and method == "GET":
                return {"enabled": True}
            if path == "/auth/token" and method == "POST":
                return await self._log_in(receive)
            self._check_token(headers)
            if path == "/auth/token/valid":
                return {}
        _check_names(scope)
        for closed_method, prefix in CLOSED:
            if path.startswith(prefix) and closed_method in ("*", method):
                raise Refusal(404, f"{prefix} is not served: the app has no such function")
        return None

    def _check_host(self, headers: Mapping[str, str]) -> None:
        name = host_name(headers.get("host", ""))
        if name not in self.hosts and not (self.any_address and _is_address(name)):
            raise Refusal(403, f"host {name!r:.80} is not this server: start it with --allow_origin http://NAME:PORT")

    def _check_origin(self, headers: Mapping[str, str]) -> str | None:
        """Return the origin of a browser's request, or None if another program sent it."""
        origin = headers.get("origin")
        own = [f"{scheme}://{headers.get('host', '')}".lower() for scheme in ("http", "https")]
        if origin is not None and origin.lower() not in [*own, *self.origins]:
            raise Refusal(403, f"origin {origin!r:.80} may not use this server: start it with --allow_origin")
        return origin

    def _check_token(self, headers: Mapping[str, str]) -> None:
        if not self._is_token(sent_token(headers.get("authorization", ""))):
            raise Refusal(401, "log in with any user name and the token that the server printed when it started")

    async def _log_in(self, receive: Receive) -> dict[str, Any]:
        """Exchange the password for a bearer token, as OAuth2's password form does."""
        form = parse_qs((await _body(receive, LONGEST_LOGIN)).decode("utf-8", "replace"))
        if not self._is_token(form.get("password", [""])[0]):
            raise Refusal(401, "the password is the token that the server printed when it started")
        return {"access_token": self.token, "token_type": "bearer"}

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode("utf-8"), self.token.encode("utf-8"))


def own_hosts(host: str) -> set[str]:
    """Return the host names by which clients reach a server that listens on `host`."""
    names = {host.lower()} - set(EVERY_ADDRESS)
    if host in (*LOOPBACK, *EVERY_ADDRESS):
        names |= set(LOOPBACK)
    if host not in LOOPBACK:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return names


def host_name(value: str) -> str:
    """Return the host of a Host header without port and brackets; empty for anything else than a host."""
    found = HOST.fullmatch(value)
    return (found[1] or found[2]).lower() if found else ""


def sent_token(authorization: str) -> str:
    """Return the token of an Authorization header: ``Bearer TOKEN``, or the password of ``Basic ...``."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def is_name(value: str) -> bool:
    """Tell whether `value` can be part of a file name without leading to another folder, on any system."""
    return value == PureWindowsPath(value).name and value[:1] not in ("", ".") and value.isprintable()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; the values of a repeated one are joined, which no check accepts."""
    found: dict[str, str] = {}
    for key, value in scope["headers"]:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _check_names(scope: Scope) -> None:
    """Raise Refusal for an image, label, tag, session or model whose name leads out of its folder."""
    for part in scope["path"].split("/"):
        if part and part in (".", "..") or not part.isprintable() or "\\" in part:
            raise Refusal(400, f"{scope['path']!r:.80} is not a path of this server")
    for key, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if key in NAMES and value and not is_name(value):
            raise Refusal(400, f"{key} {value!r:.80} is not a name: leave out separators and a leading dot")


async def _body(receive: Receive, longest: int) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > longest:
            raise Refusal(413, f"a login has at most {longest} bytes")
        if not message.get("more_body"):
            return body


async def respond(send: Send, status: int, content: Mapping[str, Any]) -> None:
    """Send a JSON answer; 401 asks a browser for user and password."""
    body = json.dumps(content).encode("utf-8")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii"))]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="MONAI Label: any user, the token as password"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
