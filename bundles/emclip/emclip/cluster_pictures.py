"""Pictures of the EM clusters: which centre owns which pixels, and a heat map of each centre's responsibilities."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.utils import convert_to_tensor
from scipy import ndimage
from torch.nn import functional as F

from shared.core.errors import InputError
from shared.core.files import whole
from shared.datasets.cases import Items
from shared.results.overlays import INK, PAPER

# Grey for the first centre, usually the background, then blue, amber and vermilion of colour-blind safe palettes. The
# others come from a search: any two colours differ by at least 20 in CIELAB, for normal vision and for protanopia,
# deuteranopia and tritanopia (simulation: Machado 2009).
COLOURS = (
    *("#8c8c8c", "#0072b2", "#ffb000", "#d55e00", "#99ee99", "#9911ff", "#ffccff", "#882233"),
    *("#773366", "#5522aa", "#aa0000", "#aa8855", "#cc55ff", "#00ffcc", "#88aaee", "#ccee77"),
)
HEAT = "inferno"
TINT, GLOW = 0.55, 0.8  # opacity of the owners' colours, and of a responsibility of 1
SHOWN, COLUMNS = 12, 6  # largest number of heat maps, and of heat maps per row
NUMBERED = 0.004  # share of the pixels from which a region shows its number
WIDTH, LARGE, GAP, LINE = 12.0, 4.2, 0.1, 0.28  # inches: page, large picture, gap between pictures, line of text
LEGEND, DENSE = 3.2, 0.2  # inches: width of the legend, least height of its lines
LONG, SHORT = 30, 20  # letters of a name in the legend, and over a heat map
DIM = "#8a8a8a"  # text of centres that own no pixel
TEXT: dict[str, Any] = {"color": INK, "fontsize": 10, "va": "center"}


def show_clusters(
    network: torch.nn.Module,
    items: Items,
    preprocessing: Callable[[Any], Any],
    output_dir: str | os.PathLike,
    class_names: Sequence[str],
    per_domain: int = 1,
    device: str | torch.device = "cpu",
) -> list[Path]:
    """Write ``<output_dir>/clusters/<domain>_<case_id>.png`` of the first cases of each domain.

    Only the first process writes and prints.

    Args:
        network: `emclip.network.EMCLIP`, possibly wrapped for several processes; nothing is written if its EM is off.
        items: cases with ``image``, ``case_id`` and ``domain``.
        preprocessing: transforms of validation; their ``image`` is (C, H, W), or a volume (C, X, Y, Z), of which the
            middle slice along Z is shown.
        output_dir: folder of the run.
        class_names: names of the anchored centres, the background first.
        per_domain: number of cases per domain.
        device: device of the network.

    Returns:
        Paths of the pictures.
    """
    model: Any = getattr(network, "module", network)
    if idist.get_rank() != 0 or model.em is None:
        return []
    model.eval()
    shown: Counter[str] = Counter()
    paths = []
    for item in items:
        domain = item["domain"]
        if shown[domain] >= per_domain:
            continue
        shown[domain] += 1
        image = preprocessing(item)["image"]
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        if image.ndim == 4:
            image = image[..., image.shape[-1] // 2].transpose(1, 2)  # rows before columns, as on the screen
        responsibilities = model.clusters(image[None].to(device))[0].cpu()
        anchored = class_names if model.anchors else []
        names = [*anchored, *(f"free {i + 1}" for i in range(len(responsibilities) - len(anchored)))]
        figure = draw_clusters(image, responsibilities, names, f"{domain}  {item['case_id']}")
        paths.append(Path(output_dir) / "clusters" / f"{domain}_{item['case_id']}.png")
        with whole(paths[-1]) as draft:
            figure.savefig(draft, facecolor=PAPER, format="png")
    if paths:
        print(f"clusters  {paths[0]}{' ...' if len(paths) > 1 else ''} ({len(paths)})", flush=True)
    return paths


def draw_clusters(image: Any, responsibilities: Any, names: Sequence[str], title: str = "") -> Figure:
    """Draw a clustered image.

    The upper row shows the image, the map of owners and the share of the pixels that each centre owns. A centre owns a
    pixel if its responsibility, interpolated to the image's size, is the largest there. Below is one heat map per
    centre; with more than 12 centres, of those with the most responsibility.

    Args:
        image: (3, H, W) or (1, H, W), array or tensor, rows before columns. Values in [0, 1] are shown as they are,
            others are scaled from the 1st to the 99th percentile.
        responsibilities: (K, h, w), in [0, 1], with sum 1 over K, at any resolution, array or tensor.
        names: names of the K centres: the anchors, then "free 1", "free 2", ...
        title: usually domain and case.

    Raises:
        InputError: shapes, names or values do not fit.
    """
    picture, maps = _picture(image), _maps(responsibilities, names)
    height, width = picture.shape[:2]
    maps = F.interpolate(torch.from_numpy(maps)[None], (height, width), mode="bilinear")[0].numpy()
    owner, grey = maps.argmax(0), picture.mean(-1, keepdims=True)
    shown = np.sort(np.argsort(-maps.sum((1, 2)), kind="stable")[:SHOWN])

    aspect = height / width
    large, small = min(LARGE, LARGE / aspect), (WIDTH - GAP * (COLUMNS + 1)) / COLUMNS
    top = GAP + LINE * bool(title)
    middle = top + max(large * aspect, DENSE * (len(names) + 1)) + GAP
    below = LINE + small * aspect + GAP  # height of a row of heat maps
    figure, page = _page(middle + LINE + math.ceil(len(shown) / COLUMNS) * below)
    page.text(GAP, top - LINE / 2, title, **{**TEXT, "fontsize": 13})

    _show(page, GAP, top, large, picture)
    colours = np.array([to_rgb(_colour(index)) for index in range(len(names))])
    _show(page, 2 * GAP + large, top, large, (1 - TINT) * grey + TINT * colours[owner])
    for index, row, column in _middles(owner):
        _badge(page, 2 * GAP + large * (1 + column / width), top + large * row / width, index)
    _list_centres(page, 4 * GAP + 2 * large, top, middle - GAP - top, owner, names)

    _explain(page, middle, len(names) - len(shown))
    for place, index in enumerate(shown):
        x, y = GAP + place % COLUMNS * (small + GAP), middle + LINE + place // COLUMNS * below
        _badge(page, x + LINE / 2, y + LINE / 2, index)
        page.text(x + 1.2 * LINE, y + LINE / 2, _short(names[index], SHORT), **TEXT)
        _show(page, x, y + LINE, small, _heat(grey, maps[index]))
    return figure


def _picture(image: Any) -> np.ndarray:
    """Return the image as (H, W, 3) in [0, 1]."""
    array = _floats(image)
    if array.ndim != 3 or array.shape[0] not in (1, 3) or 0 in array.shape:
        raise InputError(f"the image must be (1, H, W) or (3, H, W), not {array.shape}")
    if array.min() < 0 or array.max() > 1:
        low, high = np.percentile(array, (1, 99))
        array = (array - low) / max(high - low, 1e-6)
    return np.broadcast_to(array, (3, *array.shape[1:])).transpose(1, 2, 0).clip(0, 1)


def _maps(responsibilities: Any, names: Sequence[str]) -> np.ndarray:
    """Check the responsibilities and return them as float32 (K, h, w)."""
    array = _floats(responsibilities)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"the responsibilities must be (K, h, w), not {array.shape}")
    if len(array) != len(names):
        raise InputError(f"{len(names)} names for {len(array)} centres: give one name per centre")
    if not (array.min() >= 0 and np.allclose(array.sum(0), 1, atol=0.02)):  # in bfloat16 sums are within 0.01 of 1
        raise InputError("responsibilities must be positive and sum to 1 over the centres: take their softmax")
    return array


def _floats(array: Any) -> np.ndarray:
    return convert_to_tensor(array, dtype=torch.float32).detach().cpu().numpy()  # numpy has no bfloat16


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _page(height: float) -> tuple[Figure, Axes]:
    """Return a figure, and axes over all of it in inches from its upper left corner."""
    figure = Figure(figsize=(WIDTH, height), dpi=130)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0), autoscale_on=False)
    page.set_axis_off()
    return figure, page


def _show(page: Axes, x: float, y: float, width: float, picture: np.ndarray) -> None:
    """Draw a picture (H, W, 3) with its upper left corner at (x, y)."""
    height = width * picture.shape[0] / picture.shape[1]
    page.imshow(picture, extent=(x, x + width, y + height, y), aspect="auto")


def _badge(page: Axes, x: float, y: float, index: int) -> None:
    """Write the number of a centre on its colour, centred at (x, y)."""
    box = {"boxstyle": "round,pad=0.25", "facecolor": _colour(index), "edgecolor": PAPER, "linewidth": 0.6}
    dark = np.dot(to_rgb(_colour(index)), (0.299, 0.587, 0.114)) < 0.5
    page.text(x, y, str(index + 1), fontsize=8, color="white" if dark else "black", ha="center", va="center", bbox=box)


def _middles(owner: np.ndarray) -> list[tuple[int, float, float]]:
    """Return centre, row and column of the innermost point of each region that is large enough for a number."""
    found = []
    for index in np.unique(owner):
        regions, count = ndimage.label(owner == index)
        sizes = np.bincount(regions.ravel(), minlength=count + 1)
        for region in range(1, count + 1):
            if sizes[region] < NUMBERED * owner.size:
                continue
            depth = ndimage.distance_transform_edt(np.pad(regions == region, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(depth.argmax(), depth.shape)
            found.append((int(index), row + 0.5, column + 0.5))
    return found


def _list_centres(page: Axes, x: float, y: float, height: float, owner: np.ndarray, names: Sequence[str]) -> None:
    """Write the legend within `height` inches: number, name and share of the pixels of each centre."""
    shares = np.bincount(owner.ravel(), minlength=len(names)) / owner.size
    line, right = min(LINE, height / (len(names) + 1)), min(x + LEGEND, WIDTH - GAP)
    page.text(right, y + line / 2, "of the pixels", ha="right", **TEXT)
    for index, (name, share) in enumerate(zip(names, shares)):
        at, style = y + line * (index + 1.5), {**TEXT, "color": INK if share else DIM}
        _badge(page, x + LINE / 2, at, index)
        page.text(x + 1.2 * LINE, at, _short(name, LONG), **style)
        page.text(right, at, f"{share:.1%}" if share else "none", ha="right", **style)


def _explain(page: Axes, y: float, left_out: int) -> None:
    """Write the line above the heat maps: their colour scale, and how many centres are left out."""
    scale = np.tile(np.linspace(0, 1, 90, dtype=np.float32), (12, 1))
    page.text(GAP, y + LINE / 2, "responsibility of each centre", **TEXT)
    page.text(2.5, y + LINE / 2, "0", ha="right", **TEXT)
    _show(page, 2.58, y + LINE * 0.3, 0.9, _heat(np.full((12, 90, 1), 0.4), scale))
    page.text(3.56, y + LINE / 2, "1", **TEXT)
    if left_out:
        page.text(4.0, y + LINE / 2, f"left out: the {left_out} centre{'s' if left_out > 1 else ''} with least", **TEXT)


def _heat(grey: np.ndarray, responsibility: np.ndarray) -> np.ndarray:
    """Return responsibilities (H, W) as a heat map (H, W, 3) over a grey picture (H, W, 1), opaque where they are 1."""
    weight = GLOW * responsibility[..., None]
    return (1 - weight) * grey + weight * colormaps[HEAT](responsibility)[..., :3]


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"
