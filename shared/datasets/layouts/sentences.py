"""Sentences of language-guided data sets: tables with columns ``Image`` and ``Description``, as LViT has them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.datasets.layouts.layout import Files


def read_sentences(files: Files) -> dict[str, str]:
    """Return file name -> sentence from every such table (.xlsx, .csv) of a folder; other tables are ignored.

    Raises:
        InputError: a table cannot be read.
    """
    sentences: dict[str, str] = {}
    for match in files.find(r"[^/]+\.(xlsx|csv)"):
        path = files.path(match)
        table = _read(path)
        table.columns = [str(column).strip().lower() for column in table.columns]
        if {"image", "description"} <= set(table.columns):
            rows = table.dropna(subset=["image", "description"])
            names = (Path(str(name).strip()).name for name in rows["image"])
            sentences.update(zip(names, (" ".join(str(text).split()) for text in rows["description"])))
    return sentences


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_excel(path) if path.suffix.lower() == ".xlsx" else pd.read_csv(path)
    except ImportError as error:
        raise InputError(f"{path} cannot be read: pip install openpyxl") from error
    except Exception as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): get the file again") from error
