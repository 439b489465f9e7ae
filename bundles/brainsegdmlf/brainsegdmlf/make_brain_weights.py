"""Train the brain extraction on synthetic scans of any contrast, and write ``models/brain.pt``.

    python bundles/brainsegdmlf/brainsegdmlf/make_brain_weights.py --heads_dir FOLDER --work_dir FOLDER

``heads_dir`` holds label maps of whole heads (docs/data_license.txt says where from). The training saves its state in
``work_dir`` every 100 steps and goes on from there when the command is repeated.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import fire
import torch
from monai.utils import set_determinism
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

BUNDLE = Path(__file__).resolve().parents[1]
runpy.run_path(str(BUNDLE / "brainsegdmlf" / "prepare.py"))

from brainsegdmlf.phantoms.any_contrast import AnyContrastScans, head_files, load_heads  # noqa: E402
from shared.core.errors import install_one_line_errors  # noqa: E402
from shared.engine.precision import fast_dtype  # noqa: E402
from shared.engine.resumable import ResumableTraining, cosine  # noqa: E402
from shared.engine.run_folder import save_checkpoint  # noqa: E402
from shared.preparation.brain import LARGEST_DISTANCE, UNIT, BrainDistance  # noqa: E402

HELD_OUT = (16, 17, 18, 19)  # heads for validation
CYCLES = ((1500, 3e-3), (1400, 2e-3), (1200, 1.5e-3))  # steps with one scan each, highest learning rate
WARM_UP = 50  # steps
AVERAGED = 0.99  # decay of the moving average of the weights
SAVE_EVERY, VALIDATE_EVERY, VALIDATION_SCANS = 100, 200, 16
VALIDATION_SEED = 1_000_000


def distance_loss(predicted: torch.Tensor, distance: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Compare predicted and true distances: their difference, most near the surface, and the Dice of the brains.

    Args:
        predicted, distance: (B, 1, X, Y, Z) in mm, negative inside.
        seen: bool, the field of view; only there does the loss count.
    """
    target = distance.clamp(-LARGEST_DISTANCE, LARGEST_DISTANCE)
    weight = (torch.exp(-target.abs() / UNIT) + 0.1) * seen
    difference = torch.nn.functional.smooth_l1_loss(predicted / UNIT, target / UNIT, reduction="none", beta=0.2)
    first, second = (torch.sigmoid(-d) * seen for d in (predicted, distance))
    dice = 2 * (first * second).sum() / (first.sum() + second.sum()).clamp_min(1)
    return (difference * weight).sum() / weight.sum().clamp_min(1) + 1 - dice


@torch.no_grad()
def validate(network: torch.nn.Module, scans: AnyContrastScans) -> list[float]:
    """Return the Dice of the brain in every scan, within its field of view."""
    found = []
    for index in range(len(scans)):
        scan = scans[index]
        predicted = (network(scan["image"][None])[0] < 0) & scan["seen"]
        brain = (scan["distance"] < 0) & scan["seen"]
        found.append(float(2 * (predicted & brain).sum() / (predicted.sum() + brain.sum()).clamp_min(1)))
    return found


def learning_rate(step: int) -> float:
    """Return the learning rate of a step: in each cycle a linear warm-up, then half a cosine to zero."""
    for length, highest in CYCLES:
        if step < length:
            return highest * cosine(step, length, WARM_UP)
        step -= length
    return 0.0


def main(heads_dir: str, work_dir: str, output: str = str(BUNDLE / "models" / "brain.pt")) -> None:
    """Train and write the weights.

    Args:
        heads_dir: label maps of heads, see `load_heads`.
        work_dir: folder of the training's state.
        output: file of the weights.
    """
    set_determinism(0)
    steps = sum(length for length, _ in CYCLES)
    numbers = range(len(head_files(heads_dir)))
    heads, tissues = load_heads(heads_dir, [number for number in numbers if number not in HELD_OUT])
    validation = AnyContrastScans(load_heads(heads_dir, HELD_OUT)[0], tissues, VALIDATION_SCANS, VALIDATION_SEED)
    scans = AnyContrastScans(heads, tissues, steps)

    network = BrainDistance().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    training = ResumableTraining(network, Path(work_dir) / "brain_training.pt", AVERAGED, weight_decay=1e-4)
    fast = fast_dtype("cpu")
    first = training.step
    loader = DataLoader(Subset(scans, range(first, steps)), batch_size=1, num_workers=1, prefetch_factor=4)
    progress = tqdm(loader, initial=first, total=steps, mininterval=10)
    for step, batch in enumerate(progress, first):
        image = batch["image"].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", fast, enabled=fast is not None):
            predicted = network(image)
        loss = distance_loss(predicted.float(), batch["distance"], batch["seen"])
        training.update(loss, learning_rate(step))
        progress.set_postfix(loss=f"{float(loss.detach()):.3f}")
        last = training.step == steps
        if last or training.step % SAVE_EVERY == 0:
            training.save()
        if last or training.step % VALIDATE_EVERY == 0:
            found = validate(training.average, validation)
            tqdm.write(f"step {training.step}: Dice {sum(found) / len(found):.4f}, lowest {min(found):.4f}")
    save_checkpoint({name: tensor.half() for name, tensor in training.average.state_dict().items()}, Path(output))


if __name__ == "__main__":
    install_one_line_errors()
    fire.Fire(main)
