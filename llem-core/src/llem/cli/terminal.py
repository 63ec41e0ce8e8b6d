"""Standard output that cannot show every character: what it lacks is written in ASCII, and nothing fails."""

from __future__ import annotations

import codecs
import io
import sys

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


def fit_output() -> None:
    """Let standard output and error replace what their encoding lacks; those in UTF-8 stay as they are."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors=HANDLER)
