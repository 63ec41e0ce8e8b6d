"""Requests as other tools tell them: result files of vLLM's bench, of AIPerf and of GuideLLM. Pure but for reading.

    vLLM      JSON of `vllm bench serve --save-result --save-detailed`; times are of the monotonic clock (perf_counter)
    AIPerf    JSON lines of `profile_export.jsonl`; times are of the wall clock, nanoseconds
    GuideLLM  JSON of `benchmarks.json`; times are of the wall clock, seconds

A tool's own figures of throughput and latencies are kept as it states them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.experiment.told_rows import check_rows, spread
from llem.foreign.files import LARGEST, Unread, read
from llem.foreign.values import from_json
from llem.metrics.flow import FAILED, UNFINISHED
from llem.store.models import RequestRow

__all__ = ["Stated", "Told", "Unreadable", "read_told"]

#: A file that is older than the command's start by more than this was not written by it: file systems round times.
WRITTEN_S = 2.0
#: The tools that are known, for messages.
KNOWN = "vLLM bench with --save-detailed, AIPerf's profile_export.jsonl, GuideLLM's benchmarks.json"
VLLM, AIPERF, GUIDELLM = "vLLM bench", "AIPerf", "GuideLLM"


class Unreadable(Exception):
    """Why a file tells no requests, in words."""


@attrs.frozen
class Stated:
    """A figure that the tool itself states, by its own name, in its own unit."""

    name: str
    value: float
    unit: str


@attrs.frozen
class Told:
    """What a file tells.

    Attributes:
        tool: name and, where the file has it, version.
        model: as the file names it; None where it does not.
        rows: requests, times on the monotonic clock. A request whose chunks are not told has its first and its last.
        chunks: whether the times of single chunks are told.
        wall: whether its times are of the wall clock.
        stated: the tool's own figures.
    """

    tool: str
    model: str | None
    rows: tuple[RequestRow, ...]
    chunks: bool
    wall: bool
    stated: tuple[Stated, ...] = ()


def read_told(path: Path, *, since_s: float, wall_ns: int) -> Told:
    """Requests of a file that a command wrote.

    Args:
        since_s: wall clock when the command started.
        wall_ns: what the wall clock is ahead of the monotonic one.

    Raises:
        Unreadable: there is no such file, it is older than the command, or it tells no single requests with times.
    """
    try:
        written_s, text = path.stat().st_mtime, read(path, LARGEST).decode()
    except Unread as error:
        raise Unreadable(f"it {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"it cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if written_s < since_s - WRITTEN_S:
        raise Unreadable("it was not written by this run of the command; it is older")
    document, lines = _parsed(text)
    try:
        if lines and all(isinstance(one, dict) and "metadata" in one for one in lines):
            return _checked(_aiperf(lines, _beside(path, since_s), wall_ns))
        if isinstance(document, dict) and isinstance(document.get("benchmarks"), list):
            return _checked(_guidellm(document, wall_ns))
        if isinstance(document, dict) and "request_throughput" in document:
            return _checked(_vllm(document))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unreadable(
            f"it is damaged, or of a version that llem does not know ({type(error).__name__}: {error})"
        ) from error
    raise Unreadable(f"it is of no known format; known: {KNOWN}")


def _checked(told: Told) -> Told:
    """The same, without figures that are no numbers. Raises ValueError: it cannot be what happened."""
    check_rows(told.rows)
    if not isinstance(told.model, str | None):
        raise ValueError("the name of its model is no text")
    return attrs.evolve(told, stated=tuple(one for one in told.stated if math.isfinite(one.value)))


def _parsed(text: str) -> tuple[Any, list[Any]]:
    """The text as one JSON value, or as JSON lines."""
    try:
        document = from_json(text, endless=True)
    except ValueError:
        document = None
    if isinstance(document, dict) and "metadata" in document and "metrics" in document:
        return None, [document]  # one request only
    if document is not None:
        return document, []
    try:
        return None, [from_json(line, endless=True) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise Unreadable(f"it is neither JSON nor JSON lines: {error}") from error


def _beside(path: Path, since_s: float) -> Mapping[str, Any]:
    """AIPerf's summary, which it writes beside the records; empty where there is none of this run."""
    summary = path.with_name(f"{path.stem}_aiperf.json")
    try:
        if summary.stat().st_mtime < since_s - WRITTEN_S:
            return {}
        found = from_json(read(summary), endless=True)
    except (OSError, ValueError, Unread):
        return {}
    return found if isinstance(found, dict) else {}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _row(
    index: int, inputs: int, outputs: int, start: int, times: Sequence[int], end: int, reason: str | None = None
) -> RequestRow:
    """A request with the times of its chunks, ascending, over which its tokens are spread evenly.

    It ends with its last token. `end` is when it ended without any.
    """
    if not times or outputs < 1:
        return RequestRow(index, 0, inputs, 0, start, end, (), finish_reason=reason or FAILED)
    tokens = spread(outputs, len(times))
    return RequestRow(
        index, 0, inputs, outputs, start, times[-1], tuple(times),
        chunk_tokens=None if all(one == 1 for one in tokens) else tokens, finish_reason=reason,
    )  # fmt: skip


