"""Types and bounds of what an engine gives: with them it can be computed with, stored, and read again. Pure."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llem.backends.base import Engine, MemoryReading
from llem.backends.requests import Chunk, Completion
from llem.errors import Breach
from llem.findings import REASONS, Finding
from llem.foreign.shown import one_line
from llem.foreign.values import MOST, TOO_DEEP, from_json
from llem.models.spec import Architecture

__all__ = [
    "COUNTS",
    "architecture_breaches",
    "breach",
    "chunk_form",
    "completions_form",
    "effective_breaches",
    "engine_breaches",
    "findings_breaches",
    "memory_breaches",
    "shown",
]

PAGE = "docs/howto/write-a-backend.md"
#: Token ids, and numbers of tokens: sums of many of them are whole numbers of 64 bits.
COUNTS = range(2**32)
#: Characters of a word or a few that are stored.
WORDS = 200
#: Of the settings that an engine tells: bytes as JSON, and how deep they nest.
EFFECTIVE_BYTES, EFFECTIVE_DEPTH = 2**20, 32
#: Characters of an error that are told, and about those of a value.
TOLD, SHOWN = 200, 60
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = SHOWN


def breach(rule: str, got: str, expected: str) -> Breach:
    """Of a rule of backends."""
    return Breach(rule, got, expected, PAGE)


def shown(value: object) -> str:
    """A value in few characters, whatever it is."""
    try:
        return _SHORT.repr(value)
    except Exception:  # it has more digits than Python writes
        return f"one of {type(value).__name__}"


def _is_word(value: object) -> bool:
    """Whether it is text of a few printable words."""
    return isinstance(value, str) and 0 < len(value) <= WORDS and value.isprintable()


def _is_row(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def completions_form(completions: object) -> Iterator[Breach]:
    """Of what `generate` returned, before it is looked into."""
    if not isinstance(completions, Sequence) or not _is_row(completions):
        yield breach("generate returns a list of completions", shown(completions), "a list of `Completion`")
        return
    for one in completions:
        if not isinstance(one, Completion):
            yield breach("generate returns a list of completions", f"{shown(one)} in it", "a `Completion`")
            return
        yield from _completion_form(one)


def _completion_form(done: Completion) -> Iterator[Breach]:
    who = f"for request {shown(done.index)}"
    if done.token_ids is not None and not _is_row(done.token_ids):
        yield breach("token ids are a tuple, or None", f"{shown(done.token_ids)} {who}", "a tuple of int")
    if done.token_count is not None and not _is_count(done.token_count):
        rule = "token_count is how many tokens were generated"
        yield breach(rule, f"{shown(done.token_count)} {who}", f"an int from 0 to {COUNTS[-1]}")
    if done.token_times_ns is not None and not _is_row(done.token_times_ns):
        yield breach("token times are a tuple, or None", f"{shown(done.token_times_ns)} {who}", "a tuple of int")
    if done.text is not None and not isinstance(done.text, str):
        yield breach("the text of an answer is text, or None", f"{shown(done.text)} {who}", "a str")
    if not _is_word(done.finish_reason):
        yield _no_reason(done.finish_reason, who)
    yield from _metrics_form(done.engine_metrics, who)


def chunk_form(index: int, chunk: object) -> Iterator[Breach]:
    """Of one thing that `stream` yielded."""
    who = f"for request {index}"
    if not isinstance(chunk, Chunk):
        yield breach("stream yields chunks", f"{shown(chunk)} {who}", "a `Chunk`")
        return
    if not _is_count(chunk.tokens):
        rule = "a chunk says how many tokens it brings"
        yield breach(rule, f"{shown(chunk.tokens)} {who}", f"an int from 0 to {COUNTS[-1]}")
    if type(chunk.time_ns) is not int:
        yield breach("times are integers of nanoseconds", f"{shown(chunk.time_ns)} {who}", "time.monotonic_ns()")
    if chunk.token_ids is not None and not _is_row(chunk.token_ids):
        yield breach("token ids are a tuple, or None", f"{shown(chunk.token_ids)} {who}", "a tuple of int")
    if chunk.finish_reason is not None and not _is_word(chunk.finish_reason):
        yield _no_reason(chunk.finish_reason, who)
    yield from _metrics_form(chunk.engine_metrics, who)


def _no_reason(reason: object, who: str) -> Breach:
    size = f" of {len(reason)} characters" if isinstance(reason, str) else ""
    rule = f"a finish reason is a printable word, of {WORDS} characters at most"
    return breach(rule, f"{shown(reason)}{size} {who}", "'length' or 'stop', say")


def _is_count(value: object) -> bool:
    return type(value) is int and value in COUNTS


def _metrics_form(metrics: object, who: str) -> Iterator[Breach]:
    if metrics is None:
        return
    rule = "engine_metrics are finite numbers by name, or None"
    if not isinstance(metrics, Mapping):
        yield breach(rule, f"{shown(metrics)} {who}", "a mapping")
        return
    for name, value in metrics.items():
        if not _is_word(name) or not _is_number(value):
            yield breach(rule, f"{shown(name)}: {shown(value)} {who}", "a name and a number")
            return


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) <= MOST
    return isinstance(value, float) and math.isfinite(value)


def memory_breaches(reading: object) -> Iterator[Breach]:
    """Of peak memory."""
    if not isinstance(reading, MemoryReading):
        yield breach("memory gives a reading", shown(reading), "a `MemoryReading`")
        return
    peak, reason = reading.peak_bytes, reading.reason
    if peak is None:
        if not isinstance(reason, str) or reason not in REASONS:
            yield breach("peak memory that is not known has a reason", shown(reason), "a code of findings.REASONS")
    elif type(peak) is not int or peak <= 0:
        yield breach("peak memory is a number of bytes above 0, or None", shown(peak), "an int above 0, or None")
    elif peak > MOST:
        yield breach("peak memory is a whole number of 64 bits", shown(peak), f"{MOST} at most")
    elif reason is not None:
        rule = "peak memory that is known has no reason why it is not"
        yield breach(rule, f"{shown(peak)} with {shown(reason)}", "None for one of the two")
    if not _is_word(reading.covers):
        rule = f"a reading of memory says what it covers, in {WORDS} printable characters at most"
        yield breach(rule, shown(reading.covers), "a few words")


def engine_breaches(engine: object) -> Iterator[Breach]:
    """Of what `load` returned."""
    if not isinstance(engine, Engine):
        yield breach("load gives the loaded engine", shown(engine), "an `Engine`")


def findings_breaches(method: str, given: object) -> Iterator[Breach]:
    """Of what `check`, or another method, returned."""
    rule = f"{method} gives a list of findings"
    if not isinstance(given, Sequence) or not _is_row(given):
        yield breach(rule, shown(given), "a list, empty where there is nothing to tell")
        return
    for one in given:
        if not isinstance(one, Finding):
            yield breach(rule, f"{shown(one)} in it", "a `Finding`")
            return


def architecture_breaches(sizes: object) -> Iterator[Breach]:
    """Of the sizes of a loaded model."""
    if sizes is not None and not isinstance(sizes, Architecture):
        yield breach("architecture gives the sizes of the model, or None", shown(sizes), "an `Architecture`")


def effective_breaches(effective: Any) -> Iterator[Breach]:
    """Of what an engine says it runs with."""
    rule = "effective_config gives JSON values: no tuples, no keys but text, no NaN"
    if not isinstance(effective, Mapping):
        yield breach(rule, shown(effective), "a mapping")
        return
    try:
        text = json.dumps(dict(effective), allow_nan=False, ensure_ascii=False).encode()
        if len(text) > EFFECTIVE_BYTES:
            most = f"effective_config is no larger than {EFFECTIVE_BYTES:,} bytes of JSON"
            yield breach(most, f"{len(text):,} bytes", "the settings alone")
            return
        stored = from_json(text)
    except (TypeError, ValueError, RecursionError) as error:
        why = TOO_DEEP if isinstance(error, RecursionError) else one_line(str(error), TOLD)
        yield breach(rule, why, "what json.dumps takes")
        return
    if _is_deep(stored, EFFECTIVE_DEPTH):
        yield breach(f"effective_config nests {EFFECTIVE_DEPTH} deep at most", TOO_DEEP, "settings by name")
        return
    for name in effective:
        if name not in stored or stored[name] != effective[name]:
            yield breach(rule, f"{shown(name)}: {shown(effective[name])}", "what json.loads(json.dumps(it)) gives")
            return


def _is_deep(value: object, most: int) -> bool:
    """Whether a JSON value nests deeper than so many lists and mappings."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most < 1 or any(_is_deep(one, most - 1) for one in inner)
