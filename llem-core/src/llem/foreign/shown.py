"""What others wrote, made fit to be shown: a terminal finds no commands in it, and a spreadsheet no formulas. Pure."""

from __future__ import annotations

import re

__all__ = ["cell", "one_line", "visible", "word"]

#: Control characters but tab and line feed, those that turn the direction of writing, and halves of characters.
_COMMANDS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
#: How a formula begins.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def visible(text: str) -> str:
    """Text without commands to a terminal: names of tasks and models, and messages, come from files of others.

    What is a command is escaped as JSON escapes it, so that JSON stays the same value.
    """
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str, most: int) -> str:
    """Text on one line, so many characters at most, of those that UTF-8 has (no halves of characters)."""
    return " ".join(text.split())[:most].encode("utf-8", errors="replace").decode()


def word(text: str, most: int) -> str:
    """Text for a cell of stored rows: as `one_line`, and what is not printable, or separates cells, is escaped."""
    return "".join(one if one.isprintable() and one != "," else f"\\u{ord(one):04x}" for one in one_line(text, most))


def cell(text: str) -> str:
    """Text of a table's cell that no spreadsheet takes for a formula; such begins with an apostrophe. Numbers stay."""
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
