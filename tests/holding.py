"""A process that holds the lock of a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bundles.running import ROOT

HOLD = """
import sys, time
from shared.core.locks import locked
with locked(sys.argv[1], "training", name=sys.argv[2] if len(sys.argv) > 2 else ".lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start a process that holds `folder` until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(folder), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process
