"""Files that somebody else wrote, as lines, JSON values and tables: bounded, and with the place of what is wrong.

A place is `file:line`, or `file: row n` where rows are items of one JSON array.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any

import attrs

from llem.errors import ConfigError
from llem.foreign.files import LARGEST, Unread, read, size_text, unpacked
from llem.foreign.values import from_json

__all__ = ["JSON_SUFFIXES", "MOST_TOKENS", "ForeignFile", "json_texts", "plain_text", "read_foreign", "whole_tokens"]

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
PACKED = ".gz"
BOM = b"\xef\xbb\xbf"
#: The longest context of any model; a number with more is no length, and ids of that many would fill the memory.
MOST_TOKENS = 10_000_000


@attrs.frozen
class ForeignFile:
    """A file as read.

    Attributes:
        name: without its folder.
        content: its bytes, unpacked.
        sha256: of the bytes on the disk.
        code: of every error about it.
    """

    name: str
    content: bytes
    sha256: str
    code: str

    @property
    def suffix(self) -> str:
        """Of the name, in small letters, without what says that it is packed: `.jsonl` of `a.JSONL.gz`."""
        return os.path.splitext(self.name.lower().removesuffix(PACKED))[1]

    def error(self, message: str, hint: str, place: str | None = None) -> ConfigError:
        """What is wrong, where, and what would be right."""
        return ConfigError(f"{place or self.name}: {message}", hint, code=self.code)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines that are not blank, without surrounding white space, each with its number from 1.

        Splits at line feeds alone: JSON strings may hold other characters that `str.splitlines` takes for line ends.
        Raises ConfigError: not UTF-8, or no text.
        """
        for number, raw in enumerate(self.content.removeprefix(BOM).split(b"\n"), start=1):
            if line := self._decoded(raw, f"{self.name}:{number}").strip():
                yield number, line

    def text(self) -> str:
        """The whole as it stands, without a byte order mark. Raises ConfigError (`file:line`): it is no UTF-8 text."""
        content = self.content.removeprefix(BOM)
        if b"\0" not in content:
            with contextlib.suppress(UnicodeDecodeError):  # told with its line below
                return content.decode("utf-8")
        lines = content.split(b"\n")
        return "\n".join(self._decoded(line, f"{self.name}:{number}") for number, line in enumerate(lines, start=1))

    def _decoded(self, raw: bytes, place: str) -> str:
        if b"\0" in raw:
            raise self.error("holds a NUL byte, so it is no UTF-8 text", "save the file as UTF-8", place)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8 ({error.reason})", "save the file as UTF-8", place) from error

    def json_rows(self, *, numbers_as_text: bool = False) -> Iterator[tuple[int, str, Any]]:
        """The items of a JSON array, or the value of each line: number from 1, place and value.

        Args:
            numbers_as_text: numbers stay as they are written, as in a table.

        Raises ConfigError: the place, and what is no JSON there.
        """
        if not self.content.removeprefix(BOM).lstrip().startswith(b"["):
            for number, line in self.lines():
                place = f"{self.name}:{number}"
                yield number, place, self._value(line, place, "each line must be one JSON value", numbers_as_text)
            return
        rows = self._value(self.text(), self.name, "one JSON array is expected", numbers_as_text)
        for number, row in enumerate(rows, start=1):
            yield number, f"{self.name}: row {number}", row

    def _value(self, text: str, place: str, hint: str, numbers_as_text: bool) -> Any:
        try:
            return from_json(text, numbers_as_text=numbers_as_text)
        except ValueError as error:
            raise self.error(f"not JSON ({error})", hint, place) from error

    def table(self) -> Iterator[tuple[int, list[str]]]:
        """Rows of a CSV that are not blank, each with its number; the header is row 1, as spreadsheets count.

        Raises ConfigError: not UTF-8, or no CSV.
        """
        text = io.StringIO(self.text(), newline="")
        before = csv.field_size_limit(LARGEST)  # by itself a cell ends after 131,072 characters; prompts are longer
        try:
            for number, cells in enumerate(csv.reader(text, strict=True), start=1):
                if any(cell.strip() for cell in cells):
                    yield number, cells
        except csv.Error as error:
            raise self.error(f"not a CSV ({error})", "quote cells that hold commas, quotes or line ends") from error
        finally:
            csv.field_size_limit(before)


def read_foreign(path: str, what: str, code: str) -> ForeignFile:
    """A file of the user's, unpacked where its name ends in `.gz`.

    Args:
        what: for messages, such as "prompt file".

    Raises:
        ConfigError: it is not there or cannot be read, is no regular file, or is too large.
    """
    path, name = os.path.expanduser(path), os.path.basename(path)
    try:
        content = read(path, LARGEST)
        sha256 = hashlib.sha256(content).hexdigest()
        content = unpacked(content) if name.lower().endswith(PACKED) else content
    except Unread as error:
        hint = f"name a regular, whole file of at most {size_text(LARGEST)}, unpacked too"
        raise ConfigError(f"{what} {path!r} {error}", hint, code) from error
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        hint = "a path that is not absolute starts from the folder llem is run in"
        raise ConfigError(f"{what} {path!r} cannot be read: {told}", hint, code) from error
    return ForeignFile(name, content, sha256, code)


def whole_tokens(text: str) -> int | str:
    """A whole number of tokens, 0 or more, also written as 128.0; else what is wrong with it, in words."""
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdecimal()) or fraction.strip("0"):
        return f"must be a whole number of tokens, got {text[:40]!r}"
    digits = whole.lstrip("0") or "0"
    if len(digits) > len(str(MOST_TOKENS)) or int(digits) > MOST_TOKENS:
        return f"is {digits[:20]}{'…' * (len(digits) > 20)} tokens, more than any model takes"
    return int(digits)


def json_texts(name: str, content: bytes, field: str) -> Iterator[tuple[str, str]]:
    """The text in the field of each JSON row, with its place. Raises ConfigError: place, and what is wrong there."""
    file = ForeignFile(name, content, "", "prompts_unreadable")
    for _, place, row in file.json_rows():
        if not isinstance(row, dict):
            raise file.error("not a JSON object", f'each line must look like {{"{field}": "…"}}', place)
        if field not in row:
            keys = ", ".join(sorted(map(str, row))) or "none"
            raise file.error(f"no field {field!r}; fields here: {keys}", "name the field with `field`", place)
        if not isinstance(row[field], str):
            told = f"field {field!r} holds {type(row[field]).__name__}, not text"
            raise file.error(told, "texts are JSON strings", place)
        if not row[field].strip():
            raise file.error(f"field {field!r} is empty", "remove the line, or name another field", place)
        yield place, row[field]


def plain_text(name: str, content: bytes) -> str:
    """A text file as one text, as it stands, without a byte order mark. Raises ConfigError (`file:line`): not UTF-8."""
    return ForeignFile(name, content, "", "prompts_unreadable").text()
