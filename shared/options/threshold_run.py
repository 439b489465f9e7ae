"""An evaluation whose masks are made at several thresholds, without segmenting more than once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.transforms import Compose

from shared.core.errors import InputError
from shared.core.missing import is_missing
from shared.options.next_command import inference_command, quoted
from shared.results.threshold_sweep import Point, ThresholdSweep
from shared.transforms.temperature import Temperatured
from shared.transforms.threshold import Thresholdd

REGIONS = ("regions", "structures")  # options that name the outputs of a network, in order
# Changes to the evaluation: the cases of one split, no metric, and a run that only checks the data.
CHANGES = {
    "preflight#items": ["@validation_items"],
    "validate#dataset": {"_target_": "Dataset", "data": "@validation_items", "transform": "@validate#preprocessing"},
    "validate#key_metric": None,
    "run": ["$@preflight()"],
}


class ThresholdRun:
    """An evaluation of one split whose masks are made at several thresholds.

    Args:
        root: the bundle's folder.
        files: paths of its configs, as of --config_file.
        overrides: options of the user.
        split: list of ``dataset.json``.

    Raises:
        InputError: an option, the data or the weights cannot be used, a case has no label, or the bundle cannot
            validate.
    """

    def __init__(self, root: Path, files: Sequence[str], overrides: Mapping[str, Any], split: str) -> None:
        self.root, self.files, self.overrides = root, list(files), dict(overrides)
        options = {"output_dir": "$@bundle_root + '/output/operating_point'", **overrides}
        flow = ConfigWorkflow(config_file=self.files, workflow_type="train", **options)
        self.parser = flow.parser
        if not isinstance(self.parser.get("validate"), dict):
            raise InputError(f"bundle {root.name} has no part validate in its train.json: it cannot be fitted")
        for key, value in {**CHANGES, "validation_items#split": split}.items():
            self.parser[key] = value
        self.parser["validate#handlers"] = self.parser["validate#handlers"][:1]  # the progress bar
        flow.initialize()
        items = self.parser.get_parsed_content("validation_items")
        unlabelled = [item["case_id"] for item in items if is_missing(item.get("label"))]
        if unlabelled or not items:
            which = f"case {unlabelled[0]} of '{split}' has" if unlabelled else f"the cases of '{split}' have"
            raise InputError(f"{which} no label: give a --split of labelled cases, or leave the case out of the list")
        self.patients = {str(item["case_id"]): str(item.get("patient", item["case_id"])) for item in items}
        self.counted = "patient" if any("patient" in item for item in items) else "case"
        flow.run()

    @property
    def size(self) -> str:
        """The number of cases, and of patients where the data list names them, such as "12 cases of 9 patients"."""
        cases, people = len(self.patients), len(set(self.patients.values()))
        return _number(cases, "case") + (f" of {_number(people, 'patient')}" if self.counted == "patient" else "")

    def sweep(self, points: Sequence[Point], temperature: Any = 1.0) -> ThresholdSweep:
        """Segment every case once, and compare its masks at each threshold with its label.

        Args:
            points: T thresholds, each one number for all regions or one per region.
            temperature: one number, or one per region.

        Raises:
            InputError: the bundle makes its masks without a threshold.
        """
        chain = self.parser.get_parsed_content("validate#postprocessing")
        steps = list(chain.flatten().transforms)
        at = next((number for number, step in enumerate(steps) if isinstance(step, Thresholdd)), None)
        if at is None:
            raise InputError(f"bundle {self.root.name} makes its masks without a threshold: there is none to fit")
        chain.transforms = tuple(steps[:at])
        for step in steps[:at]:
            if isinstance(step, Temperatured):
                step.temperature = temperature

        def masks(item: Mapping[str, Any], point: Point) -> Any:
            steps[at].threshold = point
            return Compose(steps[at:])(item)

        evaluator = self.parser.get_parsed_content("validate#evaluator")
        handler = ThresholdSweep(points, masks, self.patients)
        handler.attach(evaluator)
        evaluator.run()
        return handler

    def region_names(self, number: int) -> list[str]:
        """Return the names of the network's outputs, or numbers where the config has none."""
        key = next((key for key in REGIONS if key in self.parser.get()), None)
        names = [str(name) for name in self.parser.get_parsed_content(key)] if key else []
        return names if len(names) == number else [f"region {index}" for index in range(1, number + 1)]

    def next_commands(self, found: Mapping[str, Any], extra: Sequence[str], report_split: str | None) -> dict[str, str]:
        """Return the commands that segment, and that evaluate on other cases, with the options `found`."""
        config = {key: value for key, value in self.parser.get().items() if key != "split"} | dict(found)
        given = {key: value for key, value in self.overrides.items() if key != "output_dir"}
        if "split" in self.parser.get():
            given["split"] = report_split or "testing"
        words = [f"--{key} {quoted(value)}" for key, value in {**given, **found}.items()]
        files = quoted(str(self.files).replace(" ", ""))
        return {
            "segment": inference_command(self.root, self.parser.get_parsed_content("ckpt_dir"), config, extra),
            "evaluate": " ".join(["python -m monai.bundle run --config_file", files, *words]),
        }


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
