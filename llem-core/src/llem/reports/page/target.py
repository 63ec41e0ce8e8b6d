"""The file that a report is written to: whole or not at all, and never over what is no page of HTML."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from llem.analysis.collection import Results
from llem.errors import ConfigError
from llem.reports.page.document import Report, report_of
from llem.reports.page.html import page
from llem.store.files import machine_errors, make_folder

__all__ = ["check_target", "write_page", "write_report"]

#: Endings of a page.
ENDINGS = (".html", ".htm")
#: How a page of HTML begins, after a mark of its encoding, blanks and comments.
BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|<!--.*?-->)*<(?:!doctype\s+html|html)\b", re.I | re.S)


def check_target(path: str | Path) -> Path:
    """The file to write, of a link what it points to.

    Raises ConfigError: its name does not end as that of a page, or what is there is no page of HTML.
    """
    file = Path(os.path.realpath(path))
    if Path(path).suffix.lower() not in ENDINGS:
        what = f"{path} does not end with .html, and a report is a page of HTML"
        raise ConfigError(what, f"name a page with `-o`, such as {Path(path).stem or 'report'}.html", "report_file")
    if not os.path.lexists(file):
        return file
    if not file.is_file():
        raise ConfigError(f"{path} is there already and no file", "name another file with `-o`", "report_file")
    with machine_errors(file), file.open("rb") as there:
        begin = there.read(4096)
    if begin and not BEGINS.match(begin):
        what = f"{path} is there already and no page of HTML, so it is not replaced"
        raise ConfigError(what, "name another file with `-o`", "report_file")
    return file


def write_page(path: str | Path, pieces: Iterable[str]) -> None:
    """Write a page piece by piece, beside its place first, so that it is there whole or not at all.

    Raises ConfigError as `check_target`, MachineError: the file cannot be written, with nothing left behind.
    """
    file = check_target(path)
    make_folder(file.parent)
    with machine_errors(file):
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.writelines(pieces)
            temporary.chmod(0o644)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def write_report(results: Results, path: str | Path, **asked: str | None) -> Report:
    """Write the report of these results; only one experiment's details are in memory.

    Args:
        asked: as of `llem.reports.page.document.report_of`.

    Raises as `check_target`, `report_of` and `write_page`.
    """
    check_target(path)  # before what takes seconds
    made = report_of(results, **asked)
    write_page(path, page(made.head, made.details()))
    return made
