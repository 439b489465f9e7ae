"""Measure what each rule for masks adds to the others: Dice with it and without it, on images of other hospitals.

    python benchmarks/rules.py predict CACHE   # probabilities of the shipped weights, once; 10 minutes of one core
    python benchmarks/rules.py measure CACHE   # every rule on them
    python benchmarks/rules.py table CACHE     # the table, as Markdown and JSON

Only EM-CLIP has such rules; BrainSegDMLF and TMCA threshold the probabilities. The images are read from
BUNDLES_REAL_DATA (folder with ``fundus``, ``fundus_whole``, ``cardiac_acdc``, ``cardiac_mnms``); they are not part of
the project. Intervals are of a paired bootstrap over patients.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fire
import numpy as np
import torch
from ignite.engine import Events
from monai.utils import set_determinism
from PIL import Image
from pipeline import bundle_config, real_images
from record import RESULTS, save

from shared.results.metrics import dice, not_annotated
from shared.results.tables import markdown

REMOVED = RESULTS / "rules" / "removed.json"  # rules that did not help, as measured before they were removed
DRAWS = 2000  # of the bootstrap
TEN = 10  # labelled photographs that give the factor of drawn_size
HEART, EYE = ("left ventricle", "myocardium", "right ventricle"), ("optic disc", "optic cup")
SHIFT = [  # other gain, contrast, coil, sharpness and noise
    {"_target_": "ScaleIntensityRangePercentilesd", "lower": 0.5, "upper": 99.5, "b_min": 0, "b_max": 1, "clip": True},
    {"_target_": "RandAdjustContrastd", "prob": 0.8, "gamma": [0.5, 2.5]},
    {"_target_": "RandHistogramShiftd", "prob": 0.5, "num_control_points": [4, 8]},
    {"_target_": "RandBiasFieldd", "prob": 0.8, "coeff_range": [0.0, 0.5]},
    {"_target_": "RandGaussianSmoothd", "prob": 0.6, "sigma_x": [0.5, 2.0], "sigma_y": [0.5, 2.0],
     "sigma_z": [0.01, 0.02]},
    {"_target_": "RandGaussianNoised", "prob": 0.7, "std": 0.12, "mean": 0.0},
]  # fmt: skip


class Images(NamedTuple):
    """Images for one row of the table; `shift` is the seed of random changes of the intensities."""

    title: str
    folder: str
    split: str
    structures: tuple[str, ...]
    shift: int | None
    played_a_part: str


SETS = {
    "acdc": Images("ACDC, 16 validation volumes", "cardiac_acdc", "validation", HEART, None, "yes"),
    "acdc_shift1": Images("the same, intensities changed", "cardiac_acdc", "validation", HEART, 1, "yes"),
    "acdc_shift2": Images("the same, changed again", "cardiac_acdc", "validation", HEART, 2, "yes"),
    "acdc_train_shift3": Images("ACDC, 64 training volumes, changed", "cardiac_acdc", "training", HEART, 3, "yes"),
    "mnms": Images("M&Ms, vendors A and B, 8 volumes", "cardiac_mnms", "testing", HEART, None, "no: an earlier rule"),
    "drishti": Images("Drishti-GS, 10 validation", "fundus", "validation", EYE, None, "no"),
    "rim_one": Images("RIM-ONE, 255", "fundus", "testing", EYE, None, "no"),
    "idrid": Images("IDRiD, 27, cropped round the disc", "fundus_whole", "testing", EYE, None, "no"),
}
OTHER_EYES = ("rim_one", "idrid")
DRAWN_SIZE = f"drawn size, from {TEN} other photographs"
Rule = Callable[[dict[str, Any]], Any]
Pair = tuple[str, list[float], list[float]]


def crop_discs(folder: Path, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write whole photographs cropped round the labelled disc, off-centre, 1.9 to 3 diameters wide; their items."""
    random, crops = np.random.default_rng(0), []
    for item in items:
        image, label = Image.open(item["image"]).convert("RGB"), Image.open(item["label"])
        rows, columns = (np.asarray(label) > 0).nonzero()
        diameter = max(np.ptp(rows), np.ptp(columns)) + 1
        side = diameter * random.uniform(1.9, 3.0)
        row, column = (x.mean() + random.uniform(-0.25, 0.25) * (side - diameter) for x in (rows, columns))
        box = tuple(round(x) for x in (column - side / 2, row - side / 2, column + side / 2, row + side / 2))
        crop = {key: str(folder / f"{Path(item['image']).stem}_{key}.png") for key in ("image", "label")}
        image.crop(box).save(crop["image"])
        label.crop(box).save(crop["label"])
        crops.append(item | crop)
    return crops


