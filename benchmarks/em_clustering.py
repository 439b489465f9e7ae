"""EM clustering: `EMAggregation` beside EMANet's unit, on the same tokens, in time and memory.

    python benchmarks/em_clustering.py [--quick] [--tokens 1024,4096,16384,65536] [--centres 8,32,64] [--device cpu]

The peer is EMANet's published unit (Li 2019, "Expectation-Maximization Attention Networks") written here from its
formula: 1x1 convolution, T = 3 iterations without gradient, reconstruction, 1x1 convolution with batch normalisation,
residual. "loop" is what stands between its convolutions alone, and so does less than ours, which maps its centres (W_o)
and adds them to the tokens. Ours has half of the centres as anchors. One image, C channels, float32. "train" is forward
and backward with a gradient for the tokens; ours sends it through the last iteration, the peer through none.

Every variant runs alone in its own process. Time: the processor time of the fastest of its runs, which a busy machine
disturbs least (on a GPU: elapsed time, which the JSON has for all). Memory: peak resident set (VmHWM of /proc, reset
before the first run) minus what was resident then, that is without tokens, weights and libraries; Linux only (on a GPU:
the allocator's peak). Growth: p in time ~ tokens^p.
"""

from __future__ import annotations

import datetime
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import fire
import torch
from record import cpu_name, save
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ITERATIONS = 3
VARIANTS = ("ours", "loop", "unit")


class EmanetUnit(nn.Module):
    """EMANet's unit after its formula, on (B, C, N); `whole=False` leaves out the convolutions and the residual."""

    bases: Tensor

    def __init__(self, channels: int, centres: int, whole: bool) -> None:
        super().__init__()
        self.before: nn.Module = nn.Conv1d(channels, channels, 1) if whole else nn.Identity()
        self.after: nn.Module | None = None
        if whole:
            self.after = nn.Sequential(nn.Conv1d(channels, channels, 1, bias=False), nn.BatchNorm1d(channels))
        self.register_buffer("bases", nn.functional.normalize(torch.randn(1, channels, centres), dim=1))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        x = self.before(tokens)
        centres = self.bases.expand(x.shape[0], -1, -1)
        with torch.no_grad():
            for _ in range(ITERATIONS):
                shares = (x.transpose(1, 2) @ centres).softmax(2)  # (B, N, K)
                centres = x @ (shares / (1e-6 + shares.sum(1, keepdim=True)))  # (B, C, K)
                centres = centres / (1e-6 + centres.norm(dim=1, keepdim=True))
        if self.training:
            self.bases.lerp_(centres.mean(0, keepdim=True), 0.1)
        if self.after is None:
            return (centres @ shares.transpose(1, 2)).relu()
        return (tokens + self.after((centres @ shares.transpose(1, 2)).relu())).relu()


