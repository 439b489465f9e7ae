from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from emclip.domain_figure import domain_figure, save_domain_figure
from emclip.domain_table import domain_markdown, domain_table, domain_text, mean_of_unseen
from emclip.domains import DomainReportHandler, write_domains
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from PIL import Image

from shared.core.errors import InputError
from shared.results.case_report import CaseReport

NAN = float("nan")
CLASSES = ["disc", "cup"]


def case(domain: str, number: int, disc: tuple[float, float], cup: tuple[float, float] = (NAN, NAN)) -> dict:
    values = {"dice_disc": disc[0], "hd95_mm_disc": disc[1], "dice_cup": cup[0], "hd95_mm_cup": cup[1]}
    return {"case_id": f"{domain}_{number}", "domain": domain, **values}


ROWS = [
    case("b", 0, (0.7, 4.0), (0.5, 9.0)),
    case("b", 1, (0.9, 6.0)),
    case("zeiss", 0, (0.95, 2.0), (0.8, 3.0)),
    case("zeiss", 1, (0.91, 3.0), (0.9, 4.0)),
    case("c", 0, (0.6, 12.0)),
]


def line(table: pd.DataFrame, domain: str, name: str) -> pd.Series:
    return table[(table["domain"] == domain) & (table["class"] == name)].iloc[0]


