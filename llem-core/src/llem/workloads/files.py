"""Prompts from a file of the user's, and the built-in set."""

from __future__ import annotations

import functools
import hashlib
import os
from importlib import resources
from typing import Any, ClassVar, Literal

import attrs

from llem.config.fields import option
from llem.errors import ConfigError
from llem.workloads.base import Length, positive
from llem.workloads.foreign import JSON_SUFFIXES, ForeignFile, read_foreign
from llem.workloads.prompt_rows import FIELDS, LENGTH_FIELDS, Wanted, prompts_of
from llem.workloads.prompts import PromptOptions, PromptSet, PromptWorkload

__all__ = ["BuiltinOptions", "BuiltinWorkload", "FileOptions", "FileWorkload", "parse_prompts"]

SUFFIXES = (*JSON_SUFFIXES, ".csv", ".txt")
CODE = "prompts_unreadable"


def _positive_or_file(instance: Any, attribute: Any, value: Length | Literal["file"]) -> None:
    if value != "file":
        positive(instance, attribute, value)


def _with_lengths(instance: FileOptions, attribute: Any, value: str | None) -> None:
    if value is not None and instance.output_tokens != "file":
        raise ValueError("has no effect unless `output_tokens: file`")


@attrs.frozen(kw_only=True)
class FileOptions(PromptOptions):
    """Section `workload` with `kind: file`."""

    kind: Literal["file"] = option("file", help="Prompts from a file.")
    path: str = option(
        help="A .jsonl, .json, .csv or .txt file, which may be packed (.gz). What its rows are is told by what is in "
        "them: texts, objects with a prompt, ShareGPT's conversations, OpenAI's messages, or requests of a batch.",
        file=True,
    )
    output_tokens: Length | Literal["file"] = option(
        128,
        help="Tokens to generate for each prompt; `file` takes them from each row: a field, `max_tokens` of a batch's "
        "request, or the length of the answer that follows in a conversation.",
        unit="tokens",
        validator=_positive_or_file,
    )
    field: str | None = option(
        None,
        help="Field or column that holds the prompt; null goes by what is in the row, and takes the first of "
        + ", ".join(FIELDS)
        + ".",
    )
    output_field: str | None = option(
        None,
        help="Field or column of the output length; null takes the first of "
        + ", ".join(LENGTH_FIELDS)
        + ". Only with `output_tokens: file`.",
        validator=_with_lengths,
    )
    turns: Literal["first", "all"] | None = option(
        None,
        help="Of a conversation, the first turn of the user, or all up to the last. Null takes `first` of ShareGPT's "
        "conversations (as a text) and `all` of OpenAI's messages.",
    )
    skip_empty: bool = option(
        False,
        help="Leave out rows without a prompt, or with `output_tokens: file` without an answer, instead of refusing "
        "them. The result says how many.",
    )


class FileWorkload(PromptWorkload):
    """Prompts from a file."""

    kind: ClassVar[str] = "file"
    options: FileOptions

    @classmethod
    def check(cls, options: FileOptions, load: Any) -> None:
        """Raises ConfigError: the file cannot be read, or a replay, for which there are no times."""
        super().check(options, load)
        _read(options)

    def read(self) -> PromptSet:
        return _read(self.options)

    def output_length(self) -> Length | None:
        return None if self.options.output_tokens == "file" else self.options.output_tokens


def _read(options: FileOptions) -> PromptSet:
    """The prompts of a file; kept for the next experiment of a study that reads the same."""
    try:
        now = os.stat(os.path.expanduser(options.path))
    except (OSError, ValueError):
        now = None  # what is wrong is told where it is read
    return _kept(options, None if now is None else (now.st_mtime_ns, now.st_size, now.st_ino))


@functools.lru_cache(maxsize=2)
def _kept(options: FileOptions, changed: tuple[int, ...] | None) -> PromptSet:
    prompts = _parsed(read_foreign(options.path, "prompt file", CODE), _wanted(options))
    conversation = prompts.prompts[0].messages is not None
    if conversation and options.input_tokens is not None:
        hint = "leave it out; `too_long: skip` leaves out what does not fit"
        raise ConfigError(
            f"{prompts.name}: `input_tokens` cuts texts, and its rows are {prompts.rows}", hint, code=CODE
        )
    return prompts


def _wanted(options: FileOptions) -> Wanted:
    """What the settings ask of each row."""
    lengths = options.output_tokens == "file"
    return Wanted(options.field, options.turns, lengths, options.output_field, options.skip_empty)


def parse_prompts(name: str, content: bytes, wanted: Wanted | None = None) -> PromptSet:
    """The prompts in a file's bytes; blank lines are skipped.

    Args:
        name: of the file; its suffix says whether it is JSON, a table or text.
        content: UTF-8.
        wanted: what to take of each row; None takes the prompt alone.

    Raises:
        ConfigError: the place and what is wrong there, an unknown suffix, or no prompt at all.
    """
    return _parsed(ForeignFile(name, content, hashlib.sha256(content).hexdigest(), CODE), wanted or Wanted())


def _parsed(file: ForeignFile, wanted: Wanted) -> PromptSet:
    if file.suffix not in SUFFIXES:
        raise file.error("unknown kind of prompt file", f"the name must end in {', '.join(SUFFIXES)}")
    rows, prompts, skipped = prompts_of(file, wanted)
    if not prompts:
        raise file.error("no prompts", "one prompt a row is expected")
    return PromptSet(file.name, file.sha256, rows, tuple(prompts), tuple(skipped))


FILE = "builtin_prompts.jsonl"


@attrs.frozen(kw_only=True)
class BuiltinOptions(PromptOptions):
    """Section `workload` with `kind: prompts`."""

    kind: Literal["prompts"] = option("prompts", help="The built-in prompt set.")
    output_tokens: Length = option(128, help="Tokens to generate for each prompt.", unit="tokens", validator=positive)


class BuiltinWorkload(PromptWorkload):
    """Questions, code, summaries, translations, sums and longer contexts, in a fixed mixed order.

    The set is part of llem's interface: it changes only with a major version, and its SHA-256 is in every result.
    """

    kind: ClassVar[str] = "prompts"
    options: BuiltinOptions

    def read(self) -> PromptSet:
        content = resources.files("llem.workloads").joinpath(FILE).read_bytes()
        return parse_prompts(FILE, content)

    def output_length(self) -> Length:
        return self.options.output_tokens
