"""``python -m shared label``: what it refuses before it starts, and how it starts MONAI Label's server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared.__main__ import label as command
from shared.serving.label_server import ACCESS, TOKEN, check_origin, check_port, choose_token
from tests.bundles.running import ROOT, assert_one_line, environment, free_port, input_error
from tests.serving.labelling import with_sample_app


def test_missing_folder_of_images_is_refused(tmp_path):
    line = input_error(command, studies=str(tmp_path / "none"))
    assert_one_line(line, [str(tmp_path / "none"), "--studies"])
    assert_one_line(input_error(command), ["--studies FOLDER"])


def test_switch_takes_true_or_false(tmp_path):
    assert_one_line(input_error(command, studies=str(tmp_path), start="perhaps"), ["--start", "true or false"])
    assert_one_line(input_error(command, studies=str(tmp_path), no_token="maybe"), ["--no_token", "true or false"])


def test_port_that_cannot_be_used_is_refused(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = input_error(command, studies=str(tmp_path), app=str(tmp_path / "app"), port=port)
        assert_one_line(line, [f"port {port}", "--port"])
    check_port("127.0.0.1", port)
    assert_one_line(input_error(check_port, "127.0.0.1", "many"), ["'many'", "--port"])
    assert_one_line(input_error(check_port, "no.such.host.invalid", 8000), ["no.such.host.invalid", "--host"])


def test_command_line_prints_one_line(tmp_path):
    words = [sys.executable, "-m", "shared", "label", "--studies", str(tmp_path / "none")]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert_one_line(done.stderr.strip(), ["error:", str(tmp_path / "none")])


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Start the server with options; return its command, its folder and its environment."""
    with_sample_app(monkeypatch, tmp_path / "sample")
    calls = []
    for variable in (ACCESS, "PYTHONPATH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(os, "execv", lambda path, words: calls.append((path, words, Path.cwd(), dict(os.environ))))
    monkeypatch.chdir(tmp_path)

    def start(**options):
        command(studies=str(tmp_path), models="tmca", app=str(tmp_path / "app"), port=free_port(), **options)
        return calls[-1]

    return start


def test_server_is_monai_labels_with_our_application(started, tmp_path):
    path, words, folder, environ = started(train="false")
    text = " ".join(words)
    assert path == sys.executable and folder == tmp_path / "app"
    for part in ("models tmca", "zoo_source local", "sam2 false", "skip_trainers true", "--host 127.0.0.1"):
        assert part in text
    assert words[words.index("--studies") + 1] == str(tmp_path)
    assert words[words.index("--uvicorn_app") + 1] == "shared.serving.guarded_server:app"


def test_server_takes_shared_from_the_app(started, tmp_path):
    *_, environ = started()
    (folder,) = environ["PYTHONPATH"].split(os.pathsep)
    assert folder == str(tmp_path / "app" / "model" / "tmca")
    assert (Path(folder) / "shared" / "serving" / "guarded_server.py").is_file()


def test_token_is_printed_and_kept_out_of_the_command(started, monkeypatch, capsys):
    monkeypatch.delenv(TOKEN, raising=False)
    _, words, _, environ = started()
    token = json.loads(environ[ACCESS])["token"]
    assert len(token) >= 32 and f"password: {token}" in capsys.readouterr().out
    assert not any(token in word for word in words)
    assert json.loads(started()[3][ACCESS])["token"] != token, "a new one for every start"


def test_token_of_the_environment_is_used(started, monkeypatch):
    monkeypatch.setenv(TOKEN, "correct-horse-battery")
    assert json.loads(started()[3][ACCESS])["token"] == "correct-horse-battery"


def test_no_token_says_who_can_use_the_server(started, capsys):
    *_, environ = started(no_token=True)
    assert json.loads(environ[ACCESS])["token"] is None
    assert "no token: programs of this machine can" in capsys.readouterr().out


@pytest.mark.parametrize("token", ["short", "sixteen letters with spaces", "sechzehnbuchstaben\u00e4"])
def test_weak_token_is_refused(monkeypatch, token):
    monkeypatch.setenv(TOKEN, token)
    assert_one_line(input_error(choose_token), [TOKEN, "16"])


def test_allowed_origins_reach_the_server(started):
    *_, environ = started(allow_origin="https://Viewer.hospital.org/, http://127.0.0.1:3000")
    assert json.loads(environ[ACCESS])["allow_origins"] == ["https://viewer.hospital.org", "http://127.0.0.1:3000"]


@pytest.mark.parametrize("origin", ["*", "viewer.hospital.org", "ftp://viewer", "http://viewer/page", "http://[", ""])
def test_origin_that_no_browser_sends_is_refused(origin):
    assert_one_line(input_error(check_origin, origin), [repr(origin), "--allow_origin"])
