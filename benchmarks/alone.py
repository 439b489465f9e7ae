"""Measure a variant of a layer alone in its own process: time, and peak memory without weights and libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_alone(script: str, *arguments: Any) -> dict[str, float]:
    """Run ``python <script> measure <arguments>`` and return the JSON of its last line, or exit with its error."""
    command = [sys.executable, script, "measure", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def reset_peak() -> float:
    """Set the peak of this process's resident memory to its present size and return this size in MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return resident_mb("VmRSS")


def resident_mb(key: str) -> float:
    """Return the resident memory of this process in MB: "VmRSS" (present) or "VmHWM" (peak)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024
