"""The bundles behind a real MONAI Label server, over REST; MONAILABEL_PYTHON names the interpreter that has it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.bundles.running import ROOT, environment
from tests.serving.labelling import KINDS, SENTENCES, lies_on, read, write_studies

PYTHON = os.environ.get("MONAILABEL_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="MONAILABEL_PYTHON is not set"),
]
PATIENCE = 300  # seconds
OPTIONS: dict[str, dict[str, Any]] = {  # another mask than without
    "brainsegdmlf": {"overlap": 0.8},
    "emclip_cardiac": {"largest_component": False},
    "tmca": {"sentence": SENTENCES[0]},
}
ENDINGS = {"brain": "_flair.nii.gz", "heart": ".nii.gz", "eye": ".png", "chest": ".png"}


@dataclass
class Server:
    """A running server: its address, its folders, its log."""

    url: str
    app: Path
    studies: Path
    log: Path
    own: Path  # folders with the images and labels of one kind each

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code}\n{self.log.read_text()[-6000:]}") from error

    def infer(self, model: str, image: str, folder: Path, **params: Any) -> tuple[np.ndarray, np.ndarray]:
        """The label map of an image, with its affine."""
        body = urllib.parse.urlencode({"params": json.dumps({"device": "cpu", **params})}).encode()
        answer = self.ask(f"/infer/{model}?image={image}&output=image", body, "application/x-www-form-urlencoded")
        file = folder / f"answer{'.png' if answer.startswith(b'PNG', 1) else '.nii.gz'}"
        file.write_bytes(answer)
        return read(file)

    def train(self, model: str, **params: Any) -> dict[str, Any]:
        """Train in a process of the server's; what it says at the end."""
        request = {"max_epochs": 1, "device": "cpu", "val_split": 0.34, **params}
        self.ask(f"/train/{model}", json.dumps(request).encode())
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status = json.loads(self.ask("/train/"))
            if status["status"] not in ("SUBMITTED", "RUNNING"):
                return status
            time.sleep(1)
        raise AssertionError(f"no end of training\n{self.log.read_text()[-6000:]}")

    def label(self, kind: str) -> None:
        """Let the images of one kind alone have labels."""
        final = self.studies / "labels" / "final"
        shutil.rmtree(final)
        shutil.copytree(self.own / kind / "labels" / "final", final)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    studies, own, log = folder / "studies", folder / "own", folder / "server.log"
    (studies / "labels" / "final").mkdir(parents=True)
    for kind in ENDINGS:
        write_studies(own / kind, kind)
        for file in (own / kind).glob("*.*"):
            shutil.copy(file, studies)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(PYTHON), "-m", "shared", "label", "--studies", str(studies), "--app", str(folder / "app")]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            running = Server(f"http://127.0.0.1:{port}", folder / "app", studies, log, own)
            _wait(running, process)
            yield running
        finally:
            process.terminate()
            process.wait(30)


def _wait(server: Server, process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, server.log.read_text()[-6000:]
        try:
            urllib.request.urlopen(f"{server.url}/info/", timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"the server does not answer\n{server.log.read_text()[-6000:]}")


def image_of(kind: str, number: int = 0) -> str:
    return f"{kind}{number}" + ("_flair" if kind == "brain" else "")


def test_all_bundles_are_served_at_once(server):
    info = json.loads(server.ask("/info/"))
    assert set(info["models"]) == set(info["trainers"]) == set(KINDS)
    assert info["models"]["emclip_cardiac"]["labels"] == {
        "left ventricle": 1,
        "myocardium": 2,
        "right ventricle": 3,
    }
    assert info["models"]["tmca"]["config"]["sentence"] == ""


@pytest.mark.parametrize("model", list(KINDS))
def test_label_map_lies_on_the_image(server, tmp_path, model):
    kind = KINDS[model]
    pred, affine = server.infer(model, image_of(kind), tmp_path)
    truth, place = read(server.own / kind / "labels" / "final" / f"{kind}0{ENDINGS[kind]}")
    assert pred.shape == truth.shape
    np.testing.assert_allclose(affine, place, atol=1e-4)
    assert lies_on(pred, truth)


@pytest.mark.parametrize("model", list(OPTIONS))
def test_options_take_effect(server, tmp_path, model):
    image = image_of(KINDS[model], 2)  # of hearts one that is hard to see, in which windows and pieces differ
    plain, _ = server.infer(model, image, tmp_path)
    assert not np.array_equal(server.infer(model, image, tmp_path, **OPTIONS[model])[0], plain)
    np.testing.assert_array_equal(server.infer(model, image, tmp_path)[0], plain)


def test_uploaded_file_with_all_sequences(server, tmp_path):
    volumes: list[Any] = [nib.load(server.studies / f"brain0_{name}.nii.gz") for name in ("flair", "t1", "t1ce", "t2")]
    whole = tmp_path / "whole.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([np.asarray(v.dataobj) for v in volumes], -1), volumes[0].affine), whole)
    parts = [
        b'--cut\r\nContent-Disposition: form-data; name="params"\r\n\r\n{"device":"cpu"}\r\n',
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="whole.nii.gz"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + whole.read_bytes() + b"\r\n--cut--\r\n",
    ]
    answer = server.ask("/infer/brainsegdmlf?output=image", b"".join(parts), "multipart/form-data; boundary=cut")
    (tmp_path / "answer.nii.gz").write_bytes(answer)
    pred, affine = read(tmp_path / "answer.nii.gz")
    np.testing.assert_array_equal(pred, server.infer("brainsegdmlf", "brain0_flair", tmp_path)[0])
    np.testing.assert_allclose(affine, volumes[0].affine, atol=1e-4)


@pytest.mark.parametrize("model", list(KINDS))
def test_training_is_followed_by_inference_with_the_new_weights(server, tmp_path, model):
    kind, models = KINDS[model], server.app / "model" / model / "models"
    before, _ = server.infer(model, image_of(kind), tmp_path)
    shipped = (models / "model.pt").read_bytes()
    server.label(kind)
    status = server.train(model)
    assert status["status"] == "DONE", "\n".join(status["details"])
    assert "inference uses the new weights" in status["details"][-1]
    assert (models / "model.pt").read_bytes() != shipped
    (old,) = models.glob("model_*.pt")
    assert old.read_bytes() == shipped
    after, _ = server.infer(model, image_of(kind), tmp_path)
    assert after.shape == before.shape and not np.array_equal(after, before)
    np.testing.assert_array_equal(server.infer(model, image_of(kind), tmp_path, model_filename=old.name)[0], before)


def test_training_without_labels_says_so(server):
    final = server.studies / "labels" / "final"
    shutil.rmtree(final)
    final.mkdir()
    status = server.train("tmca")
    assert status["status"] == "ERROR"
    assert "no labelled image for training" in "\n".join(status["details"])


def test_checkout_is_untouched():
    changed = subprocess.run(
        ["git", "status", "--porcelain", "bundles/brainsegdmlf/models", "bundles/emclip/models", "bundles/tmca/models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert changed.stdout == ""