# vLLM


def _vllm(document: Mapping[str, Any]) -> Told:
    if "start_times" not in document or "itls" not in document:
        raise Unreadable("it has no single requests: run `vllm bench serve` with --save-detailed")
    columns = [document[name] for name in ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors")]
    rows = [_vllm_row(index, *values) for index, values in enumerate(zip(*columns, strict=True))]
    rates = (("output_throughput", "token/s"), ("request_throughput", "request/s"), ("duration", "s"))
    times = itertools.product(("ttft", "tpot", "itl", "e2el"), ("mean", "median", "p99"))
    stated = _figures(document, (*rates, *((f"{part}_{name}_ms", "ms") for name, part in times)))
    return Told(VLLM, document.get("model_id"), tuple(rows), chunks=True, wall=False, stated=tuple(stated))


def _vllm_row(
    index: int, start: float, ttft: float, itls: Sequence[float], inputs: int, outputs: int, error: str
) -> RequestRow:
    if error or not ttft:
        return _row(index, inputs, 0, _ns(start), (), _ns(start))
    times = [_ns(start + after) for after in itertools.accumulate((ttft, *itls))]
    return _row(index, inputs, outputs, _ns(start), times, times[-1])


def _figures(document: Mapping[str, Any], named: Iterable[tuple[str, str]]) -> Iterator[Stated]:
    for name, unit in named:
        value = document.get(name)
        if isinstance(value, (int, float)):
            yield Stated(name, float(value), unit)


# AIPerf


def _aiperf(records: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], wall_ns: int) -> Told:
    """The records of the profiling phase; those of its warm-up are none of the window's requests."""
    profiled = [one for one in records if one["metadata"].get("benchmark_phase", "profiling") == "profiling"]
    rows = [_aiperf_row(index, one, wall_ns) for index, one in enumerate(profiled)]
    chunks = all("inter_chunk_latency" in one["metrics"] for one in profiled if not one.get("error"))
    version = summary.get("aiperf_version")
    rates = ("output_token_throughput", "request_throughput", "benchmark_duration")
    times = itertools.product(("time_to_first_token", "inter_token_latency", "request_latency"), ("avg", "p50", "p99"))
    stated = [
        Stated(f"{name} {part}", float(summary[name][part]), str(summary[name].get("unit", "")))
        for name, part in (*((name, "avg") for name in rates), *times)
        if isinstance((summary.get(name) or {}).get(part), (int, float))
    ]
    tool = f"{AIPERF} {version}" if version else AIPERF
    return Told(tool, _aiperf_model(summary), tuple(rows), chunks, wall=True, stated=tuple(stated))


def _aiperf_model(summary: Mapping[str, Any]) -> str | None:
    items = ((summary.get("input_config") or {}).get("models") or {}).get("items") or ()
    return ", ".join(str(one["name"]) for one in items) or None


#: Nanoseconds of a unit of time.
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "sec": 1e9, "s": 1e9}


