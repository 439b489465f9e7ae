"""Loading as the bundles do, in one line."""

from __future__ import annotations

from monai.data import MetaTensor

from shared.io.volumes import LoadSequencesd


def load_dicom(path: str) -> MetaTensor:
    return LoadSequencesd("image", ["flair"])({"image": [path], "case_id": "p01"})["image"]