def random_rows(domains: list[str], classes: list[str], cases: int = 4, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    report = CaseReport(classes)
    for domain in domains:
        for number in range(cases):
            found = {name: {"dice": rng.uniform(0.6, 1), "hd95_mm": rng.gamma(2, 3)} for name in classes}
            report.add(f"{domain}_{number}", found, domain=domain)
    return list(report.rows.values())


def test_source_first_then_the_unseen_and_cases_that_are_annotated_count():
    table = domain_table(ROWS, CLASSES, "zeiss")
    assert list(zip(table["domain"], table["role"]))[::2] == [("zeiss", "source"), ("b", "unseen"), ("c", "unseen")]
    assert list(table["class"]) == CLASSES * 3 and list(table["n"]) == [2, 2, 2, 1, 1, 0]
    found = line(table, "b", "disc")[["dice_mean", "dice_std", "hd95_mean", "hd95_std"]].tolist()
    assert found == pytest.approx([0.8, np.std([0.7, 0.9], ddof=1), 5.0, np.sqrt(2)])
    alone = line(table, "b", "cup")
    assert (alone["dice_mean"], alone["hd95_mean"]) == (0.5, 9.0) and np.isnan(alone["dice_std"])
    assert line(table, "c", "cup")[["dice_mean", "hd95_mean"]].isna().all()


def test_mean_of_unseen_counts_a_domain_once_and_only_where_annotated():
    means = mean_of_unseen(domain_table(ROWS, CLASSES, "zeiss"))
    assert means.loc["disc"].tolist() == pytest.approx([(0.8 + 0.6) / 2, (5 + 12) / 2])
    assert means.loc["cup"].tolist() == pytest.approx([0.5, 9])
    assert mean_of_unseen(domain_table(ROWS[2:4], CLASSES, "zeiss")).empty


@settings(max_examples=20, deadline=None)
@given(st.permutations(ROWS))
def test_the_order_of_the_cases_does_not_matter(rows):
    pd.testing.assert_frame_equal(domain_table(rows, CLASSES, "zeiss"), domain_table(ROWS, CLASSES, "zeiss"))


def test_a_class_alone_has_plain_columns():
    table = domain_table(random_rows(["a", "b"], ["disc"]), ["disc"], "a")
    assert list(table["n"]) == [4, 4] and domain_text(table).splitlines()[0].split() == [
        "domains",
        "n",
        "Dice",
        "HD95",
        "mm",
    ]


@pytest.mark.parametrize(
    "rows, classes, message",
    [
        ([], CLASSES, "no cases"),
        (ROWS, [*CLASSES, "rim"], "dice_rim"),
        ([{"case_id": "x", "dice": 1.0, "hd95_mm": 0.0}], ["disc"], "no column 'domain'"),
        ([*ROWS, {**ROWS[0], "case_id": "lost", "domain": None}], CLASSES, "case lost has no domain"),
    ],
)
def test_rows_that_cannot_be_used(rows, classes, message):
    with pytest.raises(InputError, match=message) as error:
        domain_table(rows, classes, "zeiss")
    assert "\n" not in str(error.value)


def test_markdown_to_the_letter():
    lines = domain_markdown(domain_table(ROWS, CLASSES, "zeiss"), "px").splitlines()
    assert lines[:6] == [
        "| domain | n | disc Dice | disc HD95 px | cup Dice | cup HD95 px |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| zeiss (source) | 2 | 0.93 ± 0.03 | 2.5 ± 0.7 | 0.85 ± 0.07 | 3.5 ± 0.7 |",
        "| b | 2, 1 | 0.80 ± 0.14 | 5.0 ± 1.4 | 0.50 | 9.0 |",
        "| c | 1, 0 | 0.60 | 12.0 | - | - |",
        "| mean of unseen |  | 0.70 | 8.5 | 0.50 | 9.0 |",
    ]
    assert "HD95 in px" in lines[-1]


def test_markdown_stays_a_table_whatever_a_domain_is_called():
    table = domain_table(random_rows(["a|b", "c"], ["disc"]), ["disc"], "c")
    assert r"| a\|b |" in domain_markdown(table)


def test_text_to_the_letter():
    assert domain_text(domain_table(ROWS, CLASSES, "zeiss"), "px", "fundus").splitlines() == [
        "                                          disc                     cup",
        "fundus               n         Dice    HD95 px         Dice    HD95 px",
        "  zeiss (source)     2  0.93 ± 0.03  2.5 ± 0.7  0.85 ± 0.07  3.5 ± 0.7",
        "  b               2, 1  0.80 ± 0.14  5.0 ± 1.4         0.50        9.0",
        "  c               1, 0         0.60       12.0            -          -",
        "  mean of unseen               0.70        8.5         0.50        9.0",
    ]


CAMERAS = ["a", "Topcon TRC-NW6 (Lariboisière)", "MESSIDOR Base 2", "b", "c", "d"]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from(["{}", "left ventricle {}"]))
def test_text_fits_the_terminal_and_says_all(classes, domains, pattern):
    names = [pattern.format(number) for number in range(classes)]
    table = domain_table(random_rows(CAMERAS[:domains], names), names, "a")
    text = domain_text(table, "mm")
    assert max(map(len, text.splitlines())) <= 100
    assert ("mean of unseen" in text) == (domains > 1)
    for name in [*names, *CAMERAS[:domains]]:
        assert name in text or len(names) == 1
    for value, spread in zip(table["dice_mean"], table["dice_std"]):
        assert f"{value:.2f} ± {spread:.2f}" in text


def test_a_domain_without_a_case_is_absent(tmp_path):
    rows = [row for row in ROWS if row["domain"] != "zeiss"]
    paths = write_domains(tmp_path, rows, CLASSES, "zeiss")
    assert set(pd.read_csv(paths[0])["domain"]) == {"b", "c"}
    assert "zeiss" not in paths[1].read_text(encoding="utf-8")
    assert "source" not in domain_text(domain_table(rows, CLASSES, "zeiss"))


