"""Which requests reach the label server: those of its own pages and of other programs that carry the token."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest

from shared.serving.access import Access, is_name, read_headers

TOKEN = "a-token-of-32-letters-and-digits"
HOST = "127.0.0.1:8000"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@dataclass
class Answer:
    """What a client gets, and whether the application behind the middleware saw the request."""

    status: int
    headers: dict[str, str]
    content: Any
    passed: bool


def ask(
    guard: Access,
    method: str = "GET",
    path: str = "/info/",
    query: str = "",
    body: bytes = b"",
    **headers: str,
) -> Answer:
    """Send one request through the middleware; `headers` add to, or with None remove from, those of a plain client."""
    seen: list[str] = []
    sent: list[dict[str, Any]] = []

    async def app(scope, receive, send):
        seen.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'"served"'})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    given = {"host": HOST, **headers}
    pairs = [(key.encode(), value.encode("latin-1")) for key, value in given.items() if value is not None]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    guard.app = app
    asyncio.run(guard(scope, receive, send))
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, json.loads(sent[1]["body"]), bool(seen))


def guard(host: str = "127.0.0.1", token: str | None = TOKEN, allow_origins: tuple[str, ...] = ()) -> Access:
    return Access(None, host, token, allow_origins)  # type: ignore[arg-type]


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def assert_refused(answer: Answer, status: int, part: str) -> None:
    assert answer.status == status and not answer.passed
    assert part in answer.content["detail"] and "\n" not in answer.content["detail"]


@pytest.mark.parametrize("headers", [BEARER, {"authorization": f"bearer {TOKEN}"}, basic("any", TOKEN)])
def test_token_as_bearer_or_as_password_is_let_in(headers):
    assert ask(guard(), **headers).passed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer \u00e4"},
        {"authorization": f"Digest {TOKEN}"},
        {"authorization": "Basic !!"},
        {"authorization": "Basic /w=="},
        basic(TOKEN, ""),
    ],
)
def test_request_without_the_token_is_refused_and_a_browser_asks_for_it(headers):
    answer = ask(guard(), **headers)
    assert_refused(answer, 401, "token that the server printed")
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_without_a_token_every_program_is_let_in_but_no_foreign_page():
    assert ask(guard(token=None)).passed
    assert_refused(ask(guard(token=None), "POST", origin="http://evil.example"), 403, "--allow_origin")


def test_slicer_logs_in():
    """The steps of MONAILabelClient: auth_enabled, auth_token, auth_valid_token, then every request."""
    assert ask(guard(), path="/auth/").content["enabled"] is True
    form = f"username=me&password={TOKEN}&grant_type=password".encode()
    token = ask(guard(), "POST", "/auth/token", body=form).content
    header = {"authorization": f"{token['token_type']} {token['access_token']}"}
    assert ask(guard(), path="/auth/token/valid", **header).status == 200
    assert ask(guard(), **header).passed


def test_wrong_password_is_refused():
    for form in (b"username=me&password=wrong", b"", b"\xff", b"password=&username=" + TOKEN.encode()):
        assert_refused(ask(guard(), "POST", "/auth/token", body=form), 401, "password")
    assert_refused(ask(guard(), path="/auth/token/valid"), 401, "token")
    assert_refused(ask(guard(), "POST", "/auth/token", body=b"a" * 5000), 413, "bytes")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.1:9000"])
def test_host_of_this_machine_is_let_in(host):
    assert ask(guard(), host=host, **BEARER).passed


@pytest.mark.parametrize("host", ["evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1:8000", "", "[", None])
def test_host_that_leads_here_by_another_name_is_refused(host):
    """A name that an attacker points at 127.0.0.1 lets a page read answers: DNS rebinding."""
    assert_refused(ask(guard(), host=host, **BEARER), 403, "is not this server")


def test_server_of_every_address_is_reached_by_address_and_by_its_own_name(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Station5")
    monkeypatch.setattr("socket.getfqdn", lambda: "station5.hospital.org")
    for host in ("10.1.2.3:8000", "[fe80::1]:8000", "station5:8000", "station5.hospital.org", "localhost"):
        assert ask(guard("0.0.0.0"), host=host, **BEARER).passed, host
    assert_refused(ask(guard("0.0.0.0"), host="evil.example", **BEARER), 403, "--allow_origin")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:3000", "https://evil.example:8000"]
)
def test_foreign_page_is_refused_although_it_has_the_token(method, origin):
    """A browser that knows the password sends it with requests of every page."""
    assert_refused(ask(guard(), method, origin=origin, **basic("any", TOKEN)), 403, "origin")
    assert_refused(ask(guard(), "OPTIONS", origin=origin), 403, "origin")


def test_own_page_is_let_in():
    assert ask(guard(), "POST", origin="http://127.0.0.1:8000", **BEARER).passed


def test_allowed_origin_is_let_in_as_page_and_as_host():
    allowing = guard(allow_origins=("https://viewer.hospital.org",))
    assert ask(allowing, "POST", origin="https://viewer.hospital.org", **BEARER).passed
    assert ask(allowing, "OPTIONS", origin="https://viewer.hospital.org").passed, "browsers ask first, without token"
    assert ask(allowing, host="viewer.hospital.org", **BEARER).passed, "behind a proxy"
    assert_refused(ask(allowing, "POST", origin="http://viewer.hospital.org", **BEARER), 403, "origin")
    assert_refused(ask(allowing, "POST", origin="https://viewer.hospital.org"), 401, "token")


@pytest.mark.parametrize("key", ["image", "id", "label", "tag", "session_id", "model"])
@pytest.mark.parametrize(
    "value", ["..", ".hidden", "../x", "/etc/x", "a/b", "a\\b", "C:x", "x%00", "x%0Ay", "%2e%2e%2fx"]
)
def test_name_that_leads_to_another_folder_is_refused(key, value):
    answer = ask(guard(), "PUT", "/datastore/label", f"output=a/b&{key}=p01&{key}={value}", **BEARER)
    assert_refused(answer, 400, key)


def test_names_of_images_are_let_in():
    query = "image=p01_flair&tag=final&label=p+01&check_sum=SHA256:ab/c&output=image&session_id="
    assert ask(guard(), "POST", "/infer/tmca", query, **BEARER).passed
    assert is_name("1.2.840.113619") and is_name("Röntgen 1") and not is_name("")


@pytest.mark.parametrize("path", ["/session/..", "/model/a\\b", "/infer/x\0", "/datastore/../logs"])
def test_path_that_leads_to_another_folder_is_refused(path):
    assert_refused(ask(guard(), path=path, **BEARER), 400, "path")


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/proxy/dicom/x"), ("POST", "/infer/wsi/tmca"), ("POST", "/infer/wsi_v2/x"), ("POST", "/scoring/")],
)
def test_functions_that_the_app_lacks_are_closed(method, path):
    assert_refused(ask(guard(), method, path, **BEARER), 404, "not served")


@pytest.mark.parametrize("host", [f"{HOST}, evil.example", f"{HOST}@evil.example", "evil.example/127.0.0.1:8000"])
def test_host_that_is_more_than_a_host_is_refused(host):
    assert_refused(ask(guard(), host=host, **BEARER), 403, "is not this server")


def test_header_that_is_sent_twice_fits_nothing():
    pairs = [(b"host", HOST.encode()), (b"Host", b"evil.example"), (b"Authorization", b"Bearer x")]
    assert read_headers({"headers": pairs}) == {"host": f"{HOST}, evil.example", "authorization": "Bearer x"}


def test_websocket_is_closed_and_start_up_reaches_the_application():
    seen, sent = [], []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    async def send(message):
        sent.append(message["type"])

    guarded = Access(app, "127.0.0.1", TOKEN)
    asyncio.run(guarded({"type": "websocket", "headers": []}, None, send))  # type: ignore[arg-type]
    asyncio.run(guarded({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    assert seen == ["lifespan"] and sent == ["websocket.close"]
