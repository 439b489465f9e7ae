"""Compare our SAM ViT-B image encoder with segment_anything's own, on the same weights and image: time and memory.

    python benchmarks/sam_encoder.py [--quick]

Every variant runs alone in its own process, ours and the peer's in turn. Time is the minimum over the processes of the
median and of the minimum of their runs after a warm-up, which other load disturbs least; the processor time of all
threads is given too. Memory is the peak of the resident set without weights and libraries (VmHWM of /proc minus VmRSS
before the first run, Linux only). bfloat16 is autocast for both, with one run in one process each; at 1024 pixels only
on a CPU with bfloat16 instructions or with --emulated, because without them one run of the peer takes minutes.
"""

from __future__ import annotations

import datetime
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import fire
import torch
from alone import reset_peak, resident_mb, run_alone
from record import cpu_name, save

from shared.backbones.sam import SAM_SIZES, SamEncoder
from shared.backbones.sam_attention import SamAttention
from shared.results.tables import markdown


def build_peer(size) -> torch.nn.Module:
    """Build segment_anything's own encoder, with random instead of zero position tables."""
    from segment_anything.modeling import ImageEncoderViT

    peer = ImageEncoderViT(
        img_size=size.image_size,
        patch_size=size.patch_size,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        out_chans=size.out_channels,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=size.window_size,
        global_attn_indexes=size.global_blocks,
    )
    for name, parameter in peer.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return peer.eval()


def measure(who: str, side: int, dtype: str, repeats: int, folder: str) -> None:
    """Run one variant in this process, print its figures as JSON and save its output in `folder`."""
    weights = torch.load(Path(folder) / "weights.pt", weights_only=True)
    size = SAM_SIZES["vit_b"]
    if who == "ours":
        encoder = SamEncoder(size, neck=True).eval()
        encoder.load_state_dict(weights)
        run = encoder.encode
    else:
        peer = build_peer(size)
        peer.load_state_dict(weights)
        if side != size.image_size:  # the peer takes only its native size: give it a resized table
            table = peer.pos_embed.detach().permute(0, 3, 1, 2)
            table = torch.nn.functional.interpolate(table, size=[side // size.patch_size] * 2, mode="bicubic")
            peer.pos_embed = torch.nn.Parameter(table.permute(0, 2, 3, 1))
        run = peer
    del weights
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    before = reset_peak()
    times, cpu_times = [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        for _ in range(repeats + 1):
            start, cpu_start = time.perf_counter(), time.process_time()
            out = run(image)
            times.append(time.perf_counter() - start)
            cpu_times.append(time.process_time() - cpu_start)
    figures = {"median_s": statistics.median(times[1:]), "min_s": min(times[1:]), "cpu_s": min(cpu_times[1:])}
    figures |= {"peak_mb": resident_mb("VmHWM") - before, "peak_with_weights_mb": resident_mb("VmHWM")}
    torch.save(out.float(), Path(folder) / f"{who}_{side}_{dtype}.pt")
    print(json.dumps(figures))


def write_table(result: dict) -> str:
    """Return the result as Markdown."""
    keys = ("date", "cpu", "capability", "threads", "torch", "processes", "repeats")
    lines = [
        "# SAM ViT-B encoder, ours beside segment_anything's own",
        "",
        (__doc__ or "").split("\n\n")[-1].strip(),
        "",
    ]
    lines += [", ".join(f"{key} {result[key]}" for key in keys), ""]
    columns = ["pixels", "type", "peer s", "ours s", "speed", "peer cpu s", "ours cpu s", "cpu ratio"]
    columns += ["peer MB", "ours MB", "memory", "max abs difference"]
    table = [columns]
    for row in result["rows"]:
        peer, ours = row["peer"], row["ours"]
        cells = [
            str(row["pixels"]),
            row["dtype"],
            f"{peer['min_s']:.2f}",
            f"{ours['min_s']:.2f}",
            f"{row['speed']:.2f}x",
        ]
        cells += [f"{peer['cpu_s']:.2f}", f"{ours['cpu_s']:.2f}", f"{row['cpu_speed']:.2f}x"]
        cells += [
            f"{peer['peak_mb']:.0f}",
            f"{ours['peak_mb']:.0f}",
            f"{row['memory']:.2f}",
            f"{row['difference']:.1e}",
        ]
        table.append(cells)
    lines += [
        *markdown(table),
        "",
        "Differences in bfloat16 are against the peer's own float32 output, ours first, then the peer's:",
        "",
    ]
    for row in result["rows"]:
        if row["dtype"] == "bfloat16":
            lines.append(f"- {row['pixels']} px: {row['ours_to_float32']:.1e}, {row['peer_to_float32']:.1e}")
    return "\n".join(lines) + "\n"


def main(quick: bool = False, repeats: int = 2, processes: int = 2, emulated: bool = False) -> None:
    """Measure ViT-B at 1024 and 512 pixels in float32 and bfloat16; `quick` measures 512 pixels in float32, once."""
    cases = [(512, "float32")] if quick else [(1024, "float32"), (512, "float32"), (512, "bfloat16")]
    if not quick and (emulated or SamAttention(8, 1, 1, 0).fast_bfloat16):
        cases.append((1024, "bfloat16"))
    repeats, processes = (1, 1) if quick else (repeats, processes)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        torch.save(build_peer(SAM_SIZES["vit_b"]).state_dict(), Path(folder) / "weights.pt")
        for side, dtype in cases:
            runs: dict[str, list[dict]] = {"peer": [], "ours": []}
            once = dtype == "bfloat16"  # slow where the CPU emulates it
            for _ in range(1 if once else processes):
                for who, figures in runs.items():
                    figures.append(run_alone(__file__, who, side, dtype, 1 if once else repeats, folder))
            best = {who: {key: min(f[key] for f in figures) for key in figures[0]} for who, figures in runs.items()}
            out = {who: torch.load(Path(folder) / f"{who}_{side}_{dtype}.pt") for who in runs}
            exact = torch.load(Path(folder) / f"peer_{side}_float32.pt")
            row = {"pixels": side, "dtype": dtype, **best, "all": runs}
            row["speed"] = best["peer"]["min_s"] / best["ours"]["min_s"]
            row["cpu_speed"] = best["peer"]["cpu_s"] / best["ours"]["cpu_s"]
            row["memory"] = best["ours"]["peak_mb"] / best["peer"]["peak_mb"]
            row["difference"] = (out["ours"] - out["peer"]).abs().max().item()
            for who in runs:
                row[f"{who}_to_float32"] = (out[who] - exact).abs().max().item()
            rows.append(row)
            print(f"{side} px {dtype}: {row['speed']:.2f}x, memory {row['memory']:.2f}", flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processes": processes,
        "repeats": repeats,
        "rows": rows,
    }
    if quick:
        print(write_table(result))
    else:
        save("sam_encoder", result, write_table(result))


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6])
    else:
        fire.Fire(main)
