"""Pictures of the attention to the sentence: where it points, and which pixels attend to which of its words."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from shared.backbones.text import TextEncoder
from shared.core.files import whole
from shared.datasets.cases import Items
from shared.results.overlays import INK, PAPER, PREDICTION

from .data import TEXT
from .pyramid import STRIDES
from .texts import words_of

SHOWN, COLUMNS = 8, 5  # largest number of words; pictures per row
LETTERS = 4  # shorter words carry little meaning ("and", "two", "of")
SIDE, TOP, LINE = 2.4, 0.35, 0.25  # inches: width of a picture, space above the page, space above a row
HEAT, GLOW = "inferno", 0.75


class Reading(NamedTuple):
    """Prediction and attention of one image at its size (H, W), all in [0, 1].

    Attributes:
        mask: (H, W), probability of the target.
        pointed: (H, W), similarity to the sentence, mean over the levels; None if the enhancement is off.
        words: (L, H, W), attention weight of each token, mean over the levels.
    """

    mask: Tensor
    pointed: Tensor | None
    words: Tensor


@torch.no_grad()
def read_along(network: Any, image: Tensor, sentence: str) -> Reading:
    """Run a `TMCA` with a text encoder on an image (1, 1, H, W) and record its attention to the sentence."""
    words: list[Tensor] = []
    pointed: list[Tensor] = []

    def record(module: Any, inputs: tuple[Any, ...]) -> None:
        feature, sentences = inputs[:2]
        maps = module.attention(feature.flatten(2).transpose(1, 2), sentences.tokens, sentences.mask, True).maps
        words.append(maps.transpose(1, 2).unflatten(2, feature.shape[-2:]))
        pointed.extend(similarity.sigmoid() for similarity in inputs[2:])

    readers = list(network.enhancements) or [network.fusion]
    hooks = [module.register_forward_pre_hook(record) for module in readers]
    try:
        mask = network.eval()(image, [sentence]).sigmoid()[0, 0]
    finally:
        for hook in hooks:
            hook.remove()
    height, width = image.shape[-2:]
    strides = STRIDES[-len(readers) :]
    return Reading(
        mask,
        _mean_of_levels(pointed, strides, height, width)[0] if pointed else None,
        _mean_of_levels(words, strides, height, width),
    )


def _mean_of_levels(maps: list[Tensor], strides: Sequence[int], height: int, width: int) -> Tensor:
    """Upsample maps (1, K, h, w) by their strides, crop the padding and average them: (K, H, W)."""
    larger = [F.interpolate(x, scale_factor=s, mode="bilinear")[0, :, :height, :width] for x, s in zip(maps, strides)]
    return torch.stack(larger).mean(0)


def content_words(sentences: Sequence[str], keep: Sequence[str] | None = None) -> set[str]:
    """Return the words that distinguish sentences: four letters or more, and absent from some sentence.

    If all such words occur in every sentence, return all of them.

    Args:
        sentences: sentences of a data set.
        keep: return these words instead.
    """
    if keep is not None:
        return {word.lower() for word in keep}
    texts = [set(words_of(sentence)) for sentence in sentences if sentence]
    counts = Counter(word for text in texts for word in text)
    long = {word: n for word, n in counts.items() if len(word) >= LETTERS}
    return {word for word, n in long.items() if n < len(texts)} or set(long)


def word_tokens(encoder: TextEncoder, sentence: str) -> list[tuple[str, range]]:
    """Return the words of a sentence, in order, with the positions of their tokens.

    The positions follow from the number of tokens of the sentence up to the beginning and up to the end of the word.
    The tokeniser adds one special token at each end, as CLIP's and BERT's do. Words beyond the encoder's limit are left
    out.
    """

    def count(text: str) -> int:
        with warnings.catch_warnings():  # the run has already warned about long sentences
            warnings.simplefilter("ignore")
            return int(encoder.tokenize([text])[1].sum()) if text.strip() else 2

    found = []
    for word in re.finditer(r"\w+", sentence):
        places = range(count(sentence[: word.start()]) - 1, count(sentence[: word.end()]) - 1)
        if places:
            found.append((word[0], places))
    return found


def save_attention(
    path: str | os.PathLike, image: Tensor, reading: Reading, words: Sequence[tuple[str, range]], title: str = ""
) -> Path:
    """Write a PNG: the image with the predicted outline, where the sentence points, and one heat map per word.

    Args:
        path: file to write; its folder is created.
        image: (1, H, W) in [0, 1].
        reading: result of `read_along`.
        words: words with the positions of their tokens; the first 8 are shown, with one colour scale from the least to
            the largest weight among them.
        title: case and sentence.

    Returns:
        `path`.
    """
    maps = [(word, reading.words[list(places)].sum(0).cpu()) for word, places in words[:SHOWN]]
    panels: list[tuple[str, Tensor | None]] = [("prediction", None)]
    if reading.pointed is not None:
        panels.append(("the sentence points", reading.pointed.cpu()))
    low, high = (min(float(x.min()) for _, x in maps), max(float(x.max()) for _, x in maps)) if maps else (0.0, 1.0)
    panels += [(f"“{word}”", (x - low) / max(high - low, 1e-6)) for word, x in maps]

    grey = image[0].cpu().numpy()
    rows, height = -(-len(panels) // COLUMNS), SIDE * grey.shape[0] / grey.shape[1] + LINE
    total = TOP + rows * height
    figure = Figure(figsize=(SIDE * COLUMNS, total), dpi=110, facecolor=PAPER)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    figure.subplots_adjust(0.005, 0.01, 0.995, 1 - (TOP + LINE) / total, wspace=0.03, hspace=LINE / height * 1.2)
    figure.suptitle(title, y=1 - 0.1 / total, va="top", color=INK, fontsize=10)
    for axis in grid.ravel():
        axis.set_axis_off()
    for axis, (name, heat) in zip(grid.ravel(), panels):
        axis.imshow(grey, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, color=INK, fontsize=9, pad=3)
        if heat is not None:
            axis.imshow(heat.numpy(), cmap=HEAT, vmin=0, vmax=1, alpha=GLOW)
        _outline(axis, reading.mask.cpu().numpy())
    with whole(path) as draft:
        figure.savefig(draft, facecolor=PAPER, format="png")
    return Path(path)


def _outline(axis: Axes, mask: np.ndarray) -> None:
    if mask.min() < 0.5 < mask.max():
        axis.contour(mask, [0.5], colors=PREDICTION, linewidths=1.0)


def show_attention(
    network: torch.nn.Module,
    items: Items,
    preprocessing: Callable[[Any], Any],
    output_dir: str | os.PathLike,
    number: int = 4,
    words: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
) -> list[Path]:
    """Write ``<output_dir>/attention/<case_id>.png`` of the first cases that have a sentence.

    Only the first process writes and prints.

    Args:
        network: `tmca.network.TMCA`, possibly wrapped for several processes; nothing is written if it has no text
            encoder.
        items: cases with ``image``, ``text`` and ``case_id``.
        preprocessing: transforms of validation; their ``image`` is (1, H, W).
        output_dir: folder of the run.
        number: number of cases.
        words: words to show; None takes `content_words`.
        device: device of the network.

    Returns:
        Paths of the pictures.
    """
    model: Any = getattr(network, "module", network)
    if idist.get_rank() != 0 or model.texts is None:
        return []
    chosen = content_words([item[TEXT] for item in items], words)
    paths = []
    for item in [item for item in items if item[TEXT]][:number]:
        image = preprocessing(item)["image"]
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        reading = read_along(model, image[None].to(device), item[TEXT])
        spoken = [pair for pair in word_tokens(model.texts.encoder, item[TEXT]) if pair[0].lower() in chosen]
        path = Path(output_dir) / "attention" / f"{item['case_id']}.png"
        paths.append(save_attention(path, image, reading, spoken, f"{item['case_id']}:  {item[TEXT]}"))
    if paths:
        print(f"attention {paths[0]}{' ...' if len(paths) > 1 else ''} ({len(paths)})", flush=True)
    return paths
