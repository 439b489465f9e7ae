"""What the stages of ``make_weights.py`` train on, and what they are validated on."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose

from brainsegdmlf.training.mixture import Pictures, Source
from brainsegdmlf.training.shapes import phantom_options
from brainsegdmlf.training.slices import held_out, read_slices, training_slices
from brainsegdmlf.training.validation import SPACING, Checks, validation_slices
from brainsegdmlf.training.volumes import Patients, Phantoms, Volume, phantom_volume, to_volume
from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist

FOLDERS = {"slices": "brain_flair_slices", "patients": "brain_ms"}  # of the sources
PARTS = ("training", "validation")
VALIDATION_SLICES = 100
VALIDATION_PHANTOMS = ("none", "ms", "both")  # kinds of lesions
VALIDATION_SEED = 2**31  # seeds of training are smaller


def load_sources(
    data: Path, used: Collection[str], config: ConfigParser, channels: int, leave_out: str | None
) -> tuple[dict[str, Source], Checks]:
    """Load what the training uses, and what it is validated on.

    Args:
        data: folder of the data sets.
        used: names of the sources that the training uses: "phantoms", "slices", "patients".
        config: see `make_weights.read_config`.
        channels: number of sequences.
        leave_out: a case of ``brain_ms`` that is only validated.

    Returns:
        The sources by name, at least those in `used`; and the data for `validation.validate`.

    Raises:
        InputError: a data set is missing, there is no case `leave_out`, or no other case is left.
    """
    for name, folder in FOLDERS.items():
        needed = name in used or (name == "patients" and leave_out)
        if needed and not (data / folder / "dataset.json").is_file():
            remedy = "correct --data_dir, or train with --stages phantoms"
            raise InputError(f"{data} has no {folder}/dataset.json: {remedy}")
    flair, ms = (data / FOLDERS[name] for name in ("slices", "patients"))
    make = partial(phantom_volume, fitting=Compose(config.get_parsed_content("fitting")))
    names = [item["case_id"] for item in patient_items(ms)] if ms.is_dir() else []
    options = {part: phantom_options(data, part == "validation", names) for part in PARTS}
    sources: dict[str, Source] = {"phantoms": Phantoms(partial(make, **options["training"]))}
    checks = Checks(channels)
    for number, kind in enumerate(VALIDATION_PHANTOMS):
        settings = {"lesions": number > 0, "hard": True, "rough": False, "spacing": SPACING}
        settings |= options["validation"]
        if "lesion_dir" in settings:
            settings["lesion_kind"] = kind
        checks.phantoms.append(make(VALIDATION_SEED + number, **settings))
    if "slices" in used or flair.is_dir():
        slices = read_slices(flair)
        checks.slices = validation_slices([s for s in slices if held_out(s.patient)], VALIDATION_SLICES)
        if "slices" in used:
            sources["slices"] = Pictures(training_slices([s for s in slices if not held_out(s.patient)], channels))
    if "patients" in used or leave_out:
        patients = load_patients(ms, config)
        if leave_out and leave_out not in patients:
            raise InputError(f"--leave_out {leave_out} is no case of brain_ms: choose from {', '.join(patients)}")
        checks.patient = patients.pop(leave_out) if leave_out else None
        if "patients" in used and not patients:
            raise InputError(f"--leave_out {leave_out} leaves no case of brain_ms: train with --stages phantoms")
        sources["patients"] = Patients(list(patients.values()))
    return sources, checks


def load_patients(folder: Path, config: ConfigParser) -> dict[str, Volume]:
    """Load the cases of both lists of a data set, as the training of the bundle does; by case id."""
    steps = [*config.get_parsed_content("loading"), *config.get_parsed_content("label_loading")]
    load = Compose([*steps, *config.get_parsed_content("fitting")])
    return {item["case_id"]: to_volume(load(item)) for item in patient_items(folder)}


def patient_items(folder: Path) -> list[dict[str, Any]]:
    """Return the cases of both lists of a data set."""
    return [item for split in PARTS for item in expand_datalist(folder / "dataset.json", split)]