def test_files(tmp_path):
    paths = write_domains(tmp_path / "new", ROWS, CLASSES, "zeiss", "px")
    assert [path.name for path in paths] == ["domains.csv", "domains.md", "domains.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["domains.csv", "domains.md", "domains.png"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), domain_table(ROWS, CLASSES, "zeiss"))
    assert "0.93 ± 0.03" in paths[1].read_text(encoding="utf-8")


def drawn(rows, classes, source) -> Figure:
    figure = domain_figure(rows, classes, source)
    figure.draw_without_rendering()
    return figure


def points(axis, marker: str) -> np.ndarray:
    return np.concatenate([line.get_xdata() for line in axis.lines if line.get_marker() == marker])


def test_figure_has_a_dot_a_case_and_the_means_in_writing():
    disc_dice, cup_dice, disc_hd95, cup_hd95 = drawn(ROWS, CLASSES, "zeiss").axes
    assert sorted(points(disc_dice, "o")) == [0.6, 0.7, 0.9, 0.91, 0.95]
    assert sorted(points(cup_hd95, "o")) == [3, 4, 9]
    assert [text.get_text() for text in cup_dice.texts] == ["0.85 ± 0.07", "0.50", "-", "0.50"]
    assert [text.get_text() for text in disc_hd95.texts] == ["2.5 ± 0.7", "5.0 ± 1.4", "12.0", "8.5"]
    labels = [label.get_text() for label in disc_dice.get_yticklabels()]
    assert labels == ["zeiss (source)", "b", "c", "mean of unseen"]
    colours = [label.get_color() for label in disc_dice.get_yticklabels()]
    assert colours[1] == colours[2] != colours[0]


def test_a_failed_case_becomes_an_arrow_that_leaves_the_axis_to_the_others():
    rows = random_rows(["a", "b"], ["disc"], 30)
    rows[3] |= {"dice": 0.0, "hd95_mm": 400.0}
    dice, hd95 = drawn(rows, ["disc"], "a").axes
    assert dice.get_xlim()[0] > 0.3 and hd95.get_xlim()[1] < 100
    for axis, arrow, column in ((dice, "<", "dice"), (hd95, ">", "hd95_mm")):
        assert len(points(axis, arrow)) == 1 and len(points(axis, "o")) == 59
        low, high = axis.get_xlim()
        assert all(low <= points(axis, arrow)) and all(points(axis, arrow) <= high)
        means = [np.mean([row[column] for row in rows if row["domain"] == name]) for name in "ab"]
        assert all(low < mean < high for mean in means), "a mean is never out of sight"


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("domains", [1, 2, 6])
def test_nothing_overlaps_in_the_figure(classes, domains):
    names = ["left ventricle", "myocardium", "right ventricle"][:classes]
    figure = drawn(random_rows(CAMERAS[:domains], names), names, "a")
    edge = figure.bbox
    written = [text for axis in figure.axes for text in axis.texts]
    written += [label for axis in figure.axes[::classes] for label in axis.get_yticklabels()]
    boxes = [text.get_window_extent() for text in written]
    for index, box in enumerate(boxes):
        assert box.x0 >= edge.x0 and box.x1 <= edge.x1 and box.y0 >= edge.y0 and box.y1 <= edge.y1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(box.overlaps(axis.patch.get_window_extent()) for axis in figure.axes)


@pytest.mark.parametrize("value", [NAN, 1.0])
def test_figure_of_nothing_annotated_or_all_the_same(tmp_path, value):
    rows = [case(domain, number, (value, value)) for domain in "ab" for number in range(3)]
    path = save_domain_figure(tmp_path / "new" / "a.png", rows, CLASSES, "a")
    assert Image.open(path).size[0] > 500


class Threshold(torch.nn.Module):
    """Stands for a network: finds all of the first structure and too much of the second."""

    def forward(self, image):
        return torch.cat([(image > 0.5).float(), (image > 0.7).float()], 1)


def items(domains: str = "aabbbc") -> list[dict]:
    rng = np.random.default_rng(0)
    found = []
    for number, domain in enumerate(domains):
        image = torch.from_numpy(rng.random((1, 24, 20), dtype=np.float32))
        label = torch.cat([image > 0.5, image > 0.8]).to(torch.uint8)
        meta = {"filename_or_obj": f"/d/p{number}.png"}
        image, label = MetaTensor(image, meta=meta), MetaTensor(label, meta=meta)
        found.append({"image": image, "label": label, "case_id": f"p{number}", "domain": f"camera {domain}"})
    return found


def evaluate(handler: DomainReportHandler, data: list[dict]) -> None:
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=Threshold(),
        val_handlers=[handler],
    ).run()


