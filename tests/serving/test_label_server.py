"""The bundles behind a real MONAI Label server, over REST; MONAILABEL_PYTHON names the interpreter that has it.

The last part sends what an attacker could send, with the token and without.
"""

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
import torch
from brainsegdmlf.phantoms.raw_study import make_raw_study

from tests.bundles.running import ROOT, environment
from tests.serving.labelling import KINDS, SENTENCES, lies_on, read, write_studies

PYTHON = os.environ.get("MONAILABEL_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="MONAILABEL_PYTHON is not set"),
]
PATIENCE = 300  # seconds
TOKEN = "a-token-of-the-tests-of-32-letters"
OPTIONS: dict[str, dict[str, Any]] = {  # each changes the mask
    "brainsegdmlf": {"overlap": 0.8},
    "emclip_cardiac": {"largest_component": False},
    "tmca": {"sentence": SENTENCES[0]},
}
JSON, FORM, PARTS = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=cut"
ENDINGS = {"brain": "_flair.nii.gz", "heart": ".nii.gz", "eye": ".png", "chest": ".png"}


def form(**params: Any) -> bytes:
    """Return the body of a form with the options of a request."""
    return urllib.parse.urlencode({"params": json.dumps(params)}).encode()


def part(name: str, content: bytes, file: str | None = None) -> bytes:
    """Return one part of a multipart body; `file` is the name of an uploaded file."""
    head = f'--cut\r\nContent-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file else "")
    return head.encode() + b"\r\nContent-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"


@dataclass
class Server:
    """A running server: its address, its folders and its log."""

    url: str
    app: Path
    studies: Path
    log: Path
    own: Path  # folders with the images and labels of one kind each

    def ask(self, path: str, body: bytes | None = None, kind: str = JSON) -> bytes:
        """Return the answer to a request that succeeds."""
        status, answer = self.answer(path, body, kind)
        assert status == 200, f"{path}: {status} {answer[:500]!r}\n{self.text()[-6000:]}"
        return answer

    def answer(
        self, path: str, body: bytes | None = None, kind: str = JSON, method: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Return status and content of the answer to a request; `headers` replace those of a client with the token."""
        given = {"Content-Type": kind, "Authorization": f"Bearer {TOKEN}", **headers}
        request = urllib.request.Request(self.url + path, data=body, headers=given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def text(self) -> str:
        """Return the log."""
        return self.log.read_text(encoding="utf-8")

    def infer(self, model: str, image: str, folder: Path, **params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the label map of an image and its affine."""
        answer = self.ask(f"/infer/{model}?image={image}&output=image", form(device="cpu", **params), FORM)
        file = folder / f"answer{'.png' if answer.startswith(b'PNG', 1) else '.nii.gz'}"
        file.write_bytes(answer)
        return read(file)

    def train(self, model: str, **params: Any) -> dict[str, Any]:
        """Train in a process of the server; return the status at its end."""
        request = {"max_epochs": 1, "device": "cpu", "val_split": 0.34, **params}
        self.ask(f"/train/{model}", json.dumps(request).encode())
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status = json.loads(self.ask("/train/"))
            if status["status"] not in ("SUBMITTED", "RUNNING"):
                return status
            time.sleep(1)
        raise AssertionError(f"no end of training\n{self.text()[-6000:]}")

    def label(self, kind: str) -> None:
        """Keep only the labels of the images of one kind."""
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
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env={**environment(), "LABEL_TOKEN": TOKEN},
            stdout=output,
            stderr=subprocess.STDOUT,
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
        assert process.poll() is None, server.text()[-6000:]
        try:
            if server.answer("/info/")[0] == 200:
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"the server does not answer\n{server.text()[-6000:]}")


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


