"""The pages' commands name files and options that exist, those of the task pages run, and links lead somewhere."""

from __future__ import annotations

import re
import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from brainsegdmlf.phantoms.raw_study import make_raw_study, write_dicom, write_nifti
from monai.bundle import __main__ as bundle_verbs

from shared import __main__ as verbs
from shared.options.overrides import wrong_overrides
from tests.bundles.facts import BUNDLES
from tests.bundles.running import PLAIN, ROOT
from tests.docs_commands import Command, blocks, config_files, inline, parsed, problems
from tests.making import brain_affine, make_brain, make_cine, make_heart, save_series

TASKS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *TASKS, *sorted(ROOT.glob("bundles/*/docs/*.md"))]
OF_OTHER_PROGRAMS = {"name", "use_trace", "ckpt_file", "input_shape"}  # of monai.bundle's verbs
OF_OTHER_PROGRAMS |= {"node_rank", "master_addr"}  # of torchrun
OF_OTHER_PROGRAMS |= {"coarse"}  # of raw_study.py
OF_OUR_VERBS = {
    option
    for verb in (verbs.check, verbs.options, verbs.operating_point, verbs.datalist, verbs.label, verbs.package)
    for option in signature(verb).parameters
}
OURS = [page for page in TASKS if page.name not in ("README.md", "results.md", "bad_inputs.md", "monai_label.md")]
RADIOGRAPH = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "77654033" / "CR1" / "6154"
TINY_PROGRAMS = {  # what makes a page's program quick
    "ROUNDS, LOCAL_EPOCHS = 20, 1": "ROUNDS, LOCAL_EPOCHS = 1, 1",
    "options = {": "options = {'device': 'cpu', 'amp': False, 'patch_size': [32, 32], ",
}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT)).replace("/docs/README.md", "").replace("/", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_what_exists(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = [line for block in blocks(page) for line in block.commands]
    assert [problem for line in commands for problem in problems(line)] == []
    assert commands or page.name == "options.md" or page.parent == ROOT / "docs"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_in_the_text_are_taken(page):
    """By the page's bundle, or of a page of all bundles by one of them, or by a command of ours or of others."""
    every = [bundle.folder for bundle in BUNDLES.values()]
    homes = [page.parents[1]] if page.parent.parent.parent.name == "bundles" else every
    wrong = []
    for option in inline(page):
        if not option.keys() <= OF_OTHER_PROGRAMS | OF_OUR_VERBS:
            found = [wrong_overrides(option, home / "configs") for home in homes]
            wrong += [] if [] in found else found[0]
    assert wrong == []


@pytest.mark.parametrize(
    "line, part",
    [
        ("python -m monai.bundle run --config_file bundles/tmca/configs/trian.json", "no file"),
        ("python -m monai.bundle run --config_file bundles/tmca/configs/train.json --epoch 3", "'epoch'"),
        ("python -m monai.bundle run --config_file bundles/tmca/configs/train.json --epochs few", "'few'"),
        ("python -m monai.bundle ckpt_exprt network_def", "no verb ckpt_exprt"),
        ("torchrun -m monai.bundle run --config_file bundles/tmca/configs/train.json --epochs 0", "at least 1"),
        ("python -m shared check tmcaa", "did you mean tmca?"),
        ("python -m shared check tmca --config_file inferense", "no config"),
        ("python -m shared check tmca --epochs few", "'few'"),
        ("python -m shared datalist brat2021 /data/brats", "did you mean 'brats2021'?"),
        ("python -m shared package --folder out", "folder"),
        ("python -m shared pack", "no verb pack"),
        ("python bundles/tmca/tmca/make_wights.py", "make_wights.py"),
    ],
)
def test_what_rots_is_found(line, part, monkeypatch):
    monkeypatch.chdir(ROOT)
    (problem,) = problems(line)
    assert part in problem


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(
        r"^#+ +(.+)$", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def lost_links(page: Path) -> list[str]:
    lost = []
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in slugs(file)):
            lost.append(target)
    return lost


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "benchmarks").rglob("*.md"))], ids=name)
def test_links_lead_somewhere(page):
    assert lost_links(page) == []


