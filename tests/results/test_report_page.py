"""The report page: what it says of every case, in a browser and without one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from shared.core.errors import InputError, OutputError
from shared.results.case_report import CaseReport
from shared.results.predictions import PredictionHandler
from shared.results.report import ReportHandler
from shared.results.report_page import About, Record, shown, write_report
from shared.results.report_records import about_bundle, heading, prediction_records
from tests.bundles.running import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
BUNDLES = sorted(file.parents[1] for file in ROOT.glob("bundles/*/configs/metadata.json"))


class Page(HTMLParser):
    """The rows of the table of cases, all links, pictures and headings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.pictures: list[dict[str, Any]] = []
        self.scripts = 0
        self.lone_headings = 0
        self.text = path.read_text(encoding="utf-8")
        self._inside = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self._inside |= found.get("id") == "case-table"
        self.scripts += tag == "script"
        self.lone_headings += tag == "th" and "scope" not in found
        if tag == "tr" and self._inside:
            self.rows.append([])
        if tag in ("td", "th") and self._inside:
            self.rows[-1].append("")
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "img":
            self.pictures.append(found)

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "table"

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def column(self, name: str) -> list[str]:
        titles = [cell.strip() for cell in self.rows[0]]
        return [row[titles.index(name)].strip() for row in self.rows[1:]]


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (900, 600)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (size[1] // 30, size[0] // 30, 3), np.uint8)
    Image.fromarray(small).resize(size).save(path)
    return path.name


def run(folder: Path, volumes: dict[str, float], failures: dict[str, str] | None = None, **options: Any) -> Path:
    """An inference without a network, through the events of the handler; its folder."""
    items = [{"case_id": name, "image": f"/scans/{name}.nii.gz", "spacing": "mm"} for name in volumes]
    items += [{"case_id": name, "image": f"/scans/{name}.nii.gz"} for name in failures or {}]
    measure = {"measure": lambda label, spacing: {"lesion_volume_ml": float(label.max())}}
    handler = PredictionHandler(folder, items, ["t1"], ["lesion"], False, **{"report_page": True, **measure, **options})
    engine: Any = SimpleNamespace(failures=failures or {})
    handler._start(engine)
    for item in items[: len(volumes)]:
        pred = MetaTensor(torch.full((1, 2, 2, 2), volumes[item["case_id"]]))
        engine.state = SimpleNamespace(batch=[item], output=[{"pred": pred}])
        handler._write(engine)
    handler._close(engine)
    return folder


def test_what_users_name_is_shown_as_text(tmp_path):
    evil = '<script>alert("x")</script> & \'"><img src=x onerror=alert(1)>'
    figures = {f"side {evil}": evil}
    record = Record(evil, figures, text=evil, notes=[evil], inputs=[evil], overlay=evil, files={evil: evil})
    about = About(evil, evil, {evil: evil})
    page = Page(write_report(tmp_path / "p.html", evil, [record, Record("b", failed=evil)], about, remarks=[evil]))
    assert page.scripts == 1 and not page.pictures
    assert page.column("case")[0].startswith(evil) and page.column("notes") == [evil, f"Failed: {evil}"]
    assert (
        evil not in page.text and html.escape(evil).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page.text
    )


@pytest.mark.parametrize("name", ["a b", "50%", "a#b?c=d", "x:y", "ä ö", "javascript:alert(1)", "a\udcffb"])
def test_links_lead_to_files_of_any_name(tmp_path, name):
    try:
        picture(tmp_path / name / f"{name}_overlay.png")
    except (OSError, UnicodeError):
        pytest.skip("this disk has no such names")
    relative = f"{name}/{name}_overlay.png"
    page = Page(write_report(tmp_path / "p.html", "t", [Record(name, overlay=relative, files={"overlay": relative})]))
    assert len(page.links) == 2 and len(page.pictures) == 1
    for link in page.links:
        assert not re.match(r"[a-zA-Z][\w+.-]*:|/", link), "relative"
        assert (tmp_path / unquote(link, errors="surrogateescape")).is_file()


def test_a_file_that_is_missing_has_no_link(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    records = [Record("a", overlay="a.png", files={"overlay": "a.png", "mask": "gone.nii.gz"})]
    records += [Record("b", overlay="gone.png"), Record("c", overlay="broken.png")]
    page = Page(write_report(tmp_path / "p.html", "t", records))
    assert page.links == ["a.png", "a.png"] and len(page.pictures) == 1


def test_the_page_asks_for_nothing_from_the_network_and_every_heading_has_a_scope(tmp_path):
    picture(tmp_path / "a.png")
    records = [Record("a", {"volume (mL)": 1.5}, overlay="a.png"), Record("b", {"volume (mL)": 2}, failed="why")]
    page = Page(write_report(tmp_path / "p.html", "t", records, tables={"domains": [{"domain": "x", "n": 1}]}))
    assert not re.search(r"https?:|url\(|@import|<link|srcset", page.text)
    assert "default-src 'none'" in page.text and page.lone_headings == 0
    assert [shot["alt"] for shot in page.pictures] == ["Overlay of case a"]


def test_thumbnails_are_small_and_kept_while_the_overlay_stays(tmp_path, monkeypatch):
    for name in "ab":
        picture(tmp_path / f"{name}.png", size=(1200, 800))
    records = [Record(name, overlay=f"{name}.png") for name in "ab"]
    first = Page(write_report(tmp_path / "p.html", "t", records)).pictures
    assert {(shot["width"], shot["height"]) for shot in first} == {("480", "320")}
    picture(tmp_path / "b.png", seed=1, size=(1200, 600))
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(Path(path).name) or real(path))
    second = Page(write_report(tmp_path / "p.html", "t", records)).pictures
    assert opened == ["b.png"], "only what changed is read"
    assert second[0] == first[0] and second[1]["height"] == "240"


def test_three_hundred_cases_are_light_and_cost_what_they_cost_one_by_one(tmp_path):
    """Overlays of the size and content that a brain has: noise within a head, in six slices."""
    rows, columns = np.mgrid[:870, :1122]
    head = ((columns % 374 - 187) / 170) ** 2 + ((rows % 435 - 217) / 200) ** 2 < 1
    for number in range(4):
        grey = np.where(head, np.random.default_rng(number).normal(120, 25, head.shape), 0).clip(0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / f"{number}.png")
    records = [Record(f"case {n}", {"volume": n / 7}, overlay=f"{n % 4}.png", notes=["a note"] * 2) for n in range(300)]
    seconds = []
    for count in (75, 300):
        write_report(tmp_path / f"{count}.html", "t", records[:4])  # the four thumbnails are kept
        began = time.process_time()
        page = write_report(tmp_path / f"{count}.html", "t", records[:count])
        seconds.append(time.process_time() - began)
    assert page.stat().st_size < 15e6
    assert seconds[1] < 12 * seconds[0] + 0.5


def test_figures_are_readable(tmp_path):
    assert [shown(value) for value in (None, float("nan"), 3, 0.123456, 123456.0, True, "left", [])] == [
        *("–", "–", "3", "0.1235", "123456", "yes", "left", "–")
    ]
    assert shown([5.0, 4.0, 3.0, 2.0, 1.0, 0.5]) == "5, 4, 3, 2 and 2 more"
    assert (
        heading("lesion_volume_ml") == "lesion volume (mL)"
        and heading("lv_ejection_fraction") == "LV ejection fraction"
    )
    records = [Record("a", {"volume": 1.0, "side": "left"}), Record("b", {"volume": 4.0, "count": 2}), Record("c")]
    page = Page(write_report(tmp_path / "p.html", "t", records))
    assert page.column("volume") == ["1", "4", "–"] and page.column("side") == ["left", "–", "–"]
    summary = re.search(r'<th scope="row">volume</th>(.*?)</tr>', page.text)
    assert summary and re.findall(r">([^<]+)</td>", summary[1]) == ["2", "2.5", "2.5", "1", "4"]


def test_notes_say_what_is_missing_and_which_unit_is_unknown(tmp_path):
    entry = {"case_id": "a", "image": ["/flair.nii", None], "missing": ["t1"], "prediction": "a/a_seg.nii.gz"}
    entry |= {"overlay": None, "measures": {"lesion_volume_voxels": 7}, "warnings": ["No pixel spacing."], "text": "s"}
    (record,) = prediction_records([entry], {})
    assert record.notes[0] == "Missing: t1." and "voxels" in record.notes[1] and record.notes[2] == "No pixel spacing."
    page = Page(write_report(tmp_path / "p.html", "t", [record]))
    assert "/flair.nii" in page.column("case")[0]


def test_a_prepared_case_shows_how_it_was_prepared_and_links_its_files(tmp_path):
    files = {"preparation": "a_preparation.json", "brain": "a_brain.nii.gz", "probabilities": "a_probabilities.nii.gz"}
    entry = {"case_id": "a", "image": ["/flair.nii"], "missing": [], "prediction": "a_seg.nii.gz"}
    entry |= {"overlay": picture(tmp_path / "a_overlay.png"), "warnings": ["the scan cuts the brain off"], **files}
    entry["preparation_picture"] = picture(tmp_path / "a_preparation.png", seed=1)
    for name in files.values():
        (tmp_path / name).touch()
    other = {"case_id": "b", "image": ["/b.nii"], "prediction": "b_seg.nii.gz", "overlay": None}
    page = Page(write_report(tmp_path / "p.html", "t", prediction_records([entry, other], {})))
    overlay, preparation = page.pictures
    assert (overlay["alt"], preparation["alt"]) == ("Overlay of case a", "Preparation of case a")
    assert overlay["src"] != preparation["src"]
    assert sorted(set(page.links)) == sorted([*files.values(), "a_overlay.png", "a_preparation.png"])
    for text in ("probability map", "brain mask", "preparation", "record (JSON)"):
        assert text in page.column("files")[0] and text not in page.column("files")[1]
    assert page.column("notes") == ["the scan cuts the brain off", ""]


def test_a_second_run_adds_its_cases_and_keeps_the_failed_ones(tmp_path):
    run(tmp_path, {"p1": 1.0}, {"p2": "its slices <have> gaps"})
    page = Page(tmp_path / "report.html")
    assert page.column("notes") == ["Failed: its slices <have> gaps", ""]
    assert "Failed cases" in page.text and "earlier runs" not in page.text
    run(tmp_path, {"p3": 3.0})
    page = Page(tmp_path / "report.html")
    assert [name.split("\n")[0] for name in page.column("case")] == ["p2", "p1", "p3"]
    assert page.column("lesion volume (mL)") == ["–", "1", "3"]
    assert "1 of the 2 segmented cases are from earlier runs" in page.text
    assert "p1/p1_seg.nii.gz" in page.links and "predictions.csv" in page.links
    run(tmp_path, {"p2": 2.0})
    page = Page(tmp_path / "report.html")
    assert "Failed" not in page.text and not (tmp_path / "failed.json").exists()
    assert sorted(name.split("\n")[0] for name in page.column("case")) == ["p1", "p2", "p3"]
    moved = tmp_path.rename(tmp_path.with_name("moved elsewhere"))
    assert all((moved / unquote(link)).is_file() for link in page.links if not link.startswith("#"))


def test_what_a_run_warns_of_stands_beside_the_case(tmp_path):
    """A DICOM SEG that fails, a unit that the header does not name."""

    def fail(*_: object) -> None:
        raise AttributeError("no SeriesInstanceUID")

    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    for place, image, part in (("dicom", str(tmp_path), "No DICOM SEG: no Series"), ("nifti", "a.nii.gz", "no unit")):
        items = [{"case_id": "p1", "image": str(tmp_path / image)}]
        measure = {"measure": lambda label, spacing: {"lesion_volume_ml": 1.0}}
        handler = PredictionHandler(
            tmp_path / place, items, ["t1"], ["lesion"], False, report_page=True, dicom_seg=fail, **measure
        )
        state = SimpleNamespace(batch=[{"case_id": "p1"}], output=[{"pred": MetaTensor(torch.zeros(1, 2, 2, 2))}])
        engine: Any = SimpleNamespace(failures={}, state=state)
        handler._start(engine)
        handler._write(engine)
        handler._close(engine)
        assert part in Page(tmp_path / place / "report.html").column("notes")[0]
        (entry,) = json.loads((tmp_path / place / "predictions.json").read_text(encoding="utf-8"))
        assert len(entry["warnings"]) == 1


def test_a_run_in_which_every_case_failed_has_a_page(tmp_path):
    run(tmp_path, {}, {"p1": "empty", "p2": "empty"})
    assert Page(tmp_path / "report.html").column("notes") == ["Failed: empty"] * 2


def test_a_run_that_stops_leaves_a_page_that_says_so(tmp_path):
    run(tmp_path, {"p1": 1.0})
    handler = PredictionHandler(tmp_path, [], ["t1"], ["lesion"], False, report_page=True)
    with pytest.raises(RuntimeError, match="memory"):
        handler._stop(SimpleNamespace(), RuntimeError("out of memory"))  # type: ignore[arg-type]
    page = Page(tmp_path / "report.html")
    assert "stopped before its end: out of memory" in page.text and len(page.rows) == 2


def test_no_page_unless_asked_for(tmp_path):
    run(tmp_path, {"p1": 1.0}, report_page=False)
    assert (tmp_path / "predictions.json").is_file() and not (tmp_path / "report.html").exists()


def test_a_full_disk_does_not_hide_what_stopped_the_run(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    handler = PredictionHandler(tmp_path, [], ["t1"], ["lesion"], False, report_page=True)
    monkeypatch.setattr("shared.results.predictions.write_prediction_page", full)
    with pytest.raises(InputError, match="the first cause"):
        handler._stop(SimpleNamespace(), InputError("the first cause"))  # type: ignore[arg-type]


def evaluate(folder: Path, **options: Any) -> ReportHandler:
    handler = ReportHandler(folder, ["disc", "cup"], overlays=0, report_page=True, title="validation", **options)
    handler.report = CaseReport(["disc", "cup"])
    for number, name in enumerate(("p1", "p2")):
        values = {"dice": 0.5 + number / 8, "hd95_px": 3.25, "iou": 0.123}
        handler.report.add(name, {"disc": values, "cup": values}, domain="camera b", text="a sentence")
    handler.pictures = [folder / "overlays" / picture(folder / "overlays" / "p2.png")]
    handler._finish(SimpleNamespace(state=SimpleNamespace(epoch=1)))  # type: ignore[arg-type]
    return handler


def test_an_evaluation_shows_the_figures_of_every_case(tmp_path, capsys):
    evaluate(tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.column("Dice disc") == ["0.50", "0.62"] and page.column("HD95 px cup") == ["3.2", "3.2"]
    assert page.column("domain") == ["camera b"] * 2 and "a sentence" in page.column("case")[0]
    assert len(page.pictures) == 1 and {"metrics.csv", "metrics.json", "overlays/p2.png"} <= set(page.links)
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_neither_replaces_the_page_of_the_other_nor_a_file_of_the_user(tmp_path):
    run(tmp_path, {"p1": 1.0})
    evaluate(tmp_path)
    assert "Segmentation results" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(tmp_path / "report_evaluation.html").column("Dice cup") == ["0.50", "0.62"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.html").write_text("<p>my own</p>", encoding="utf-8")
    run(mine, {"p1": 1.0})
    assert (mine / "report.html").read_text(encoding="utf-8") == "<p>my own</p>"
    assert (mine / "report_segmentation_results.html").is_file()


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_the_header_says_what_the_weights_are_for(bundle, tmp_path):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    about = about_bundle(bundle, bundle / "models" / "model.pt")
    assert (about.bundle, about.version) == (metadata["name"], metadata["version"])
    assert metadata["data_source"] in about.facts["Weights"] and "not a medical device" in about.facts["Intended use"]
    (tmp_path / "model.pt").write_bytes(b"")
    own = about_bundle(bundle, tmp_path / "model.pt").facts["Weights"]
    assert own.startswith(str(tmp_path)) and metadata["data_source"] not in own, "trained on something else"
    assert about_bundle(tmp_path / "no bundle").facts == {} and about_bundle(None) == About()


HOOK = """<script>
const seen = [], table = document.getElementById("case-table");
const names = () => [...table.tBodies[0].rows].map(row => row.querySelector("th").dataset.key).join();
for (const column of [1, 1, 2]) {
  const button = table.tHead.rows[0].cells[column].querySelector("button");
  button.focus();
  seen.push(document.activeElement === button);
  button.click();
  seen.push(names(), button.parentNode.getAttribute("aria-sort"));
}
document.title = JSON.stringify(seen);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_and_sorts_it_without_an_error(tmp_path):
    values = {"case 10": 9.0, "case 2": 10.0, "case 1": None}
    records = [Record(name, {"volume": value}) for name, value in values.items()]
    picture(tmp_path / "a.png")
    records[0] = Record("case 10", {"volume": 9.0}, overlay="a.png")
    page = write_report(tmp_path / "report.html", "t", records)
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{HOOK}</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=240)
    assert "CONSOLE" not in done.stderr, "no error on the console"
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    assert json.loads(html.unescape(title[1])) == [
        *(True, "case 1,case 2,case 10", "ascending"),
        *(True, "case 10,case 2,case 1", "descending"),
        *(True, "case 10,case 2,case 1", "ascending"),
    ]
