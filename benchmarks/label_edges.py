"""Compare the optic discs that experts of Drishti-GS and RIM-ONE draw with the visible edge of the disc.

    python benchmarks/label_edges.py    # writes results/label_edges.md, .json and .png

No network takes part. The green channel is sampled along rays from the centre of each disc, in units of the radius of
its label; the profile is the median over the rays. A bright disc on a darker retina ends where the profile falls most
steeply. The labels of one camera end there, those of the other inside. A network trained on the first then loses a ring
of pixels on the second, although it finds the edge.

The images are read from BUNDLES_REAL_DATA (folder with ``fundus``); they are not part of the project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from pipeline import real_images
from record import RESULTS, save
from scipy import ndimage

from shared.results.tables import markdown

SIDE = 320  # images are resized to this side in pixels
BLUR = 2.0  # standard deviation in pixels, thinner than a vessel
RAYS = 72
RADII = np.arange(0.6, 1.6, 0.02)  # samples along a ray, in radii of the label
SEARCHED = slice(5, -8)  # samples from 0.70 to 1.42; the others only appear in the figure
DISC = 100  # least label value of the disc


def profile(image: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """Return the brightness at `RADII`, median over the rays, of `image` (H, W, 3) with the label `disc` (H, W)."""
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
    """Return the fall of brightness with the radius, (eyes, radii)."""
    found = []
    for entry in entries:
        image = Image.open(folder / entry["image"]).convert("RGB").resize((SIDE, SIDE))
        label = Image.open(folder / entry["label"]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        found.append(-np.gradient(profile(np.asarray(image), np.asarray(label) >= DISC), RADII))
    return np.array(found)


def main() -> None:
    """Measure all cameras of the data set."""
    folder = real_images("fundus")
    entries = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    domains: dict[str, list[dict[str, Any]]] = {}
    for entry in entries["training"] + entries["validation"] + entries["testing"]:
        domains.setdefault(entry["domain"], []).append(entry)
    measured = {name: falls(folder, found) for name, found in domains.items()}

    results = {}
    rows = [["camera", "eyes", "edge, in radii of the label", "quartiles", "Dice of a mask that ends at the edge"]]
    for name, fall in measured.items():
        edges = RADII[SEARCHED][np.nanargmax(fall[:, SEARCHED], axis=1)]
        low, median, high = np.quantile(edges, [0.25, 0.5, 0.75])
        ceiling = np.mean(2 * np.minimum(edges, 1) ** 2 / (1 + edges**2))  # of concentric circles
        results[name] = {"eyes": len(edges), "low": low, "median": median, "high": high, "dice": ceiling}
        rows.append([name, str(len(edges)), f"{median:.2f}", f"{low:.2f} to {high:.2f}", f"{ceiling:.3f}"])
    text = "\n".join(["# Where experts draw the optic disc", "", *markdown(rows), "", "![](label_edges.png)", ""])
    save("label_edges", results, text)
    draw(measured)


def draw(measured: dict[str, np.ndarray]) -> None:
    """Write the figure: mean fall of brightness over the radius, one line per camera."""
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
