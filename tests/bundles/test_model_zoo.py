"""What the Model Zoo's own check asks of a bundle (its ci/verify_bundle.py and CONTRIBUTING.md), for all three."""

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from monai.bundle import verify_metadata, verify_net_in_out

from tests.bundles.running import ROOT

BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))
NEEDED = ["LICENSE", "configs/metadata.json", "configs/train.json", "configs/evaluate.json", "configs/inference.json"]
NEEDED += ["configs/multi_gpu_train.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"]
SECTIONS = ["Authors", "Tags", "Model Description", "Data", "Performance", "Additional Usage Steps"]
SECTIONS += ["System Configuration", "Limitations", "Citation Info", "References"]  # of its docs/readme_template.md
INFERENCE = ["bundle_root", "device", "network_def", "inferer", "output_dir", "dataset_dir", "evaluator"]
TRAIN = ["bundle_root", "device", "dataset_dir", "network_def", "train", "validate"]
REAL = os.environ.get("BUNDLES_REAL_DATA")
LARGEST = 25 * 2**20  # bytes of one file in git


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request):
    return request.param


def content(bundle, name):
    return json.loads((bundle / "configs" / name).read_text(encoding="utf-8"))


def test_there_are_three():
    assert {path.name for path in BUNDLES} >= {"brainsegdmlf", "emclip", "tmca"}


def test_files_that_must_be_there(bundle):
    assert [name for name in NEEDED if not (bundle / name).is_file()] == []
    assert "Apache License" in (bundle / "LICENSE").read_text(encoding="utf-8")


def test_version_is_in_the_changelog(bundle):
    metadata = content(bundle, "metadata.json")
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"]) and metadata["version"] in metadata["changelog"]


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
def test_metadata_follows_the_schema(bundle, tmp_path):
    copy = tmp_path / "schema.json"
    shutil.copy(Path(str(REAL)) / "schema" / "meta_schema_20240725.json", copy)
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(copy))


@pytest.mark.parametrize("config", ["inference.json", "train.json"])
def test_verify_net_in_out(bundle, config, monkeypatch):
    monkeypatch.chdir(ROOT)
    configs = bundle / "configs"
    meta, file = str(configs / "metadata.json"), str(configs / config)
    verify_net_in_out("network_def", meta_file=meta, config_file=file, device="cpu")


def test_image_and_pred_come_first(bundle):
    """Its check of the network, and MONAI Label, take these."""
    formats = content(bundle, "metadata.json")["network_data_format"]
    assert next(iter(formats["inputs"])) == "image" and next(iter(formats["outputs"])) == "pred"


def test_keys_that_the_specification_names(bundle):
    assert [key for key in INFERENCE if key not in content(bundle, "inference.json")] == []
    train = content(bundle, "train.json")
    assert [key for key in TRAIN if key not in train] == []
    for part, keys in (("train", ("trainer", "dataset", "inferer")), ("validate", ("evaluator", "dataset", "inferer"))):
        assert [key for key in keys if key not in train[part]] == []


def test_page_follows_the_template(bundle):
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    titles = [title.strip("* ") for title in re.findall(r"^#{2,3} (.+)$", page, re.MULTILINE)]
    title = page.splitlines()[0]  # the template's "Model Title" is a place to fill in
    assert title.startswith("# ") and bundle.name in title.lower().replace("-", "")
    assert [section for section in SECTIONS if section not in titles] == []
    assert "not a medical device" in page.lower()


def test_package_has_a_name_of_its_own_and_needs_nothing_of_other_bundles(bundle):
    package = bundle / bundle.name
    assert (package / "__init__.py").is_file() and not (bundle / "scripts").exists()
    others = {path.name for path in BUNDLES} - {bundle.name}
    for file in package.rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        found = {a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        found |= {(n.module or "").split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
        assert not found & others, file


def test_no_large_file_and_no_path_of_a_machine_in_git():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert [file for file in files if file.is_file() and file.stat().st_size > LARGEST] == []
    texts = [file for file in files if file.suffix in (".json", ".py", ".md", ".txt", ".yml") and file.is_file()]
    home = re.compile(r"/(?:root|home|Users)/\w")
    assert [file for file in texts if home.search(file.read_text(encoding="utf-8")) and file != ROOT / __file__] == []
