"""Measure EM-CLIP on whole photographs of the back of the eye, as a camera gives them.

    BUNDLES_REAL_DATA=FOLDER python benchmarks/whole_photographs.py

The folder holds ``fundus_whole``: 27 photographs of IDRiD with the optic disc outlined. The finder of the disc was
neither trained nor tuned on them; of the segmentation, one rule (convex discs) was dropped on crops of them. The
command of the bundle runs on all of them, and on one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fire
import numpy as np
from PIL import Image
from pipeline import real_images
from record import ROOT, save

from shared.io.picture_files import load_picture
from shared.preparation.disc import find_disc, load_disc_network
from shared.results.metrics import dice
from shared.results.tables import markdown

BUNDLE = ROOT / "bundles" / "emclip"


def main() -> None:
    """Measure, and write ``whole_photographs.json`` and ``whole_photographs.md``."""
    folder = real_images("fundus_whole")
    items = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["testing"]
    with tempfile.TemporaryDirectory() as scratch:
        one, _ = segment(folder, items[:1], Path(scratch) / "one")
        seconds, masks = segment(folder, items, Path(scratch) / "all")
        rows = [measure(folder, item, masks.get(Path(item["image"]).stem)) for item in items]
    result = {"seconds_per_image": (seconds - one) / (len(items) - 1), "images": rows}
    save("whole_photographs", result, report(result))


def segment(folder: Path, items: list[dict[str, Any]], place: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Run the bundle's command; return its wall time in seconds and the masks by the name of the case."""
    place.mkdir()
    listed = [{"image": str(folder / item["image"])} for item in items]
    (place / "dataset.json").write_text(json.dumps({"testing": listed}), encoding="utf-8")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "configs/inference.json")]
    begin = time.perf_counter()
    subprocess.run([*command, "--dataset_dir", str(place), "--output_dir", str(place / "out")], cwd=ROOT, check=False)
    seconds = time.perf_counter() - begin
    entries = json.loads((place / "out" / "predictions.json").read_text(encoding="utf-8"))
    files = {entry["case_id"]: place / "out" / entry["prediction"] for entry in entries}
    return seconds, {case: np.asarray(Image.open(file)) for case, file in files.items()}


def measure(folder: Path, item: dict[str, Any], mask: np.ndarray | None) -> dict[str, Any]:
    """Compare the found centre and the mask with the outlined disc.

    Returns:
        ``image``; ``dice`` of the disc, 0 where the photograph was refused; ``off``, the distance of the found centre
        from the true one in disc radii, None where no disc was found.
    """
    label = np.asarray(Image.open(folder / item["label"])) > 0
    radius = np.sqrt(label.sum() / np.pi)
    disc = find_disc(load_picture(folder / item["image"], item["image"]), load_disc_network(BUNDLE / "models/disc.pt"))
    row, column = np.argwhere(label).mean(0)
    off = None if disc is None else float(np.hypot(disc.row - row, disc.column - column) / radius)
    found = np.zeros_like(label) if mask is None else mask > 0
    return {"image": item["image"], "dice": dice(found, label), "off": off, "refused": mask is None}


def report(result: dict[str, Any]) -> str:
    """Return the table."""
    rows = result["images"]
    near = sum(row["off"] is not None and row["off"] <= 0.5 for row in rows)
    refused = sum(row["refused"] for row in rows)
    scores = [row["dice"] for row in rows]
    table = [
        ["figure", "value"],
        ["disc's centre within half a radius", f"{near} of {len(rows)}"],
        ["photographs refused, as no disc was found", str(refused)],
        ["Dice of the disc, mean (a refused one counts 0)", f"{np.mean(scores):.3f}"],
        ["Dice of the disc, median", f"{np.median(scores):.3f}"],
        ["seconds per image after start-up", f"{result['seconds_per_image']:.2f}"],
    ]
    return "\n".join(["# EM-CLIP on whole photographs", "", *markdown(table)]) + "\n"


if __name__ == "__main__":
    fire.Fire(main)