def test_a_raw_study_is_prepared_and_the_mask_lies_on_its_flair(server, tmp_path):
    study = make_raw_study(1, ["flair", "t1"], coarse=True)
    for name, one in study.images.items():
        nib.save(nib.Nifti1Image(one.voxels, one.affine), server.studies / f"raw_{name}.nii.gz")
    pred, affine = server.infer("brainsegdmlf", "raw_flair", tmp_path)
    assert pred.shape == study.lesion.shape and not pred[study.brains["flair"] == 0].sum() > 0.1 * pred.sum()
    np.testing.assert_allclose(affine, study.flair_affine, atol=1e-4)
    answer = json.loads(server.ask("/infer/brainsegdmlf?image=raw_flair&output=json", form(device="cpu"), FORM))
    assert answer["preparation"]["steps"] == ["register t1", "correct the field", "remove the skull"]
    for image, params, part_of_line in (
        ("raw_t1", {}, "raw_t1.nii.gz lies on another grid than raw_flair.nii.gz"),
        ("raw_flair", {"prepare": "off"}, "case raw_flair: t1 has shape"),
        ("raw_flair", {"prepare": "of"}, "did you mean off?"),
    ):
        body = form(device="cpu", **params)
        status, line = server.answer(f"/infer/brainsegdmlf?image={image}&output=image", body, FORM)
        assert status == 400 and part_of_line in json.loads(line)["detail"]


@pytest.mark.parametrize("model", list(OPTIONS))
def test_options_take_effect(server, tmp_path, model):
    image = image_of(KINDS[model], 2)  # the noisiest: there windows and components differ
    plain, _ = server.infer(model, image, tmp_path)
    assert not np.array_equal(server.infer(model, image, tmp_path, **OPTIONS[model])[0], plain)
    np.testing.assert_array_equal(server.infer(model, image, tmp_path)[0], plain)


def test_uploaded_file_with_all_sequences(server, tmp_path):
    volumes: list[Any] = [nib.load(server.studies / f"brain0_{name}.nii.gz") for name in ("flair", "t1", "t1ce", "t2")]
    whole = tmp_path / "whole.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([np.asarray(v.dataobj) for v in volumes], -1), volumes[0].affine), whole)
    body = part("params", b'{"device":"cpu"}') + part("file", whole.read_bytes(), "whole.nii.gz") + b"--cut--\r\n"
    answer = server.ask("/infer/brainsegdmlf?output=image", body, PARTS)
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