def test_lost_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing, first\n[a](#one-thing-first) [b](#two) [c](page.md#one-thing-first) [d](other.md)\n",
        encoding="utf-8",
    )
    assert lost_links(page) == ["#two", "other.md"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_says_what_it_is(page):
    assert re.search("research software, (no|not a) medical device", page.read_text(encoding="utf-8").lower())


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """What the pages' commands find: the bundles, `data` and `scans`."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "bundles").symlink_to(ROOT / "bundles")
    (folder / "data").mkdir()
    for data, bundle in (("brains", "brainsegdmlf"), ("eyes", "emclip"), ("chests", "tmca")):
        BUNDLES[bundle].write_cases(folder / "data" / data)
    for hospital in ("hospital_a", "hospital_b"):
        (folder / "data" / hospital).symlink_to(folder / "data" / "brains")
    scans = folder / "scans"
    scans.mkdir()
    for number, sequence in enumerate(("flair", "t1", "t2")):
        shutil.copy(folder / "data" / "brains" / f"p0_{sequence}.nii.gz", scans / f"{sequence}.nii.gz")
        if sequence != "t2":
            save_series(scans / "dicom" / sequence, list(make_brain(0)[0].values())[number], brain_affine())
    shutil.copy(folder / "data" / "eyes" / "p0.png", scans / "eye.png")
    shutil.copy(folder / "data" / "chests" / "p0.png", scans / "chest.png")
    heart = make_heart(0)[0]
    nib.save(nib.Nifti1Image(heart, np.diag([1.5, 1.5, 8, 1])), scans / "heart.nii.gz")
    nib.save(nib.Nifti1Image(make_cine()[0], np.diag([1.5, 1.5, 8, 1])), scans / "cine.nii.gz")
    raw = make_raw_study(1, ("flair", "t1"), coarse=True)
    write_dicom(raw, scans / "study")
    for patient in ("p1", "p2"):  # of one content, so that the second one is found prepared
        write_nifti(raw, scans / "studies" / patient)
    shutil.copy(RADIOGRAPH, scans / "dicom" / "chest.dcm")
    save_series(scans / "dicom" / "heart", np.clip(heart, 0, None), np.diag([1.5, 1.5, 8.0, 1]))
    return folder


def run(command: Command) -> None:
    """In this process, with less to do; what a command promises to write must be there afterwards."""
    module: Any = bundle_verbs if command.module == "monai.bundle" else verbs
    options = dict(command.options)
    if command.module == "monai.bundle" and command.verb == "run":
        files = [Path(file).stem for file in config_files(command)]
        bundle = config_files(command)[0].split("/")[1]
        options |= {**PLAIN, **BUNDLES[bundle].size}
        written = "predictions.json"
        if "train" in files:
            options |= {**BUNDLES[bundle].short, **BUNDLES[bundle].quiet, "epochs": 2 if options.get("resume") else 1}
            written = "metrics.json" if "evaluate" in files else "models/model.pt"
        getattr(module, command.verb)(**options)
        assert (Path(options["output_dir"]) / written).is_file()
    else:
        getattr(module, command.verb)(*command.words, **options)
        assert "filepath" not in options or Path(options["filepath"]).is_file()


@pytest.mark.parametrize("page", OURS, ids=name)
def test_commands_run(page, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    ran = 0
    for block in blocks(page):
        text = re.sub(r"/(data|scans)/", rf"{home}/\1/", block.text)
        if block.language == "python":
            for usual, tiny in TINY_PROGRAMS.items():
                text = text.replace(usual, tiny)
            exec(compile(text, str(page), "exec"), {})
            ran += 1
        elif not block.language and not block.only_checked:
            for line in text.splitlines():
                command = parsed(line)
                assert command is not None, f"mark it as only checked: {line}"
                run(command)
                ran += 1
    assert ran
