"""Compare `EMAggregation` with EMANet's unit on the same tokens: time and memory.

    python benchmarks/em_clustering.py [--quick] [--tokens 1024,4096,16384,65536] [--centres 8,32,64] [--device cpu]

The peer ("unit") is EMANet's published unit (Li 2019, "Expectation-Maximization Attention Networks"), written from its
formula: 1x1 convolution, T = 3 iterations without gradient, reconstruction, 1x1 convolution with batch normalisation,
residual. "loop" is the part between its convolutions. It does less than "ours", which also maps its centres (W_o) and
adds them to the tokens. Half of our centres are anchors. The input is one image with C channels in float32. "train" is
forward and backward with a gradient for the tokens: ours passes it through the last iteration, the peer through none.

Every variant runs alone in its own process. Time is the processor time of the fastest run, which other load disturbs
least (on a GPU: the elapsed time; the JSON contains both). Memory is the peak of the resident set without tokens,
weights and libraries (VmHWM of /proc minus VmRSS before the first run, Linux only; on a GPU: the allocator's peak).
Growth is p in time ~ tokens^p.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
import time

import fire
import torch
from alone import reset_peak, resident_mb, run_alone
from record import cpu_name, save
from torch import Tensor, nn

from shared.layers.em_clustering import EMAggregation
from shared.results.tables import markdown

ITERATIONS = 3
VARIANTS = ("ours", "loop", "unit")


class EmanetUnit(nn.Module):
    """EMANet's unit on tokens (B, C, N); `whole=False` leaves out the convolutions and the residual."""

    bases: Tensor

    def __init__(self, channels: int, centres: int, whole: bool) -> None:
        super().__init__()
        self.before: nn.Module = nn.Conv1d(channels, channels, 1) if whole else nn.Identity()
        self.after: nn.Module | None = None
        if whole:
            self.after = nn.Sequential(nn.Conv1d(channels, channels, 1, bias=False), nn.BatchNorm1d(channels))
        self.register_buffer("bases", nn.functional.normalize(torch.randn(1, channels, centres), dim=1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, C, N) for tokens (B, C, N)."""
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
    learns = train and variant != "loop"  # the peer's loop has no gradient
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
        before = reset_peak()
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


def device_name(device: str) -> str:
    """Return the name of the processor or the GPU."""
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
    table = [columns]
    for row in result["rows"]:
        cells = [row["mode"], str(row["centres"]), f"{row['tokens']:,}"]
        cells += [f"{1e3 * row[v]['seconds']:.1f}" if v in row else "-" for v in VARIANTS]
        cells += [f"{row[v]['seconds'] / row['ours']['seconds']:.2f}x" if v in row else "-" for v in VARIANTS[1:]]
        cells += [f"{row[v]['peak_mb']:.0f}" if v in row else "-" for v in VARIANTS]
        table.append(cells)
    lines += [
        *markdown(table),
        "",
        "Growth of the time with the tokens, from the fewest to the most (1 is linear):",
        "",
    ]
    for entry in result["growth"]:
        exponents = ", ".join(f"{v} {entry[v]:.2f}" for v in VARIANTS if v in entry)
        lines.append(f"- {entry['mode']}, K = {entry['centres']}: {exponents}")
    return "\n".join(lines) + "\n"


def numbers(values: object) -> list[int]:
    """Return the numbers that fire reads from "8", "8,32" or "[8,32]", sorted."""
    return sorted(int(str(v)) for v in (values if isinstance(values, tuple | list) else [values]))


def main(
    quick: bool = False,
    tokens: object = (1024, 4096, 16384, 65536),
    centres: object = (8, 32, 64),
    channels: int = 256,
    repeats: int = 5,
    device: str = "cpu",
) -> None:
    """Measure forward and training; `quick` measures 1,024 and 4,096 tokens, 32 centres, once, and writes no file."""
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
                    row[variant] = run_alone(__file__, *figures)
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
    if quick:
        print(write_table(result))
    else:
        save("em_clustering", result, write_table(result))


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        variant, n, k, channels, train, repeats = sys.argv[2], *map(int, sys.argv[3:8])
        measure(variant, n, k, channels, bool(train), repeats, sys.argv[8])
    else:
        fire.Fire(main)
