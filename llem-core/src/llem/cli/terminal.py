"""Output to a terminal with few characters, or to a reader that has gone away.

If an encoding lacks a character, llem writes ASCII in its place. If progress and messages cannot be written to standard
error, llem drops them, because a measurement of hours must not end when `tee` does. If a result cannot be written to
standard output, llem ends with an exit code of its own.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from llem.foreign.shown import visible

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["echo", "fit_output", "tell_damaged"]

#: Characters beyond ASCII in tables and figures, and what replaces each.
PLAIN = {"·": "|", "–": "-", "±": "+-", "…": "...", "→": "->", "×": "x", "µ": "u", "²": "2", "°": " deg ", "─": "-"}
HANDLER = "llem.plain"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    known = (PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode("ascii") for one in missing)
    return "".join(known), error.end


class _Lossy(io.FileIO):
    """Standard error that drops what it cannot write: to a closed pipe, a closed terminal or a full disk."""

    def write(self, data: Any, /) -> int:
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or len(rest) :]  # None: the terminal takes nothing now
        return len(data)


def echo(
    text: str = "", *, lead: str = "", style: Mapping[str, Any] | None = None, err: bool = False, nl: bool = True
) -> None:
    """Print text, whoever wrote it: a terminal finds no commands in it. JSON stays the same value.

    Args:
        lead: what stands before it, in this style of click's.
    """
    # click leaves colours out by itself where the output is no terminal
    colour = False if os.environ.get("NO_COLOR") else None
    styled = click.style(visible(lead), **style) if style else visible(lead)
    click.echo(styled + visible(text), err=err, nl=nl, color=colour)


def fit_output() -> None:
    """Let both outputs replace characters that their encoding lacks, and standard error drop what it cannot write."""
    now = sys.stderr
    if isinstance(now, io.TextIOWrapper) and now is sys.__stderr__:  # else it is another program's
        # without a buffer: a buffer raises if Ctrl-C's message comes while another line is being written
        raw: Any = _Lossy(now.fileno(), "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, now.encoding, now.errors, line_buffering=True)
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)  # in UTF-8 for halves of characters


def tell_damaged(results: Results) -> None:
    """Name on standard error what was left out of an answer because it cannot be read. Call it after the answer."""
    for name, error in results.damaged.items():
        hint = f" ({error.hint})" if error.hint else ""
        echo(f"warning: {name} is left out: {error.message}{hint}", err=True)
