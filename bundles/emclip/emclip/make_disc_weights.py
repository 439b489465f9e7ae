"""Train the finder of the optic disc, and write ``models/disc.pt``.

    python bundles/emclip/emclip/make_disc_weights.py --discs_dir FOLDER --others_dir FOLDER --work_dir FOLDER

``discs_dir`` holds photographs cropped round the disc (Drishti-GS), ``others_dir`` pictures of something else (Kvasir);
docs/data_license.txt says where from. Both have a ``dataset.json`` with lists ``training`` and ``validation``. Whole
photographs are synthetic, half of them with a real disc pasted in. Pictures and state are saved in ``work_dir``: a
repeated command goes on from there. The training takes about ten minutes of one core with bfloat16.
"""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn.functional import affine_grid, avg_pool2d, binary_cross_entropy_with_logits, grid_sample
from tqdm import tqdm

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "emclip" / "prepare.py"))

from emclip.phantoms.dataset import make_fundus_case  # noqa: E402
from emclip.phantoms.other_pictures import make_other_picture  # noqa: E402
from emclip.phantoms.pasted_disc import DiscCrop, paste_disc  # noqa: E402
from emclip.phantoms.whole_fundus import make_whole_fundus  # noqa: E402
from shared.core.errors import install_one_line_errors  # noqa: E402
from shared.datasets.datalist import expand_datalist  # noqa: E402
from shared.engine.precision import fast_dtype  # noqa: E402
from shared.engine.resumable import ResumableTraining, cosine  # noqa: E402
from shared.engine.run_folder import save_checkpoint  # noqa: E402
from shared.preparation.disc import SIDE, DiscProbability  # noqa: E402

STEPS, BATCH, WARM_UP, HIGHEST = 2600, 8, 50, 3e-3
AVERAGED = 0.99  # decay of the moving average of the weights
SAVE_EVERY = 100
STORED = 312  # pixels, side of the square in which a picture is kept
FAR = 0.75  # half side of a window, in half sides of the square, from which pixels are averaged
HEIGHT = 208  # of a synthetic whole photograph; its width is at most 312
COUNTS = {"whole": 400, "without": 160, "phantom": 120, "other": 160, "photographs": 600}
SHARES = {"whole": 0.46, "cropped": 0.18, "without": 0.15, "other": 0.21}  # of the samples
CLOSE_SHARE = 0.45  # of the whole photographs are seen closely, as the finder's second look does
REAL_SHARE = 0.5  # of the whole photographs get a real disc
TOP = 0.01  # share of the pixels that count once more, those with the highest loss

Sample = tuple[torch.Tensor, torch.Tensor, dict[str, Any]]  # (3, S, S) and (1, S, S) uint8, and where the disc is


def read_crops(folder: str, split: str) -> list[DiscCrop]:
    """Read photographs cropped round the disc, with their outlines."""
    return [
        DiscCrop(
            np.asarray(Image.open(item["image"]).convert("RGB")), np.asarray(Image.open(item["label"]).convert("L")) > 0
        )
        for item in expand_datalist(Path(folder) / "dataset.json", split)
    ]