def test_handler_on_an_evaluator(tmp_path, capsys):
    handler = DomainReportHandler(tmp_path, CLASSES, "camera a", seed=3, next_command="go")
    evaluate(handler, items())
    table = pd.read_csv(tmp_path / "domains.csv")
    assert list(table["domain"])[::2] == ["camera a", "camera b", "camera c"] and list(table["n"])[::2] == [2, 3, 1]
    assert (line(table, "camera b", "disc")["dice_mean"], line(table, "camera b", "disc")["hd95_mean"]) == (1, 0)
    assert 0 < line(table, "camera b", "cup")["dice_mean"] < 1
    assert list(pd.read_csv(tmp_path / "metrics.csv")["domain"]) == [f"camera {name}" for name in "aabbbc"]
    pictures = sorted(str(path.relative_to(tmp_path / "overlays")) for path in tmp_path.rglob("overlays/*/*.png"))
    assert pictures == ["camera_a/p0.png", "camera_a/p1.png", "camera_b/p2.png", "camera_b/p3.png", "camera_c/p5.png"]
    printed = capsys.readouterr().out
    for part in ("camera a (source)", "mean of unseen", "HD95 px", "domains.md", "domains.png", "(5)", "next      go"):
        assert part in printed
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["seed"] == 3
    evaluate(handler, items("ac"))
    assert list(pd.read_csv(tmp_path / "domains.csv")["n"]) == [1] * 4, "a run starts afresh"


def test_handler_leaves_out_what_was_not_annotated(tmp_path):
    data = items()
    for item in data:
        item["label"] = item["label"].to(torch.int8)
    data[2]["label"][1] = data[5]["label"][1] = -1  # the cup in one case of camera b and in the only one of camera c
    evaluate(DomainReportHandler(tmp_path, CLASSES, "camera a"), data)
    table = pd.read_csv(tmp_path / "domains.csv")
    assert list(table["n"]) == [2, 2, 3, 2, 1, 0] and np.isnan(line(table, "camera c", "cup")["dice_mean"])
    assert "| camera c | 1, 0 | 1.00 | 0.0 | - | - |" in (tmp_path / "domains.md").read_text(encoding="utf-8")


def test_handler_says_that_the_source_has_no_case(tmp_path, capsys):
    evaluate(DomainReportHandler(tmp_path, CLASSES, "camera z", overlays=0), items())
    assert "no case of camera z (source)" in capsys.readouterr().out
    assert not (tmp_path / "overlays").exists()


@pytest.mark.parametrize("domain", ["../../elsewhere", "/elsewhere"])
def test_pictures_stay_in_their_folder(tmp_path, domain):
    data = [{**item, "domain": str(tmp_path) + domain} for item in items("a")]
    evaluate(DomainReportHandler(tmp_path / "out", CLASSES, "a"), data)
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_handler_needs_a_domain(tmp_path):
    data = items()
    for item in data:
        del item["domain"]
    with pytest.raises(InputError, match="case p0 has no domain"):
        evaluate(DomainReportHandler(tmp_path, CLASSES, "camera a"), data)


def test_handler_gathers_over_ranks(tmp_path, monkeypatch):
    other = {"q9": {**case("camera d", 9, (0.5, 1.0), (0.5, 1.0)), "case_id": "q9"}}
    monkeypatch.setattr("shared.results.report.idist.get_world_size", lambda: 2)
    monkeypatch.setattr("shared.results.report.idist.all_gather", lambda rows: [rows, other])
    evaluate(DomainReportHandler(tmp_path, CLASSES, "camera a", overlays=0), items("ab"))
    assert set(pd.read_csv(tmp_path / "domains.csv")["domain"]) == {"camera a", "camera b", "camera d"}


def test_other_ranks_stay_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shared.results.report.idist.get_rank", lambda: 1)
    evaluate(DomainReportHandler(tmp_path, CLASSES, "camera a"), items())
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
