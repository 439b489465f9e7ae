"""Measure the preparation of raw studies, on real scans whose answer is known.

    BUNDLES_REAL_DATA=FOLDER python benchmarks/preparation.py [registration | masks]

`registration` (about ten minutes): distances to known positions, see `preparation_registration`. `masks` (about ten
minutes): brain masks, lesions with time and memory, and patients whose sequences were moved, see `preparation_masks`.
Without a name both are measured. The folder contains ``brain_raw`` and ``brain_ms``.
"""

from __future__ import annotations

import os
from pathlib import Path

import fire
from preparation_masks import measure_masks
from preparation_registration import measure_registration


def real_folder() -> Path:
    """Return the folder of real images, or exit with one line."""
    folder = Path(os.environ.get("BUNDLES_REAL_DATA", ""))
    if not all((folder / name).is_dir() for name in ("brain_raw", "brain_ms")):
        raise SystemExit("set BUNDLES_REAL_DATA to the folder that contains brain_raw and brain_ms")
    return folder


def main(part: str = "all", trials: int = 40) -> None:
    """Write ``results/preparation_*.json`` and ``.md``.

    Args:
        part: "registration", "masks" or "all".
        trials: disturbed headers in `registration`.
    """
    folder = real_folder()
    if part in ("registration", "all"):
        measure_registration(folder, trials)
    if part in ("masks", "all"):
        measure_masks(folder)


if __name__ == "__main__":
    fire.Fire(main)
