"""Columns as files that other programs read."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llem.analysis.frame import polars_frame
from llem.store.files import machine_errors, write

__all__ = ["csv_text", "jsonl_text", "parquet_bytes", "write_out"]

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


def parquet_bytes(columns: Columns) -> bytes:
    """The content of a Parquet file. Raises MachineError (requirement_missing) without polars."""
    buffer = io.BytesIO()
    polars_frame(columns).write_parquet(buffer)
    return buffer.getvalue()


def write_out(path: str | Path, content: bytes) -> None:
    """Write `content` to the path that a user named.

    A regular file is replaced whole, and so is the target of a symbolic link. Anything else that exists, such as a
    device or a FIFO, is opened and written to. A missing parent folder is made.

    Raises:
        MachineError: the path cannot be written.
    """
    with machine_errors(Path(path)):
        if _is_special(path):
            Path(path).write_bytes(content)
        else:
            write(Path(os.path.realpath(path) if os.path.islink(path) else path), content, replace=True)


def _is_special(path: str | Path) -> bool:
    """Whether the path exists and is no regular file. A rename onto it would remove the device or the FIFO."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