def measure(variant: str, tokens: int, centres: int, channels: int, train: bool, repeats: int, device: str) -> None:
    """Run one variant in this process and print its figures as JSON."""
    from shared.layers.em_clustering import EMAggregation

    torch.manual_seed(0)
    on_gpu = torch.device(device).type == "cuda"
    x = torch.randn(1, tokens, channels)
    if variant == "ours":
        layer: nn.Module = EMAggregation(channels, centres - centres // 2, ITERATIONS)
        arguments = [x, torch.randn(centres // 2, channels)]
    else:
        layer = EmanetUnit(channels, centres, whole=variant == "unit")
        arguments = [x.transpose(1, 2).contiguous()]
    del x
    layer = layer.to(device).train(train)
    arguments = [argument.to(device) for argument in arguments]
    learns = train and variant != "loop"  # between its convolutions the peer has no gradient
    arguments[0].requires_grad_(learns)
    gradient = torch.ones_like(arguments[0]) if learns else None

    def run() -> None:
        with torch.set_grad_enabled(learns):
            out = layer(*arguments)
            out = out[0] if variant == "ours" else out
        if learns:
            arguments[0].grad = None
            out.backward(gradient)

    before = 0.0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
    else:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak of the resident set to its present size
        before = resident_mb("VmRSS")
    wall, cpu = [], []
    for _ in range(repeats + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else resident_mb("VmHWM")
    seconds = wall if on_gpu else cpu
    print(json.dumps({"seconds": min(seconds[1:]), "elapsed_s": min(wall[1:]), "peak_mb": peak - before}))


def resident_mb(key: str) -> float:
    """Return a size of this process from /proc in MB: VmRSS (present) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024


def device_name(device: str) -> str:
    """Return the name of the processor or the GPU as the system gives it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def growth(rows: list[dict], variant: str) -> float:
    """Return the exponent p of time ~ N^p between the fewest and the most tokens."""
    first, last = rows[0], rows[-1]
    return math.log(last[variant]["seconds"] / first[variant]["seconds"]) / math.log(last["tokens"] / first["tokens"])


def write_table(result: dict) -> str:
    """Return the result as Markdown."""
    keys = ("date", "device", "threads", "torch", "channels", "iterations", "repeats")
    lines = ["# EM clustering, ours beside EMANet's unit", ""]
    lines += [part.strip() + "\n" for part in (__doc__ or "").split("\n\n")[2:]]
    lines += [", ".join(f"{key} {result[key]}" for key in keys), ""]
    columns = ["mode", "K", "tokens", "ours ms", "loop ms", "unit ms", "loop / ours", "unit / ours"]
    columns += ["ours MB", "loop MB", "unit MB"]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in result["rows"]:
        cells = [row["mode"], str(row["centres"]), f"{row['tokens']:,}"]
        cells += [f"{1e3 * row[v]['seconds']:.1f}" if v in row else "-" for v in VARIANTS]
        cells += [f"{row[v]['seconds'] / row['ours']['seconds']:.2f}x" if v in row else "-" for v in VARIANTS[1:]]
        cells += [f"{row[v]['peak_mb']:.0f}" if v in row else "-" for v in VARIANTS]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Growth of the time with the tokens, from the fewest to the most (1 is linear):", ""]
    for entry in result["growth"]:
        exponents = ", ".join(f"{v} {entry[v]:.2f}" for v in VARIANTS if v in entry)
        lines.append(f"- {entry['mode']}, K = {entry['centres']}: {exponents}")
    return "\n".join(lines) + "\n"


def numbers(values: object) -> list[int]:
    """Turn what fire makes of "8", "8,32" or "[8,32]" into a sorted list."""
    return sorted(int(str(v)) for v in (values if isinstance(values, tuple | list) else [values]))


def main(
    quick: bool = False,
    tokens: object = (1024, 4096, 16384, 65536),
    centres: object = (8, 32, 64),
    channels: int = 256,
    repeats: int = 5,
    device: str = "cpu",
) -> None:
    """Measure forward and training; `quick`: 1,024 and 4,096 tokens, 32 centres, once, nothing written."""
    if quick:
        tokens, centres, repeats = (1024, 4096), (32,), 1
    rows: list[dict] = []
    slopes: list[dict] = []
    for mode in ("forward", "train"):
        for k in numbers(centres):
            series: list[dict] = []
            for n in numbers(tokens):
                row: dict = {"mode": mode, "centres": k, "tokens": n}
                for variant in VARIANTS if mode == "forward" else ("ours", "unit"):
                    figures = [variant, n, k, channels, int(mode == "train"), repeats, device]
                    command = [sys.executable, __file__, "measure", *map(str, figures)]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        raise SystemExit(f"{variant} at {n} tokens, {k} centres, {mode}:\n{done.stderr}")
                    row[variant] = json.loads(done.stdout.splitlines()[-1])
                series.append(row)
                print(mode, k, n, {v: f"{1e3 * row[v]['seconds']:.1f} ms" for v in VARIANTS if v in row}, flush=True)
            rows += series
            if len(series) > 1:
                slope = {v: growth(series, v) for v in VARIANTS if v in series[0]}
                slopes.append({"mode": mode, "centres": k, **slope})
    result = {
        "date": datetime.date.today().isoformat(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "channels": channels,
        "iterations": ITERATIONS,
        "repeats": repeats,
        "rows": rows,
        "growth": slopes,
    }
    table = write_table(result)
    print(table)
    if not quick:
        save("em_clustering", result, table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        variant, n, k, channels, train, repeats = sys.argv[2], *map(int, sys.argv[3:8])
        measure(variant, n, k, channels, bool(train), repeats, sys.argv[8])
    else:
        fire.Fire(main)
