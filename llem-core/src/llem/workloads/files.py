"""Prompts from a file of the user's: JSON Lines, or plain text with one prompt a line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from llem.config.fields import option
from llem.errors import ConfigError
from llem.workloads.prompts import PromptOptions, PromptSet, PromptWorkload

__all__ = [
    "BuiltinOptions",
    "BuiltinWorkload",
    "FileOptions",
    "FileWorkload",
    "json_texts",
    "parse_prompts",
    "plain_text",
]

#: Fields in which a JSON line's prompt is looked for, in this order.
FIELDS = ("prompt", "text", "instruction", "input", "question")
JSON_SUFFIXES = (".jsonl", ".ndjson")
BOM = b"\xef\xbb\xbf"
SUFFIXES = (*JSON_SUFFIXES, ".txt")


@attrs.frozen(kw_only=True)
class FileOptions(PromptOptions):
    """Section `workload` with `kind: file`."""

    kind: Literal["file"] = option("file", help="Prompts from a file.")
    path: str = option(help="A .jsonl file (one JSON object a line) or a .txt file (one prompt a line).", file=True)
    field: str | None = option(
        None, help="Field that holds the prompt in a .jsonl file; null takes the first of " + ", ".join(FIELDS) + "."
    )


class FileWorkload(PromptWorkload):
    """Prompts from a file."""

    kind: ClassVar[str] = "file"
    options: FileOptions

    def read(self) -> PromptSet:
        path = Path(os.path.expanduser(self.options.path))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"prompt file {self.options.path!r} cannot be read: {error.strerror}",
                "a path that is not absolute starts from the folder llem is run in",
                code="prompts_unreadable",
            ) from error
        return parse_prompts(path.name, content, self.options.field)


def parse_prompts(name: str, content: bytes, field: str | None = None) -> PromptSet:
    """The prompts in a file's bytes; blank lines are skipped.

    Args:
        name: of the file; its suffix decides the format.
        content: UTF-8.
        field: where a JSON line holds its prompt; None looks into `FIELDS`.

    Raises:
        ConfigError: `file:line` and what is wrong there, an unknown suffix, or no prompt at all.
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in SUFFIXES:
        raise _error(f"{name}: unknown kind of prompt file", f"the name must end in {', '.join(SUFFIXES)}")
    if field is not None and suffix not in JSON_SUFFIXES:
        raise _error(f"{name}: a text file has no field {field!r}", "remove `field`, or use a .jsonl file")
    found = list(json_texts(name, content, field) if suffix in JSON_SUFFIXES else _lines(name, content))
    if not found:
        raise _error(f"{name}: no prompts", "one prompt a line is expected")
    places, prompts = zip(*found, strict=True)
    return PromptSet(name, hashlib.sha256(content).hexdigest(), prompts, places)


def _lines(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, without surrounding white space, each with its place.

    Splits at line feeds alone: JSON strings may hold other characters that `str.splitlines` takes for line ends.
    """
    for number, raw in enumerate(content.removeprefix(BOM).split(b"\n"), start=1):
        place = f"{name}:{number}"
        if line := _decoded(place, raw).strip():
            yield place, line


def _decoded(place: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _error(f"{place}: not UTF-8 ({error.reason})", "save the file as UTF-8") from error


def plain_text(name: str, content: bytes) -> str:
    """A text file as one text, as it stands, without a byte order mark. Raises ConfigError (`file:line`): not UTF-8."""
    lines = content.removeprefix(BOM).split(b"\n")
    return "\n".join(_decoded(f"{name}:{number}", line) for number, line in enumerate(lines, start=1))


def json_texts(name: str, content: bytes, field: str | None = None) -> Iterator[tuple[str, str]]:
    """The text in each line of JSON that is not blank, with its place (`file:line`).

    Args:
        field: where a line holds its text; None looks into `FIELDS`.

    Raises ConfigError: `file:line` and what is wrong there.
    """
    for place, line in _lines(name, content):
        yield place, _from_json(place, line, field)


def _from_json(place: str, line: str, field: str | None) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise _error(f"{place}: not JSON ({error})", "each line must be one complete JSON object") from error
    if not isinstance(record, dict):
        raise _error(f"{place}: not a JSON object", 'each line must look like {"prompt": "…"}')
    key = next((name for name in ((field,) if field else FIELDS) if name in record), None)
    keys = ", ".join(sorted(map(str, record))) or "none"
    if key is None:
        wanted = repr(field) if field else f"any of {', '.join(FIELDS)}"
        raise _error(f"{place}: no field {wanted}; fields here: {keys}", "name the field of the text with `field`")
    return _text(place, key, record[key])


def _text(place: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _error(f"{place}: field {key!r} holds {type(value).__name__}, not text", "texts are JSON strings")
    if not value.strip():
        raise _error(f"{place}: field {key!r} is empty", "remove the line, or name another field with `field`")
    return value


def _error(message: str, hint: str) -> ConfigError:
    return ConfigError(message, hint, code="prompts_unreadable")


FILE = "builtin_prompts.jsonl"


@attrs.frozen(kw_only=True)
class BuiltinOptions(PromptOptions):
    """Section `workload` with `kind: prompts`."""

    kind: Literal["prompts"] = option("prompts", help="The built-in prompt set.")


class BuiltinWorkload(PromptWorkload):
    """Questions, code, summaries, translations, sums and longer contexts, in a fixed mixed order.

    The set is part of llem's interface: it changes only with a major version, and its SHA-256 is in every result.
    """

    kind: ClassVar[str] = "prompts"
    options: BuiltinOptions

    def read(self) -> PromptSet:
        content = resources.files("llem.workloads").joinpath(FILE).read_bytes()
        return parse_prompts(FILE, content)
