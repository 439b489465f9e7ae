"""A picture of the volumes of both ventricles over the heartbeat."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from emclip.cine_measures import Curves, measure_cine
from shared.results.figures import literal, save_figure
from shared.results.overlays import CLASS_COLOURS, INK, PAPER

BEAT_S = (0.3, 2.5)  # plausible length of a heartbeat; the time axis of many files is not in seconds


def save_curve(path: str | os.PathLike, curves: Curves, title: str) -> Path:
    """Draw the curves of a cine, with end diastole and end systole.

    Args:
        path: PNG to write.
        curves: volumes per phase.
        title: name of the case.
    """
    count, step = len(curves.left), curves.step_s
    timed = step is not None and BEAT_S[0] <= step * count <= BEAT_S[1]
    places = [1000 * step * phase if timed and step else phase + 1 for phase in range(count)]
    figure = Figure(figsize=(6.8, 3.6), dpi=110, facecolor=PAPER, layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor(PAPER)
    lines = (("left ventricle", curves.left, 0), ("myocardium", curves.muscle, 1), ("right ventricle", curves.right, 2))
    for name, volumes, colour in lines:
        axis.plot(places, volumes, "o-", color=CLASS_COLOURS[colour], label=name, markersize=3.5, linewidth=1.6)
    for name, phase in (("ED", curves.end_diastole), ("ES", curves.end_systole)):
        axis.axvline(places[phase], color=INK, linewidth=0.8, linestyle="dotted")
        axis.annotate(
            f"{name}, phase {phase + 1}", (places[phase], 1), (3, -3), ("data", "axes fraction"), "offset points",
            color=INK, fontsize=9, va="top", ha="left" if phase < count - 2 else "right",
        )  # fmt: skip
    axis.set_ylim(0, 1.15 * max(1e-6, *curves.left, *curves.right, *curves.muscle))
    axis.set_xlabel("time in ms" if timed else "phase", color=INK)
    axis.set_ylabel("volume in mL" if curves.unit == "ml" else "volume in voxels", color=INK)
    axis.tick_params(colors=INK)
    for spine in axis.spines.values():
        spine.set_color(INK)
    fraction = measure_cine(curves)["lv_ejection_fraction"]
    shown = "no left ventricle" if fraction is None else f"LV ejection fraction {fraction:.0f} %"
    axis.set_title(literal(f"{title}   {shown}"), color=INK, fontsize=11)
    axis.legend(frameon=False, labelcolor=INK, fontsize=9, ncols=3, loc="lower center")
    return save_figure(path, figure, facecolor=PAPER)
