"""Each public layout, from a made folder of its shape to items that the bundle's own checks and transforms take."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emclip.data import load_source, load_unseen
from emclip.data import preflight as check_emclip
from emclip.measures import ejection_fractions
from tmca.data import preflight as check_tmca
from tmca.data import with_sentences

from shared.datasets.cases import load_split
from shared.datasets.datalist import expand_datalist
from shared.datasets.layouts import LAYOUTS
from shared.datasets.preflight import check_pictures
from shared.datasets.preflight import preflight as check_brain
from shared.datasets.public import SPLITS, find_layout, make_datalist, training_command
from shared.io.pictures import LoadPictured, LoadPictureLabeld
from shared.io.volumes import LoadLabeld, LoadSequencesd
from shared.options.overrides import default_values, unknown_overrides
from tests.bundles.running import ROOT, files
from tests.datasets.layouts.published import SETS, Expected


@pytest.fixture(scope="module", params=list(SETS), ids=lambda name: name.replace(" ", "_"))
def made(request, tmp_path_factory) -> dict[str, Any]:
    """A published folder and the list made from it."""
    folder = tmp_path_factory.mktemp("published")
    published = SETS[request.param]
    expected: Expected = published.make(folder)
    before = files(folder)
    name = request.param.split()[0]
    path = make_datalist(name, folder, folder.parent / f"list_of_{folder.name}", progress=False)
    content = json.loads(path.read_text(encoding="utf-8"))
    return {"name": name, "path": path, "content": content, "expected": expected, "published": published} | {
        "folder": folder,
        "before": before,
    }


def config(name: str) -> dict[str, Any]:
    """The bundle's settings for a layout: train.json, its override files, and the options that are printed."""
    layout = LAYOUTS[name]
    configs = ROOT / "bundles" / layout.bundle / "configs"
    settings: dict[str, Any] = {}
    for file in ("train", *layout.configs):
        settings |= json.loads((configs / f"{file}.json").read_text(encoding="utf-8"))
    words = layout.options.split()
    options = {key.lstrip("-"): value for key, value in zip(words[::2], words[1::2])}
    assert unknown_overrides(options, default_values(configs)) == []
    if "channels" in options:
        settings["channels"] = json.loads(options["channels"].strip('"').replace("'", '"'))
    return settings