def _aiperf_row(index: int, record: Mapping[str, Any], wall_ns: int) -> RequestRow:
    metadata, metrics = record["metadata"], record["metrics"]
    start, end = (int(metadata[name]) - wall_ns for name in ("request_start_ns", "request_end_ns"))
    inputs = int(_value(metrics, "usage_prompt_tokens") or _value(metrics, "input_sequence_length") or 0)
    if record.get("error") or metadata.get("was_cancelled"):
        return _row(index, inputs, 0, start, (), end, UNFINISHED if metadata.get("was_cancelled") else FAILED)
    # the server's own count, where it is told: AIPerf's is what another tokenizer makes of the text
    outputs = int(_value(metrics, "usage_completion_tokens") or _value(metrics, "output_sequence_length") or 0)
    first = _value(metrics, "time_to_first_token", in_time=True)
    if first is None:  # not streamed: all came at once, at the end
        return _row(index, inputs, outputs, start, (end,), end)
    gaps = _gaps(metrics)
    times = [start + round(after) for after in itertools.accumulate((first, *gaps))] if gaps else [start + round(first)]
    if not gaps and outputs > 1:
        times.append(end)
    return _row(index, inputs, outputs, start, times, end)


def _value(metrics: Mapping[str, Any], name: str, *, in_time: bool = False) -> float | None:
    """A single value; of a time in nanoseconds."""
    found = metrics.get(name)
    if found is None:
        return None
    return float(found["value"]) * (UNITS[found["unit"]] if in_time else 1)


def _gaps(metrics: Mapping[str, Any]) -> list[float]:
    found = metrics.get("inter_chunk_latency")
    return [] if found is None else [float(gap) * UNITS[found["unit"]] for gap in found["value"]]


# GuideLLM


def _guidellm(document: Mapping[str, Any], wall_ns: int) -> Told:
    """The requests of every benchmark of the file together."""
    benchmarks = document["benchmarks"]
    kinds: tuple[tuple[str, str | None], ...] = (("successful", None), ("errored", FAILED), ("incomplete", UNFINISHED))
    asked = [
        (one, reason) for benchmark in benchmarks for kind, reason in kinds for one in benchmark["requests"][kind] or ()
    ]
    rows = [_guidellm_row(index, one, reason, wall_ns) for index, (one, reason) in enumerate(asked)]
    metadata = document.get("metadata") or {}
    version = metadata.get("guidellm_version")
    stated = _guidellm_stated(benchmarks[0]["metrics"]) if len(benchmarks) == 1 else ()
    tool = f"{GUIDELLM} {version}" if version else GUIDELLM
    return Told(tool, _guidellm_model(document), tuple(rows), chunks=False, wall=True, stated=tuple(stated))


def _guidellm_row(index: int, request: Mapping[str, Any], reason: str | None, wall_ns: int) -> RequestRow:
    timings = request["info"]["timings"]

    def at(name: str) -> int | None:
        return None if timings.get(name) is None else _ns(float(timings[name])) - wall_ns

    start, end = at("request_start") or at("resolve_start"), at("request_end") or at("resolve_end")
    if start is None or end is None:
        raise ValueError("a request has no start, or no end")
    inputs, outputs = (int(request[f"{kind}_tokens"] or 0) for kind in ("prompt", "output"))
    first, last = at("first_token_iteration"), at("last_token_iteration")
    if first is None or last is None:  # not streamed
        return _row(index, inputs, outputs, start, () if reason else (end,), end, reason)
    return _row(index, inputs, outputs, start, (first, last) if outputs > 1 else (last,), end, reason)


def _guidellm_model(document: Mapping[str, Any]) -> str | None:
    backend = ((document.get("config") or {}).get("spec") or {}).get("backend") or {}
    return str(backend["model"]) if isinstance(backend, dict) and backend.get("model") else None


def _guidellm_stated(metrics: Mapping[str, Any]) -> Iterator[Stated]:
    units = {
        "output_tokens_per_second": "token/s", "requests_per_second": "request/s", "time_to_first_token_ms": "ms",
        "time_per_output_token_ms": "ms", "inter_token_latency_ms": "ms", "request_latency": "s",
    }  # fmt: skip
    for name, unit in units.items():
        found = (metrics.get(name) or {}).get("successful") or {}
        if "mean" in found:
            yield Stated(f"{name} mean", float(found["mean"]), unit)
        if unit in ("ms", "s") and "median" in found:
            yield Stated(f"{name} median", float(found["median"]), unit)
        if unit in ("ms", "s") and "p99" in (found.get("percentiles") or {}):
            yield Stated(f"{name} p99", float(found["percentiles"]["p99"]), unit)