def predict(cache: str, *names: str) -> None:
    """Write the probabilities and masks of each case of some sets (default: all) to ``cache/<set>/<case>.npz``."""
    for name in names or SETS:
        images, target = SETS[name], Path(cache) / name
        target.mkdir(parents=True, exist_ok=True)
        source = real_images(images.folder)
        listed = json.loads((source / "dataset.json").read_text(encoding="utf-8"))[images.split]
        items = [item | {key: str(source / item[key]) for key in ("image", "label")} for item in listed]
        with tempfile.TemporaryDirectory() as folder:
            if name == "idrid":
                items = crop_discs(Path(folder), items)
            _predict(images, items, folder, target)


def _predict(images: Images, items: list[dict[str, Any]], folder: str, target: Path) -> None:
    (Path(folder) / "dataset.json").write_text(json.dumps({"testing": items}), encoding="utf-8")
    files = ["train.json", "evaluate.json", *(["cardiac.json"] if images.structures == HEART else [])]
    parser = bundle_config("emclip", files, images.folder, output_dir=folder, num_workers=0)
    parser.update({"dataset_dir": folder, "test#handlers": [], "shape_rules": []})
    parser["validate"]["masks"] = [step for step in parser["validate"]["masks"] if "Threshold" not in step["_target_"]]
    if images.shift is not None:
        set_determinism(images.shift)
        parser["loading"] = parser["loading"] + [step | {"keys": "image"} for step in SHIFT]
    parser.get_parsed_content("load_weights")()
    evaluator = parser.get_parsed_content("test#evaluator")
    left = iter(items)

    def keep(engine: Any) -> None:
        for output in engine.state.output:
            name = Path(next(left)["image"]).name.split(".")[0]
            prob, label = (np.asarray(output[key]) for key in ("pred", "label"))
            np.savez_compressed(target / f"{name}.npz", prob=prob.astype(np.float16), label=label.astype(np.int8))

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
    evaluator.run()