def items(made: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {split: expand_datalist(made["path"], split) for split in SPLITS if split in made["content"]}


def test_splits(made):
    lists = items(made)
    cases = {item["case_id"]: split for split, part in lists.items() for item in part}
    assert {case for case, split in cases.items() if split != "unlabelled"} == set(made["expected"])
    assert all(lists[split] for split in ("training", "validation", "testing"))
    published = made["published"]
    if published.counts:
        assert tuple(len(lists.get(split, [])) for split in SPLITS) == published.counts
    for split, domains in zip(SPLITS, published.domains):
        assert {item.get("domain") for item in lists[split]} >= domains
    assert made["content"]["licence"] and made["content"]["reference"].startswith("http")


def test_originals_are_untouched_and_nothing_is_copied(made):
    assert files(made["folder"]) == made["before"]
    for part in items(made).values():
        for item in part:
            images = item["image"] if isinstance(item["image"], list) else [item["image"]]
            for path in [*images, item.get("label")]:
                assert path is None or Path(path).is_file()
    made_names = {path.parent.name for path in made["path"].parent.rglob("*.*") if path != made["path"]}
    assert made_names <= {f"{made['name']}_labels", f"{made['name']}_images"}


def test_the_bundle_takes_it(made, tmp_path):
    """Preflight of all cases, and the labels as the bundle's own transforms load them."""
    name, settings, lists = made["name"], config(made["name"]), items(made)
    labelled = [part for split, part in lists.items() if split != "unlabelled"]
    labels, bundle = settings["labels"], LAYOUTS[name].bundle
    if bundle == "brainsegdmlf":
        check_brain(labelled, settings["channels"], tmp_path, labels)
        load = [LoadSequencesd("image", settings["channels"]), LoadLabeld("label", labels=labels)]
    elif bundle == "emclip":
        flat = settings["pictures"]
        arguments = (settings["channels"], tmp_path, labels, flat)
        check_emclip(labelled, settings["structures"], settings["sentences"], *arguments)
        volumes = [LoadSequencesd("image", settings["channels"]), LoadLabeld("label", labels=labels)]
        load = [LoadPictured("image"), LoadPictureLabeld("label", labels=labels)] if flat else volumes
    else:
        labelled = [with_sentences(part) for part in labelled]
        check_tmca(labelled, tmp_path, labels)
        load = [LoadPictured("image", grey=True), LoadPictureLabeld("label", labels=labels)]
    for item in [item for part in labelled for item in part]:
        for transform in load:
            item = transform(item)
        wanted = made["expected"][item["case_id"]]
        found = np.asarray(item["label"])[0]
        if name == "kvasir_seg":  # JPG is not exact at edges
            assert (found != wanted).mean() < 0.1
        else:
            np.testing.assert_array_equal(found, wanted)


def test_the_training_command_is_of_the_bundle(made):
    layout = LAYOUTS[made["name"]]
    command = training_command(layout, Path("/data/set"))
    assert f"bundles/{layout.bundle}/configs/train.json" in command and "--dataset_dir /data/set" in command
    for file in layout.configs:
        assert f"/configs/{file}.json" in command
        assert (ROOT / "bundles" / layout.bundle / "configs" / f"{file}.json").is_file()


def build(name: str, tmp_path: Path, **options: Any) -> dict[str, Any]:
    SETS[name].make(tmp_path / "data")
    return json.loads(
        make_datalist(name, tmp_path / "data", tmp_path / "list", progress=False, **options).read_text(encoding="utf-8")
    )


def places(content: dict[str, Any]) -> dict[str, set[str]]:
    """Split -> case ids."""
    return {split: {item["case_id"] for item in content.get(split, [])} for split in SPLITS}


@pytest.mark.parametrize(
    "name, patient",
    [
        ("brats2023", lambda case: case.rpartition("-")[0]),
        ("rim_one_r3", lambda case: case[:3]),
        ("ms_cmrseg", lambda case: case.split("_")[0]),
        ("acdc", lambda case: case.split("_")[0]),
        ("qata_cov19", lambda case: case.split("_ses")[0]),
        ("mosmed_plus", lambda case: case.rpartition("_")[0] if "_study_" in case or "_case" in case else case),
    ],
)
def test_no_patient_is_in_two_splits(name, patient, tmp_path):
    for seed in range(5):
        lists = places(build(name, tmp_path, seed=seed, test_share=0.34))
        patients = [{patient(case) for case in cases} for split, cases in lists.items() if split != "unlabelled"]
        assert sum(map(len, patients)) == len(set.union(*patients))


def test_the_seed_draws_the_splits(tmp_path):
    first, again, other = (places(build("brats2021", tmp_path, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_shares(tmp_path):
    half = places(build("kvasir_seg", tmp_path, val_share=0.4, test_share=0.0))
    assert [len(half[split]) for split in SPLITS] == [3, 2, 0, 0]


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_large_shares_leave_a_patient_to_train(tmp_path, share):
    splits = places(build("kvasir_seg", tmp_path, val_share=share, test_share=share))
    assert splits["training"] and splits["validation"]


def test_the_command_to_train_quotes_a_folder_with_spaces():
    command = training_command(LAYOUTS["acdc"], Path("/data/my hearts"))
    words = shlex.split(command)
    assert words[words.index("--dataset_dir") + 1] == "/data/my hearts"


def test_sentences_come_from_the_tables(tmp_path):
    content = build("qata_cov19", tmp_path)
    texts = {item["case_id"]: item.get("text") for split in SPLITS for item in content.get(split, [])}
    assert texts["sub-S1_ses-1_vp-ap_cr"] == "infection of sub-S1_ses-1_vp-ap_cr"
    assert texts["sub-S9_ses-1_vp-ap_cr"] == "one infected area" and texts["covid_2"] is None
    mosmed = build("mosmed_plus", tmp_path / "other")
    assert all(item["text"] == f"infection of {item['case_id']}" for item in mosmed["training"])


def test_emclip_takes_domains_and_structures(tmp_path):
    """Training on one vendor or camera, the others unseen; the structures that were outlined."""
    build("mnms", tmp_path / "hearts")
    heart, nowhere = tmp_path / "hearts" / "list", tmp_path / "nowhere"
    assert {item["domain"] for item in load_source(heart, "training", nowhere, "vendor_A")} == {"vendor_A"}
    assert {item["domain"] for item in load_unseen(heart, nowhere)} == {"vendor_C", "vendor_D"}
    build("idrid", tmp_path / "eyes")
    eyes = load_split(tmp_path / "eyes" / "list", "training", nowhere, maker=Path)
    assert all(item["labelled"] == ["optic disc"] for item in eyes)
    assert check_pictures(eyes, [0, 100, 200], need_label=True) == []


@pytest.mark.parametrize("name", ["acdc", "mnms"])
def test_hearts_name_patient_and_phase(name, tmp_path):
    """So that inference gives ejection fractions."""
    content = build(name, tmp_path)
    hearts = [item for split in SPLITS for item in content.get(split, [])]
    assert {item["phase"] for item in hearts} == {"ED", "ES"}
    assert all(item["case_id"] == f"{item['patient']}_{item['phase']}" for item in hearts)
    blank = {"lv_volume_ml": 100.0, "rv_volume_ml": 90.0}
    assert len(ejection_fractions([{**item, **blank} for item in hearts])) == len(hearts) / 2


def test_missing_sequences_are_null_in_the_bundles_order(tmp_path):
    for item in build("wmh2017", tmp_path / "wmh")["training"]:
        assert [path and Path(path).name for path in item["image"]] == ["FLAIR.nii.gz", "T1.nii.gz", None, None]
    for item in build("atlas2", tmp_path / "atlas")["training"]:
        assert [path is None for path in item["image"]] == [True, False, True, True]
    item = build("brats2023", tmp_path / "brats")["training"][0]
    assert [Path(path).name[-10:-7] for path in item["image"]] == ["t2f", "t1n", "t1c", "t2w"]


def test_open_ms_prefers_what_is_stripped_and_resampled(tmp_path):
    SETS["open_ms"].make(tmp_path / "data")
    home = tmp_path / "data" / "cross_sectional"
    (home / "coregistered").rename(home / "coregistered_resampled")
    SETS["open_ms"].make(tmp_path / "data")
    content = json.loads(
        make_datalist("open_ms", tmp_path / "data", tmp_path / "list", progress=False).read_text(encoding="utf-8")
    )
    assert all("coregistered_resampled" in item["image"][0] for item in content["training"])


@pytest.mark.parametrize("name", ["BraTS 2020", "brats-2018", "MosMedData+", "M&Ms", "RIGA+", "MSD_Task01"])
def test_names_that_people_use(name):
    assert find_layout(name).name in LAYOUTS


def test_the_page_lists_every_layout():
    page = (ROOT / "docs" / "your_data.md").read_text(encoding="utf-8")
    for layout in LAYOUTS.values():
        assert f"| `{layout.name}` | {layout.title} | `{layout.bundle}` |" in page
