"""Pictures of the clusters: which centre owns which pixel."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import MetaTensor

from emclip.cluster_pictures import save_responsibilities
from shared.datasets.cases import Items


def show_clusters(
    network: torch.nn.Module,
    items: Items,
    preprocessing: Callable[[Any], Any],
    output_dir: str | os.PathLike,
    class_names: Sequence[str],
    per_domain: int = 1,
    device: str | torch.device = "cpu",
) -> list[Path]:
    """Write ``<output_dir>/clusters/<domain>_<case_id>.png`` of the first cases of each domain.

    Args:
        network: `emclip.network.EMCLIP`, perhaps wrapped for several processes; without EM nothing is written.
        items: cases with ``image``, ``case_id`` and ``domain``.
        preprocessing: of validation; gives ``image`` (C, H, W), or a volume (C, X, Y, Z) whose middle slice along
            the last axis is shown.
        output_dir: folder of the run.
        class_names: names of the anchored centres, the background first.
        per_domain: cases a domain; 0 for none.
        device: of the network.

    Returns:
        The paths; the first process alone writes, and prints them.
    """
    model: Any = getattr(network, "module", network)
    if idist.get_rank() != 0 or model.em is None:
        return []
    model.eval()
    shown: Counter[str] = Counter()
    paths = []
    for item in items:
        domain = item["domain"]
        if shown[domain] >= per_domain:
            continue
        shown[domain] += 1
        image = preprocessing(item)["image"]
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        if image.ndim == 4:  # shown as on the screen: rows before columns
            image = image[..., image.shape[-1] // 2].transpose(1, 2)
        responsibilities = model.clusters(image[None].to(device))[0].cpu()
        anchored = class_names if model.anchors else []
        names = [*anchored, *(f"free {i + 1}" for i in range(len(responsibilities) - len(anchored)))]
        path = Path(output_dir) / "clusters" / f"{domain}_{item['case_id']}.png"
        paths.append(save_responsibilities(path, image, responsibilities, names, f"{domain}  {item['case_id']}"))
    if paths:
        print(f"clusters  {paths[0]}{' ...' if len(paths) > 1 else ''} ({len(paths)})", flush=True)
    return paths
