"""Columns as files that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llem.analysis.frame import polars_frame
from llem.store.files import machine_errors, make_folder

__all__ = ["csv_text", "jsonl_text", "write_parquet"]

Columns = Mapping[str, Sequence[Any]]


def csv_text(columns: Columns) -> Iterator[str]:
    """Lines of CSV with a header; codes in one cell with spaces between, nothing where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (tuple(columns), *zip(*columns.values(), strict=True)):
        writer.writerow([_cell(value) for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value


def jsonl_text(columns: Columns) -> Iterator[str]:
    """One JSON object a line."""
    for row in zip(*columns.values(), strict=True):
        yield json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False) + "\n"


def write_parquet(columns: Columns, path: str | Path) -> None:
    """Raises MachineError without polars, or where the file cannot be written."""
    frame = polars_frame(columns)
    with machine_errors(Path(path)):
        make_folder(Path(path).parent)
        frame.write_parquet(path)
