"""Output that cannot show every character, or that nobody reads any more, and nothing fails.

Characters that are missing are written in ASCII. Progress and messages on standard error are dropped if they cannot be
written, for a measurement of hours must not end with `tee`. On standard output that is told: a result is not shown.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
from typing import Any

__all__ = ["fit_output"]

#: What tables and figures use beyond ASCII.
PLAIN = {"·": "|", "–": "-", "±": "+-", "…": "...", "→": "->", "×": "x", "µ": "u", "²": "2", "°": " deg ", "─": "-"}
HANDLER = "llem.plain"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    known = (PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode("ascii") for one in missing)
    return "".join(known), error.end


class _Lossy(io.FileIO):
    """A file that drops what cannot be written: its pipe is closed, its terminal gone, its disk full. Whom to tell?"""

    def write(self, data: Any, /) -> int:
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or len(rest) :]  # None: a terminal that takes no more now
        return len(data)


def fit_output() -> None:
    """Let standard output and error replace what their encoding lacks, and standard error drop what nobody reads."""
    now = sys.stderr
    if isinstance(now, io.TextIOWrapper) and now is sys.__stderr__:  # else it is another program's
        # no buffer between: it raises where Ctrl-C is told within a line that is being written
        raw: Any = _Lossy(now.fileno(), "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, now.encoding, now.errors, line_buffering=True)
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors=HANDLER)