def cases(cache: str, name: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield patient, masks and labels (S, H, W[, D]) of each case of a set, cropped to what they show."""
    for file in sorted((Path(cache) / name).glob("*.npz")):
        with np.load(file) as case:
            masks, label = case["prob"] >= 0.5, case["label"]
        shown = (masks | (label > 0)).any(0)
        rows, columns = (x for x in shown.nonzero()[:2])
        box = tuple(slice(max(x.min() - 4, 0), x.max() + 5) for x in (rows, columns))
        yield re.sub(r"_(sa_)?E[DS]$", "", file.stem), masks[:, box[0], box[1]], label[:, box[0], box[1]]


def chain(structures: tuple[str, ...], **options: Any) -> dict[str, Rule]:
    """Return the rules of the bundle by the name that the table gives them."""
    from emclip.postprocessing.rules import shape_rules

    pair = list(HEART[:2]) if structures == HEART else None
    titles = {
        "KeepCommonPieced": "one piece of all structures",
        "CavityInWalld": "cavity in its wall",
        "KeepLargestConnectedComponentd": "largest piece of each structure",
        "DrawnSized": DRAWN_SIZE,
    }
    rules = shape_rules(structures, cavity_and_wall=pair, **options)
    return {titles[type(rule).__name__]: rule for rule in rules}


def scores(masks: np.ndarray, labels: np.ndarray, rules: list[Rule]) -> list[float]:
    """Return the Dice of each annotated structure after some rules."""
    data: dict[str, Any] = {"pred": torch.as_tensor(masks).float()}
    for rule in rules:
        data = rule(data)
    found = np.asarray(data["pred"]) > 0
    return [dice(pred, label > 0) for pred, label in zip(found, labels) if not not_annotated(label)]


def drawn_factor(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the factor of diameters at which the median disc of some masks has its labelled area."""
    ratios = [(label[0] > 0).sum() / mask[0].sum() for mask, label in pairs if mask[0].any()]
    return float(np.clip(np.median(ratios), 0.25, 4) ** 0.5)


def measure(cache: str, *names: str) -> None:
    """Write one record per rule of some sets (default: all) to ``cache/<set>.json``."""
    for name in names or SETS:
        records = [
            {"rule": title, "images": SETS[name].title, "played a part": SETS[name].played_a_part} | compare(pairs)
            for title, pairs in with_and_without(cache, name)
        ]
        (Path(cache) / f"{name}.json").write_text(json.dumps(records, indent=1), encoding="utf-8")


def with_and_without(cache: str, name: str) -> Iterator[tuple[str, list[Pair]]]:
    """Yield each rule of a set with the patient and the Dice of every case without and with it."""
    found = list(cases(cache, name))
    rules = chain(SETS[name].structures)
    everything = list(rules.values())
    scored = [scores(masks, labels, everything) for _, masks, labels in found]
    for title in rules:
        others = [rule for other, rule in rules.items() if other != title]
        before = [scores(masks, labels, others) for _, masks, labels in found]
        yield title, [(case[0], *pair) for case, *pair in zip(found, before, scored)]
    before = [scores(masks, labels, []) for _, masks, labels in found]
    yield "all rules together", [(case[0], *pair) for case, *pair in zip(found, before, scored)]
    if name in OTHER_EYES:
        order = np.random.default_rng(0).permutation(len(found))
        factor = drawn_factor([found[i][1:] for i in order[:TEN]])
        more = list(chain(EYE, drawn_size={"optic disc": factor}).values())
        rest = [(found[i], scored[i]) for i in order[TEN:]]
        yield DRAWN_SIZE, [(case[0], old, scores(*case[1:], more)) for case, old in rest]


def compare(pairs: list[Pair]) -> dict[str, Any]:
    """Return means and the paired bootstrap interval of the difference, over patients."""
    differences, without, with_rule = defaultdict(list), [], []
    for patient, before, after in pairs:
        differences[patient].append(np.mean(after) - np.mean(before))
        without.append(np.mean(before))
        with_rule.append(np.mean(after))
    groups = list(differences.values())
    drawn = np.random.default_rng(0).integers(0, len(groups), (DRAWS, len(groups)))
    sums, sizes = np.array([sum(x) for x in groups]), np.array([len(x) for x in groups])
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    every = np.concatenate(groups)
    return {
        "patients": len(groups),
        "without": float(np.mean(without)),
        "with": float(np.mean(with_rule)),
        "difference": float(every.mean()),
        "low": float(low),
        "high": float(high),
        "worst": float(every.min()),
    }


def table(cache: str) -> None:
    """Write ``results/rules.md`` and ``results/rules.json``."""
    files = [file for name in SETS if (file := Path(cache) / f"{name}.json").is_file()]
    records = [record for file in [*files, REMOVED] for record in json.loads(file.read_text(encoding="utf-8"))]
    head = ["rule", "images", "played a part in making it", "patients", "Dice without", "with", "difference", "worst"]
    lines = [
        [
            *(str(r[key]) for key in ("rule", "images", "played a part", "patients")),
            f"{r['without']:.4f}",
            f"{r['with']:.4f}",
            f"{r['difference']:+.4f} [{r['low']:+.4f}, {r['high']:+.4f}]",
            f"{r['worst']:+.3f}",
        ]
        for r in sorted(records, key=lambda r: list(dict.fromkeys(x["rule"] for x in records)).index(r["rule"]))
    ]
    text = "# What each rule for masks adds to the others\n\nMean Dice over structures and images with all rules, and "
    text += "without the one. 95% intervals of a paired bootstrap over patients; worst: of one image.\n\n"
    save("rules", records, text + "\n".join(markdown([head, *lines])) + "\n")


if __name__ == "__main__":
    fire.Fire({"predict": predict, "measure": measure, "table": table})
