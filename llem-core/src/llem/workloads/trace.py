"""Lengths of real requests, from a trace without their text.

Traces that are published this way: the Azure LLM inference traces (`ContextTokens`, `GeneratedTokens`, `TIMESTAMP`),
BurstGPT (`Request tokens`, `Response tokens`, `Timestamp`) and Mooncake (`input_length`, `output_length`, `timestamp`,
`hash_ids`).
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

from llem.backends.base import Request
from llem.config.fields import at_least, option
from llem.config.models import Sampling
from llem.errors import ConfigError, Problem
from llem.findings import Finding
from llem.models.tokenizer import Tokenizer
from llem.workloads.arrivals import Timetable
from llem.workloads.base import TOO_LONG_HELP, TooLong, Workload, too_long, without_too_long
from llem.workloads.foreign import read_foreign
from llem.workloads.synthetic import drawn_from, random_ids, require_vocabulary
from llem.workloads.trace_file import BLOCK_TOKENS, COLUMNS, Trace, Unit, parse_trace, trace_error
from llem.workloads.trace_times import parse_offsets

__all__ = ["TraceOptions", "TraceWorkload"]


@attrs.frozen(kw_only=True)
class TraceOptions:
    """Section `workload` with `kind: trace`."""

    kind: Literal["trace"] = option("trace", help="Random token ids of lengths from a trace.")
    path: str = option(
        help="A CSV with a header and one request a row, or a .jsonl or .json file with one JSON object a row. Either "
        "may be packed (.gz).",
        file=True,
    )
    input_column: str | None = option(
        None, help="Column of prompt lengths; null takes the first of " + ", ".join(COLUMNS["input"]) + "."
    )
    output_column: str | None = option(
        None, help="Column of output lengths; null takes the first of " + ", ".join(COLUMNS["output"]) + "."
    )
    arrival_column: str | None = option(
        None,
        help="Column of arrival times, as numbers or as dates with times; null takes the first of "
        + ", ".join(COLUMNS["arrival"])
        + ", also with a unit behind it. Only a load of kind `replay` reads them; with any other load this must be "
        "null.",
    )
    arrival_unit: Unit | None = option(
        None,
        help="Unit of arrival times that are numbers. Null takes that of the column's name (`timestamp_ms`) or of the "
        "format (BurstGPT: s, Mooncake: ms); where neither says it, a replay is refused.",
    )
    block_tokens: int | None = option(
        None,
        help=f"Tokens of the block that one of `hash_ids` stands for. Null takes Mooncake's {BLOCK_TOKENS}.",
        unit="tokens",
        validator=at_least(1),
    )
    max_input_tokens: int | None = option(
        None, help="Cut longer prompts to this length. The result says how many.", unit="tokens", validator=at_least(1)
    )
    max_output_tokens: int | None = option(
        None, help="Cut longer outputs to this length. The result says how many.", unit="tokens", validator=at_least(1)
    )
    too_long: TooLong = option("refuse", help=TOO_LONG_HELP)
    skip_empty: bool = option(
        False, help="Leave out rows with 0 tokens in or out. In BurstGPT these are failed requests."
    )
    seed: int = option(0, help="Seed of the token ids.")


class TraceWorkload(Workload):
    """The trace's lengths in the order of its rows, beginning again after the last.

    Ids are those of `synthetic`: uniform over [3, vocabulary size). Where the trace has hashes of blocks, prompts with
    the same hashes have the same ids there, so that a prefix cache helps as it did when the trace was taken. Without
    them every request is different. Later passes have other ids. Request i depends on the trace, the seed, the salt,
    which rows fit, and i alone.

    Raises ConfigError on construction when the trace cannot be read.
    """

    kind: ClassVar[str] = "trace"
    needs_tokenizer: ClassVar[bool] = False
    options: TraceOptions

    def __init__(self, options: TraceOptions, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        require_vocabulary(vocab_size)
        super().__init__(options, tokenizer, vocab_size)
        self.trace = _read(options)
        self._used: Sequence[int] = range(len(self.trace.lengths))
        self._context: int | None = None

    def prepare(self, sampling: Sampling, context_length: int | None) -> Sequence[Finding]:
        """Raises ConfigError: a row is too long and to be refused, or none is left."""
        self._context = context_length
        wrong: dict[int, tuple[str, str]] = {}
        for position, row in enumerate(self.trace.rows if context_length is not None else ()):
            place = f"{self.trace.name}: row {row}"
            if (message := too_long(place, *self._lengths(position), context_length or 0)) is not None:
                wrong[position] = (place, message)
        count = len(self.trace.lengths)
        hint = "cut with `workload.max_input_tokens` and `workload.max_output_tokens`"
        found = without_too_long(list(wrong.values()), count, self.options.too_long, hint)
        self._used = [position for position in range(count) if position not in wrong]
        return found

    def _lengths(self, position: int) -> tuple[int, int]:
        given, asked = self.trace.lengths[position]
        return _clip(given, self.options.max_input_tokens), _clip(asked, self.options.max_output_tokens)

    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [self._request(index) for index in range(start, start + count)]

    def _request(self, index: int) -> Request:
        turn, place = divmod(index, len(self._used))
        position = self._used[place]
        given, asked = self._lengths(position)
        if self.trace.hashes:
            return Request(index, self._hashed_ids(turn, self.trace.hashes[position], given), asked)
        rng = random.Random(f"trace/{self.options.seed}/{index}/ids{self.salt}")
        return Request(index, random_ids(rng, given, self.ids or self.vocab_size), asked)

    def _hashed_ids(self, turn: int, hashes: Sequence[str], length: int) -> tuple[int, ...]:
        """A block of ids for each hash, the same wherever the hash comes in this pass."""
        size = self.options.block_tokens or BLOCK_TOKENS
        ids: list[int] = []
        for number, block in enumerate(hashes):
            rng = random.Random(f"trace/{self.options.seed}/{turn}/block/{block}{self.salt}")
            ids += random_ids(rng, max(0, min(size, length - number * size)), self.ids or self.vocab_size)
        return tuple(ids)

    @classmethod
    def check(cls, options: TraceOptions, load: Any) -> None:
        """Raises ConfigError: a trace that cannot be read, a replay of one without usable times, or settings of times
        that no load would read."""
        trace = _read(options)
        if load.kind == "replay":
            _timetable(trace, range(len(trace.rows)), options.arrival_unit)
            return
        for name in ("arrival_column", "arrival_unit"):
            if getattr(options, name) is not None:
                message = f"has no effect with a load of kind {load.kind!r}"
                problem = Problem(f"workload.{name}", message, "remove it, or set `load: {kind: replay}`")
                raise ConfigError("the arrival times would not be used", problems=(problem,))

    def timetable(self) -> Timetable:
        """The trace's own times; passes over it follow each other by its mean gap.

        Raises:
            ConfigError: the trace has no arrival column, nothing says the unit of its times, one cannot be read or is
                before the one above, or all requests arrive at once.
        """
        return _timetable(self.trace, self._used, self.options.arrival_unit)

    def describe(self) -> Mapping[str, Any]:
        lengths = [self._lengths(position) for position in self._used]
        whole = [self.trace.lengths[position] for position in self._used]
        return {
            "kind": self.kind,
            "file": self.trace.name,
            "sha256": self.trace.sha256,
            "format": self.trace.format,
            "rows": len(lengths),
            "skipped_rows": self.trace.skipped,
            "too_long": len(self.trace.lengths) - len(lengths),
            "context_length": self._context,
            "columns": dict(self.trace.columns),
            "mean_input_tokens": sum(given for given, _ in lengths) / len(lengths),
            "mean_output_tokens": sum(asked for _, asked in lengths) / len(lengths),
            "clipped_inputs": sum(cut[0] < one[0] for cut, one in zip(lengths, whole, strict=True)),
            "clipped_outputs": sum(cut[1] < one[1] for cut, one in zip(lengths, whole, strict=True)),
            "shared_prefixes": bool(self.trace.hashes),
            "when_exhausted": "wrap",
            **drawn_from(self),
        }


def _clip(length: int, most: int | None) -> int:
    return length if most is None else min(length, most)


def _read(options: TraceOptions) -> Trace:
    """The trace; kept for the next experiment of a study that reads the same."""
    try:
        now = os.stat(os.path.expanduser(options.path))
    except (OSError, ValueError):
        now = None  # what is wrong is told where it is read
    return _kept(options, None if now is None else (now.st_mtime_ns, now.st_size, now.st_ino))


@functools.lru_cache(maxsize=2)
def _kept(options: TraceOptions, changed: tuple[int, ...] | None) -> Trace:
    asked = {"input": options.input_column, "output": options.output_column, "arrival": options.arrival_column}
    file = read_foreign(options.path, "trace", "trace_unreadable")
    return parse_trace(file, asked, skip_empty=options.skip_empty, block_tokens=options.block_tokens)


def _timetable(trace: Trace, used: Sequence[int], unit: Unit | None) -> Timetable:
    """A pass begins one mean gap after the last arrival of the one before."""
    every = parse_offsets(trace, unit)
    offsets = tuple(every[position] - every[used[0]] for position in used)
    span = offsets[-1]
    if span == 0:
        told = "one request has no gap to the next" if len(offsets) == 1 else f"all {len(offsets)} arrive at once"
        raise trace_error(
            f"{trace.name}: {told}, by column {trace.columns['arrival']!r}",
            "use a trace that lasts longer, or a load with a rate of its own",
        )
    return Timetable(offsets, span + span / (len(offsets) - 1), related=bool(trace.hashes))