def stored(image: np.ndarray, disc: np.ndarray | None = None, side: int = STORED) -> Sample:
    """Lay a picture in the middle of a black square; a larger one is made smaller first."""
    shape = image.shape[:2]
    disc = np.zeros(shape, bool) if disc is None else disc
    scale = side / max(shape)
    if scale < 1:
        size = (max(round(shape[1] * scale), 1), max(round(shape[0] * scale), 1))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
        disc = np.asarray(Image.fromarray(disc.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 127
    top, left = ((side - extent) // 2 for extent in image.shape[:2])
    square = np.zeros((4, side, side), np.uint8)
    square[:3, top : top + image.shape[0], left : left + image.shape[1]] = image.transpose(2, 0, 1)
    square[3, top : top + image.shape[0], left : left + image.shape[1]] = disc
    where: dict[str, Any] = {"fills": max(image.shape[:2]) / side}
    if disc.any():
        row, column = ndimage.center_of_mass(square[3])
        where |= {"row": float(row), "column": float(column), "radius": math.sqrt(square[3].sum() / math.pi)}
    tensor = torch.from_numpy(square)
    return tensor[:3], tensor[3:], where


def make_samples(
    discs_dir: str, others_dir: str, split: str = "training", share: float = 1.0
) -> dict[str, list[Sample]]:
    """Make the pictures by kind; validation takes other seeds, other eyes and other pictures than training."""
    first = 0 if split == "training" else 1_000_000
    crops = read_crops(discs_dir, split)
    counts = {kind: max(round(count * share), 1) for kind, count in COUNTS.items()}
    kinds: dict[str, list[Sample]] = {kind: [] for kind in SHARES}
    for number in tqdm(range(counts["whole"]), "whole photographs", mininterval=10):
        rng = np.random.default_rng([first + number, 11])
        made = make_whole_fundus(first + number, HEIGHT)
        if rng.random() < REAL_SHARE:
            made = paste_disc(made, crops[rng.integers(len(crops))], rng)
        if made.disc.any():
            kinds["whole"].append(stored(made.image, made.disc))
    for number in tqdm(range(counts["without"]), "without disc", mininterval=10):
        kinds["without"].append(stored(make_whole_fundus(first + 500_000 + number, HEIGHT, with_disc=False).image))
    for number in range(counts["phantom"]):
        case = make_fundus_case(first + 700_000 + number, f"camera_{'abcd'[number % 4]}", size=HEIGHT)
        kinds["cropped"].append(stored(case.image, case.label > 0))
    kinds["cropped"] += [stored(*crop) for crop in crops] * (2 if split == "training" else 1)
    kinds["other"] += [stored(make_other_picture(first + number)) for number in range(counts["other"])]
    photographs = expand_datalist(Path(others_dir) / "dataset.json", split)[: counts["photographs"]]
    kinds["other"] += [stored(np.asarray(Image.open(item["image"]).convert("RGB"))) for item in photographs]
    return kinds


def draw_batch(rng: np.random.Generator, samples: dict[str, list[Sample]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a batch: pictures (B, 3, 160, 160) in [0, 1] and discs (B, 1, 160, 160)."""
    kinds = rng.choice(list(SHARES), BATCH, p=list(SHARES.values()))
    images, discs = [], []
    for kind in kinds:
        image, disc, where = samples[kind][rng.integers(len(samples[kind]))]
        window = _window(rng, str(kind), where)
        both = torch.cat([image, disc])[None].float()
        if float(window[:, :2].norm()) > math.sqrt(2) * FAR:
            both = avg_pool2d(both, 2)  # against aliasing
        seen = grid_sample(
            both, affine_grid(window[None], [1, 1, SIDE, SIDE], align_corners=False), align_corners=False
        )[0]
        images.append(seen[:3] / 255)
        discs.append((seen[3:] > 0.5).float())
    return _recolour(rng, torch.stack(images)), torch.stack(discs)


def _window(rng: np.random.Generator, kind: str, where: dict[str, Any]) -> torch.Tensor:
    """Draw what a look shows: a (2, 3) matrix from the network's square to the stored one, both -1 to 1."""
    half, middle = where["fills"], np.zeros(2)
    if kind == "whole" and rng.random() < CLOSE_SHARE:
        half = where["radius"] * rng.uniform(3.0, 5.5) / (STORED / 2)
        disc = np.array([where["column"], where["row"]]) / (STORED / 2) - 1
        middle = disc + rng.uniform(-0.6, 0.6, 2) * half * (rng.random() < 0.7)
    elif kind in ("without", "other") and rng.random() < 0.5:
        half = half * rng.uniform(0.2, 0.8)
        middle = rng.uniform(-0.6, 0.6, 2) * where["fills"]
    else:
        half = half * rng.uniform(0.65 if kind == "cropped" else 0.95, 1.25)
        middle = rng.normal(0, 0.04, 2)
    angle = rng.normal(0, 0.15) + np.pi * (rng.random() < 0.1)  # some pictures are upside down
    flip = rng.choice([-1.0, 1.0])
    turn = half * np.array([[np.cos(angle) * flip, -np.sin(angle)], [np.sin(angle) * flip, np.cos(angle)]])
    return torch.tensor(np.concatenate([turn, middle[:, None]], 1), dtype=torch.float32)


def _recolour(rng: np.random.Generator, images: torch.Tensor) -> torch.Tensor:
    """Change light, colours, sharpness and noise of a batch (B, 3, H, W) in [0, 1]."""
    count = len(images)

    def per(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return torch.tensor(rng.uniform(low, high, (count, channels, 1, 1)), dtype=torch.float32)

    images = images ** torch.exp(per(-0.5, 0.5) + per(-0.15, 0.15, 3)) * per(0.7, 1.25) * per(0.85, 1.15, 3)
    grey = images.mean(1, keepdim=True)
    kept = torch.where(per(0, 1) < 0.08, torch.zeros(()), per(0.6, 1.3))  # some pictures are grey
    images = grey + kept * (images - grey)
    blurred = avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = images + per(-0.6, 1.0) * (blurred - images)  # below 0 sharpens
    noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32)) * per(0, 0.03)
    return (images + noise).clamp(0, 1)


def disc_loss(logits: torch.Tensor, discs: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy, once more that of the worst pixels, and the Dice loss where there is a disc.

    Args:
        logits: (B, 1, H, W).
        discs: (B, 1, H, W), 0 or 1.
    """
    entropy = binary_cross_entropy_with_logits(logits, discs, reduction="none").flatten(1)
    worst = entropy.topk(round(TOP * entropy.shape[1]), dim=1).values.mean()
    found, true = torch.sigmoid(logits).flatten(1), discs.flatten(1)
    dice = (2 * (found * true).sum(1) + 1) / (found.sum(1) + true.sum(1) + 1)
    there = true.any(1)
    return 4 * entropy.mean() + 0.3 * worst + ((1 - dice) * there).sum() / there.sum().clamp_min(1)


def learning_rate(step: int) -> float:
    """Return the learning rate of a step."""
    return HIGHEST * cosine(step, STEPS, WARM_UP)


def train(samples: dict[str, list[Sample]], state: Path) -> torch.nn.Module:
    """Train, from the state of an earlier call if there is one, and return the network with averaged weights."""
    torch.manual_seed(0)
    network = DiscProbability().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = ResumableTraining(network, state, AVERAGED)
    fast = fast_dtype("cpu")
    losses: list[float] = []
    for step in tqdm(range(training.step, STEPS), initial=training.step, total=STEPS, mininterval=10):
        images, discs = draw_batch(np.random.default_rng([step, 13]), samples)
        with torch.autocast("cpu", fast, enabled=fast is not None):
            logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = disc_loss(logits.float(), discs)
        training.update(loss, learning_rate(step))
        losses.append(float(loss.detach()))
        if training.step % SAVE_EVERY == 0 or training.step == STEPS:
            training.save()
            tqdm.write(f"step {training.step}: loss {np.mean(losses[-SAVE_EVERY:]):.4f}")
    return training.average.eval()


def main(discs_dir: str, others_dir: str, work_dir: str, output: str = str(BUNDLE / "models" / "disc.pt")) -> None:
    """Make the pictures, train, and write the weights as float16.

    Args:
        discs_dir: photographs cropped round the disc.
        others_dir: pictures of something else.
        work_dir: folder of the training's state.
        output: file of the weights.
    """
    work = Path(work_dir)
    if not (work / "samples.pt").is_file():
        save_checkpoint(make_samples(discs_dir, others_dir), work / "samples.pt")
    network = train(torch.load(work / "samples.pt", weights_only=True), work / "disc_training.pt")
    save_checkpoint({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, Path(output))


if __name__ == "__main__":
    install_one_line_errors()
    fire.Fire(main)
