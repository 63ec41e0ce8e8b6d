"""Results as files that other programs read: tables, and the one place that knows every format by its name."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llem.analysis.collection import Results
from llem.analysis.frame import polars_frame
from llem.analysis.sides import is_fake
from llem.errors import ConfigError, StoreError, nearest
from llem.foreign.shown import cell
from llem.reports.dataset import dataset_files
from llem.reports.eee import eee_files
from llem.reports.leaderboard import leaderboard_text
from llem.store.files import machine_errors, make_folder, write
from llem.store.models import Result
from llem.store.store import Store

__all__ = [
    "FOLDERS",
    "FORMATS",
    "csv_text",
    "export",
    "format_of",
    "jsonl_text",
    "labelled",
    "parquet_bytes",
    "text_of",
    "write_folder",
    "write_out",
]

Columns = Mapping[str, Sequence[Any]]

#: Formats that are one table, each also the ending of its files.
TABLES = ("csv", "jsonl", "parquet")
#: Formats that are a folder.
FOLDERS = ("hf", "eee")
FORMATS = (*TABLES, *FOLDERS, "leaderboard")


def format_of(out: str | Path | None, asked: str | None) -> str:
    """The format of a file: what was asked for, or what the file's ending says; CSV without a file.

    Raises ConfigError: no such format; an ending that is none and no format; or an ending that says another table.
    """
    if asked is not None and asked not in FORMATS:
        near = nearest(asked, FORMATS)
        hint = f"did you mean {near!r}?" if near else f"formats: {', '.join(FORMATS)}"
        raise ConfigError(f"there is no format {asked!r}", hint, "format_unknown")
    if out is None:
        return asked or "csv"
    ending = Path(out).suffix.lower().removeprefix(".")
    if asked is None and ending not in TABLES:
        says = f"the ending .{ending}" if ending else "no ending"
        hint = f"endings: {', '.join(f'.{name}' for name in TABLES)}; or name the format: {', '.join(FORMATS)}"
        raise ConfigError(f"{out} has {says}, which names no format", hint, "format_unknown")
    if asked in TABLES and ending in TABLES and ending != asked:
        hint = f"leave the format out, or let the file end with .{asked}"
        raise ConfigError(f"{out} ends with .{ending}, and the format asked for is {asked}", hint, "format_unknown")
    return asked or ending


def export(
    results: Results | str | Path,
    out: str | Path,
    format: str | None = None,
    *,
    everything: bool = False,
    organisation: str = "unknown",
) -> tuple[str, ...]:
    """Write results for other programs. A file is replaced; a folder must be new or empty.

    Args:
        results: or the folder that they are in.
        out: file, or folder for the formats `hf` and `eee`.
        format: `csv`, `jsonl`, `parquet`, `hf` (data set of Hugging Face), `eee` (Every Eval Ever) or `leaderboard`
            (JSON). None goes by the file's ending, which is that of a table.
        everything: of a table, also columns that are empty in all rows.
        organisation: who publishes records of Every Eval Ever.

    Returns:
        What of the results is not in it, or what is to be done, in sentences.

    Raises:
        ConfigError: the ending says no format, or another one.
        StoreError: there is no store, nothing may be published in this format (nothing_to_compare), or the folder is
            not empty (store_exists).
        MachineError: it cannot be written, or Parquet without polars.
    """
    kind = format_of(out, format)
    found = results if isinstance(results, Results) else Results.open(Store.open(results))
    if kind in FOLDERS:
        _refuse_taken(Path(out))
        files, notes = dataset_files(found) if kind == "hf" else eee_files(found, organisation)
        write_folder(Path(out), files)
        return notes
    if kind == "parquet":
        write_out(out, parquet_bytes(found.columns(everything=everything)))
        return ()
    lines, notes = text_of(found, kind, everything=everything)
    write_out(out, "".join(lines).encode(errors="backslashreplace"))
    return notes


def text_of(results: Results, kind: str, *, everything: bool = False) -> tuple[Iterator[str], tuple[str, ...]]:
    """The text of a format that is one, and what is not in it. Raises as `export`."""
    if kind == "leaderboard":
        text, notes = leaderboard_text(results)
        return iter((text,)), notes
    columns = results.columns(everything=everything)
    return (csv_text(columns) if kind == "csv" else jsonl_text(columns)), ()


def _refuse_taken(folder: Path) -> None:
    with machine_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = f"{folder} is there already and not an empty folder"
            raise StoreError(what, "name a new folder with `-o`", "store_exists")


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by their paths within a folder. Raises MachineError: one cannot be written."""
    with machine_errors(folder):
        make_folder(folder)
    for name, text in files.items():
        write(folder / name, text.encode(errors="backslashreplace"))


def csv_text(columns: Columns) -> Iterator[str]:
    """Lines of CSV with a header; codes in one cell with spaces between, nothing where there is no value.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (tuple(columns), *zip(*columns.values(), strict=True)):
        writer.writerow([_cell(value) for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return cell(" ".join(value))
    if isinstance(value, bool):
        return str(value).lower()
    return cell(value) if isinstance(value, str) else value


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


def labelled(result: Result) -> dict[str, float]:
    """Values of a result by names that say what each is of, for programs that keep a name and a number alone.

    An energy's name has its scope and kind (`energy_j/gpu/measured`), the ends of an interval `_low` and `_high` before
    them; names of a result that is not valid begin with `invalid/`, those of the fake backend with `fake/`.
    """
    fake = is_fake(result.config.get("backend"))
    state = "fake/" if fake else "" if result.valid else "invalid/"
    found: dict[str, float] = {}
    for name, one in result.metrics.items():
        basis = "".join(f"/{part.replace('+', '-')}" for part in (one.scope, one.kind) if part)
        for ending, value in (("", one.value), ("_low", one.low), ("_high", one.high)):
            if value is not None:
                found[f"{state}{name}{ending}{basis}"] = value
    return found