def test_client_of_slicer_logs_in_and_segments(server):
    script = """
import sys
from monailabel.client import MONAILabelClient
url, token, folder = sys.argv[1:]
client = MONAILabelClient(url, folder)
assert client.auth_enabled() and not client.auth_valid_token()
client.update_auth(client.auth_token("me", token))
assert client.auth_valid_token() and "tmca" in client.info()["models"]
config = client.info()["models"]["tmca"]["config"]
params = {key: value[0] if isinstance(value, list) else value for key, value in config.items()}
file, answer = client.infer("tmca", "chest0", {**params, "result_extension": ".nrrd", "result_dtype": "uint8"})
assert file.endswith(".nrrd") and answer["label_names"] == {"opacity": 1}, (file, answer)
print(client.save_label("chest1", file, params={"label_info": [{"name": "opacity"}]})["label"])
"""
    command = [str(PYTHON), "-c", script, server.url, TOKEN, str(server.app)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "chest1" and (server.studies / "labels" / "final" / "chest1.nrrd").is_file()


def test_bad_input_is_answered_with_its_line(server):
    body = form(device="cpu", sequences="flare")
    status, answer = server.answer("/infer/brainsegdmlf?image=brain0_flair&output=image", body, FORM)
    assert status == 400 and json.loads(answer)["detail"] == "no sequence 'flare': did you mean 'flair'?"
    status, answer = server.answer("/infer/nothing?image=brain0_flair", form(), FORM)
    assert status == 400 and "no model 'nothing'" in json.loads(answer)["detail"]


def test_request_without_token_or_of_a_foreign_page_is_refused(server):
    assert server.answer("/info/", Authorization="")[0] == 401
    assert server.answer("/infer/tmca?image=chest0", form(), FORM, Authorization="Bearer wrong")[0] == 401
    assert server.answer("/info/", Origin="http://evil.example")[0] == 403
    assert server.answer("/info/", Host="evil.example")[0] == 403
    assert server.answer("/info/", Origin=server.url)[0] == 200


@pytest.fixture
def attacked(tmp_path) -> Iterator[tuple[Path, str]]:
    """A file that an attack would create, and the expression that would create it."""
    file = tmp_path / "attacked"
    yield file, f"$open({str(file)!r}, 'w')"
    assert not file.exists()


@pytest.mark.parametrize("option", ["sentence", "overlap", "resize", "result_extension", "device", "model_filename"])
def test_options_are_not_evaluated(server, attacked, option):
    status, answer = server.answer("/infer/tmca?image=chest0", form(**{"device": "cpu", option: attacked[1]}), FORM)
    assert status == 400 and option in json.loads(answer)["detail"]


@pytest.mark.parametrize("path", ["/train/tmca", "/train/", "/batch/infer/tmca"])
@pytest.mark.parametrize("option", ["device", "model_filename", "gpus"])
def test_options_of_trainings_and_batches_are_not_evaluated(server, attacked, path, option):
    params: dict[str, Any] = {"device": "cpu", option: attacked[1]}
    body = json.dumps({"tmca": params} if path == "/train/" else params).encode()
    status, answer = server.answer(f"{path}?run_sync=true", body)
    assert status == 400 and option in json.loads(answer)["detail"]


@pytest.mark.parametrize("option", ["max_epochs", "run_id", "tracking"])
def test_options_of_trainings_are_not_evaluated(server, attacked, option):
    body = json.dumps({"device": "cpu", option: attacked[1]}).encode()
    assert server.answer("/train/tmca?run_sync=true", body)[0] == 400


@pytest.mark.parametrize("name", ["../outside", "..%2Foutside", "%2Ftmp%2Foutside", "..", "a%5Cb"])
def test_names_lead_to_no_other_folder(server, name):
    before = {path for path in server.studies.parent.rglob("*") if "logs" not in path.parts}
    for address, field in (
        (f"/datastore/image?image={name}", "file"),
        (f"/datastore/label?image=chest0&tag={name}", "label"),
        (f"/datastore/label?image={name}", "label"),
    ):
        body = part("params", b"{}") + part(field, b"x", "x.png") + b"--cut--\r\n"
        assert server.answer(address, body, PARTS, method="PUT")[0] == 400
    assert server.answer(f"/session/?session_id={name}", method="DELETE")[0] == 400
    tag = urllib.parse.unquote(name)
    assert server.answer("/infer/tmca?image=chest0", form(save_label=True, label_tag=tag), FORM)[0] == 400
    assert {path for path in server.studies.parent.rglob("*") if "logs" not in path.parts} == before


def test_options_name_no_other_file(server):
    plain = server.answer("/infer/tmca?image=chest0&output=image", form(device="cpu"), FORM)
    hidden = form(device="cpu", image="/etc/passwd", model="emclip", label="/etc/passwd")
    assert server.answer("/infer/tmca?image=chest0&output=image", hidden, FORM) == plain


@pytest.mark.parametrize("image, file", [("datastore_v2", "x.json"), ("datastore_v2.json", ".png")])
def test_only_images_are_stored(server, image, file):
    body = part("params", b"{}") + part("file", b"{}", file) + b"--cut--\r\n"
    before = (server.studies / "datastore_v2.json").read_bytes()
    status, answer = server.answer(f"/datastore/image?image={image}", body, PARTS, method="PUT")
    assert status == 400 and ".png" in json.loads(answer)["detail"]
    assert (server.studies / "datastore_v2.json").read_bytes() == before


def test_weights_are_replaced_by_loadable_ones_and_kept(server, tmp_path):
    models = server.app / "model" / "emclip" / "models"
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    broken = part("file", before["model.pt"][:-1000], "model.pt") + b"--cut--\r\n"
    status, answer = server.answer("/model/emclip", broken, PARTS, method="PUT")
    assert status == 400 and "cut short" in json.loads(answer)["detail"]
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before
    weights = torch.load(models / "model.pt", weights_only=True)
    torch.save({key: torch.zeros_like(value) for key, value in weights.items()}, tmp_path / "zeros.pt")
    whole = part("file", (tmp_path / "zeros.pt").read_bytes(), "model.pt") + b"--cut--\r\n"
    status, answer = server.answer("/model/emclip", whole, PARTS, method="PUT")
    assert status == 200
    assert (models / json.loads(answer)["kept"]).read_bytes() == before["model.pt"]
    mask, _ = server.infer("emclip", "eye0", tmp_path)
    assert len(np.unique(mask)) == 1, "the new weights are used: zeros give every pixel the same score"


def test_checkout_is_untouched():
    changed = subprocess.run(
        ["git", "status", "--porcelain", "bundles/brainsegdmlf/models", "bundles/emclip/models", "bundles/tmca/models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert changed.stdout == ""
