"""How the tests use a released bundle: tiny data, and every verb in a process that knows nothing of the repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shared
from tests.bundles.facts import BUNDLES, NAMES
from tests.bundles.running import environment
from tests.warm import run_code


@dataclass
class Release:
    """Files of a release, and what a user does with them."""

    folder: Path
    cache: Callable[[str], Any]

    @property
    def zips(self) -> dict[str, Path]:
        """The zip of each bundle."""
        return {name: self.folder / "dist" / f"{name}_v{shared.__version__}.zip" for name in NAMES}

    def data(self, name: str) -> Path:
        """A tiny data set for a bundle; made once."""
        folder = self.folder / "data" / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            BUNDLES[name].write_cases(folder)
        return folder

    def used(self, name: str) -> dict[str, Any]:
        """What became of a bundle that was used from its zip alone, see `VERBS`; done once."""
        return self.cache(name)


VERBS = """
import json, os, shutil, sys
from pathlib import Path
from monai.bundle import ConfigWorkflow, load, run
name, bundle, data, small, short = json.loads(sys.argv[1])
configs, here = Path(bundle) / "configs", Path.cwd()
places = {"device": "cpu", "amp": False, **small}
run(config_file=str(configs / "train.json"), dataset_dir=data, output_dir="trained", **places, **short)
import shared
found = {"shared": shared.__file__, "package": sys.modules[name].__file__}
weights = {"dataset_dir": data, "ckpt_dir": str(here / "trained" / "models")}
if (configs / "evaluate.json").is_file():
    both = [str(configs / f"{verb}.json") for verb in ("train", "evaluate")]
    run(config_file=both, output_dir="evaluated", **weights, **places)
if (configs / "inference.json").is_file():
    run(config_file=str(configs / "inference.json"), output_dir="segmented", **weights, **places)
    os.chdir("/")
    config = str(configs / "inference.json")
    flow = ConfigWorkflow(config, workflow_type="infer", output_dir=str(here / "flow"), **weights, **places)
    flow.initialize()
    found["missing"] = flow.check_properties()
    flow.run()
    flow.finalize()
if not (Path(bundle) / "models" / "model.pt").is_file():  # none is shipped yet
    (Path(bundle) / "models").mkdir(exist_ok=True)
    shutil.copy(here / "trained" / "models" / "model.pt", Path(bundle) / "models")
os.chdir("/")
found["parameters"] = sum(p.numel() for p in load(name, bundle_dir=str(Path(bundle).parent)).parameters())
(here / "found.json").write_text(json.dumps(found), encoding="utf-8")
"""


SEVERAL = """
import json, sys
from pathlib import Path
sys.path = [folder for folder in sys.path if folder]
from monai.bundle import ConfigWorkflow
(bundles, later), found = json.loads(sys.argv[1]), {}
for name, (bundle, data, weights, small) in bundles.items():
    config = Path(bundle) / "configs" / "inference.json"
    places = {"dataset_dir": data, "ckpt_dir": weights, "output_dir": name, "device": "cpu", "amp": False}
    flow = ConfigWorkflow(str(config), workflow_type="infer", **places, **small)
    flow.initialize()
    flow.run()
    flow.finalize()
    found[name] = type(flow.network_def).__module__, sys.modules[name].__file__
Path("found.json").write_text(json.dumps(found), encoding="utf-8")
if later:
    from shared.core.errors import find_input_error
    try:
        ConfigWorkflow(later, workflow_type="infer").initialize()
    except Exception as error:  # a program sees MONAI's error; the line for its user is the cause
        sys.exit(f"error: {find_input_error(error)}")
"""


def python(script: str, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess:
    """Run a script in a process that knows nothing of the repository; arguments as one JSON text."""
    cwd.mkdir(parents=True, exist_ok=True)
    return run_code(script, json.dumps(arguments), cwd=cwd, environment=environment())
