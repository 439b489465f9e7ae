"""Where experts draw the optic disc, relative to the edge that one sees: no network has a part in it.

From each disc's centre the green channel is read along rays, in units of the label's own radius, and the median over
the rays taken. A bright disc on a darker retina ends where that profile falls steepest. Labels of Drishti-GS end there;
those of RIM-ONE end well inside, so that a network which finds the edge as Drishti-GS teaches it is "wrong" on RIM-ONE
by a ring, and one whose discs come out too small or notched scores higher.

    python benchmarks/label_edges.py    # writes results/label_edges.md, .json and .png

The images are found through BUNDLES_REAL_DATA (folder with ``fundus``); they are not part of the project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from record import RESULTS, real_images, save
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared.results.tables import markdown  # noqa: E402

SIDE = 320  # pixels to which images are resized
BLUR = 2.0  # standard deviation in these pixels: less than a vessel
RAYS = 72
RADII = np.arange(0.6, 1.6, 0.02)  # in radii of the label
SEARCHED = slice(5, -8)  # of them: 0.70 to 1.42, the rest is for the figure
DISC = 100  # least label value of the disc


def profile(image: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """Brightness at `RADII`, median over the rays: `image` (H, W, 3) in [0, 255], `disc` (H, W) bool."""
    green = ndimage.gaussian_filter(image[..., 1].astype(float), BLUR)
    green = (green - green.mean()) / green.std()
    centre = np.array(ndimage.center_of_mass(disc))
    steps = np.arange(0, max(disc.shape), 0.5)
    values = []
    for angle in np.linspace(0, 2 * np.pi, RAYS, endpoint=False):
        ray = np.array([np.sin(angle), np.cos(angle)])[:, None]
        inside = ndimage.map_coordinates(disc.astype(float), centre[:, None] + steps * ray, order=0) > 0.5
        radius = steps[np.flatnonzero(inside)[-1]]
        values.append(ndimage.map_coordinates(green, centre[:, None] + RADII * radius * ray, order=1, cval=np.nan))
    return np.nanmedian(np.array(values), axis=0)


def falls(folder: Path, entries: list[dict[str, Any]]) -> np.ndarray:
    """How fast brightness falls with the radius, (eyes, radii)."""
    found = []
    for entry in entries:
        image = Image.open(folder / entry["image"]).convert("RGB").resize((SIDE, SIDE))
        label = Image.open(folder / entry["label"]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        found.append(-np.gradient(profile(np.asarray(image), np.asarray(label) >= DISC), RADII))
    return np.array(found)


def main() -> None:
    """Measure both cameras."""
    folder = real_images("fundus")
    entries = json.loads((folder / "dataset.json").read_text())
    domains: dict[str, list[dict[str, Any]]] = {}
    for entry in entries["training"] + entries["validation"] + entries["testing"]:
        domains.setdefault(entry["domain"], []).append(entry)
    measured = {name: falls(folder, found) for name, found in domains.items()}

    results = {}
    rows = [["camera", "eyes", "edge, in radii of the label", "quartiles", "Dice of a mask that ends at the edge"]]
    for name, fall in measured.items():
        edges = RADII[SEARCHED][np.nanargmax(fall[:, SEARCHED], axis=1)]
        low, median, high = np.quantile(edges, [0.25, 0.5, 0.75])
        ceiling = np.mean(2 * np.minimum(edges, 1) ** 2 / (1 + edges**2))  # of circles round one centre
        results[name] = {"eyes": len(edges), "low": low, "median": median, "high": high, "dice": ceiling}
        rows.append([name, str(len(edges)), f"{median:.2f}", f"{low:.2f} to {high:.2f}", f"{ceiling:.3f}"])
    text = "\n".join(["# Where experts draw the optic disc", "", *markdown(rows), "", "![](label_edges.png)", ""])
    save("label_edges", results, text)
    draw(measured)
    print(text)


def draw(measured: dict[str, np.ndarray]) -> None:
    """Write the figure: mean fall of brightness over the radius, a line a camera."""
    figure = Figure(figsize=(5.2, 2.8), dpi=160, layout="constrained")
    axis = figure.subplots()
    for (name, fall), colour in zip(measured.items(), ("#0072b2", "#d55e00")):
        mean = np.nanmean(fall, axis=0)
        axis.plot(RADII, mean, color=colour, lw=1.8)
        at = RADII[np.nanargmax(mean[SEARCHED]) + SEARCHED.start]
        axis.annotate(name, (at, np.nanmax(mean[SEARCHED])), (12, -4), textcoords="offset points", color=colour)
    axis.axvline(1, color="#333333", lw=0.8, ls=(0, (3, 2)))
    axis.annotate("label", (1, axis.get_ylim()[0]), (-4, 6), textcoords="offset points", ha="right", color="#333333")
    axis.set(xlabel="distance from the disc's centre, in radii of its label", ylabel="fall of brightness")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "label_edges.png")


if __name__ == "__main__":
    main()
