"""Lengths of real requests, from a CSV without their text.

Traces that are published this way: the Azure LLM inference traces (`ContextTokens`, `GeneratedTokens`, `TIMESTAMP`) and
BurstGPT (`Request tokens`, `Response tokens`, `Timestamp`).
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from llem.backends.base import Request
from llem.config.fields import at_least, option
from llem.errors import ConfigError, Problem
from llem.models.tokenizer import Tokenizer
from llem.workloads.arrivals import Timetable
from llem.workloads.base import Workload
from llem.workloads.synthetic import drawn_from, random_ids, require_vocabulary
from llem.workloads.trace_file import COLUMNS, Trace, parse_offsets, parse_trace

__all__ = ["TraceOptions", "TraceWorkload"]


@attrs.frozen(kw_only=True)
class TraceOptions:
    """Section `workload` with `kind: trace`."""

    kind: Literal["trace"] = option("trace", help="Random token ids of lengths from a trace.")
    path: str = option(help="A CSV with a header and one request a row.", file=True)
    input_column: str | None = option(
        None, help="Column of prompt lengths; null takes the first of " + ", ".join(COLUMNS["input"]) + "."
    )
    output_column: str | None = option(
        None, help="Column of output lengths; null takes the first of " + ", ".join(COLUMNS["output"]) + "."
    )
    arrival_column: str | None = option(
        None,
        help="Column of arrival times, in seconds or as dates with times; null takes the first of "
        + ", ".join(COLUMNS["arrival"])
        + ". Only a load of kind `replay` reads them; with any other load this must be null.",
    )
    max_input_tokens: int | None = option(
        None, help="Cut longer prompts to this length. The result says how many.", unit="tokens", validator=at_least(1)
    )
    max_output_tokens: int | None = option(
        None, help="Cut longer outputs to this length. The result says how many.", unit="tokens", validator=at_least(1)
    )
    skip_empty: bool = option(
        False, help="Leave out rows with 0 tokens in or out. In BurstGPT these are failed requests."
    )
    seed: int = option(0, help="Seed of the token ids.")


class TraceWorkload(Workload):
    """The trace's lengths in the order of its rows, beginning again after the last.

    Ids are those of `synthetic`: uniform over [3, vocabulary size), and every request different, in later passes too,
    so that no prefix cache can help. Request i depends on the trace, the seed and i alone.

    Raises ConfigError on construction when the trace cannot be read.
    """

    kind: ClassVar[str] = "trace"
    needs_tokenizer: ClassVar[bool] = False
    options: TraceOptions

    def __init__(self, options: TraceOptions, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        require_vocabulary(vocab_size)
        super().__init__(options, tokenizer, vocab_size)
        self.trace = _read(options)

    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [self._request(index) for index in range(start, start + count)]

    def _request(self, index: int) -> Request:
        given, asked = self.trace.lengths[index % len(self.trace.lengths)]
        rng = random.Random(f"trace/{self.options.seed}/{index}/ids{self.salt}")
        token_ids = random_ids(rng, _clip(given, self.options.max_input_tokens), self.ids or self.vocab_size)
        return Request(index, token_ids, _clip(asked, self.options.max_output_tokens))

    @classmethod
    def check(cls, options: TraceOptions, load: Any) -> None:
        """Raises ConfigError: a replay of a trace without usable times, or a column that no load would read."""
        if load.kind == "replay":
            _timetable(_read(options))
        elif options.arrival_column is not None:
            message = f"has no effect with a load of kind {load.kind!r}"
            problem = Problem("workload.arrival_column", message, "remove it, or set `load: {kind: replay}`")
            raise ConfigError("the arrival times would not be used", problems=(problem,))

    def timetable(self) -> Timetable:
        """The trace's own times; passes over it follow each other by its mean gap.

        Raises:
            ConfigError: the trace has no arrival column, a time in it cannot be read or is before the one above, or all
                requests arrive at once.
        """
        return _timetable(self.trace)

    def describe(self) -> Mapping[str, Any]:
        lengths, options = self.trace.lengths, self.options
        given = [_clip(length, options.max_input_tokens) for length, _ in lengths]
        asked = [_clip(length, options.max_output_tokens) for _, length in lengths]
        return {
            "kind": self.kind,
            "file": self.trace.name,
            "sha256": self.trace.sha256,
            "rows": len(lengths),
            "skipped_rows": self.trace.skipped,
            "columns": dict(self.trace.columns),
            "mean_input_tokens": sum(given) / len(given),
            "mean_output_tokens": sum(asked) / len(asked),
            "clipped_inputs": sum(length < whole for length, (whole, _) in zip(given, lengths, strict=True)),
            "clipped_outputs": sum(length < whole for length, (_, whole) in zip(asked, lengths, strict=True)),
            "when_exhausted": "wrap",
            **drawn_from(self),
        }


def _clip(length: int, most: int | None) -> int:
    return length if most is None else min(length, most)


def _read(options: TraceOptions) -> Trace:
    path = Path(os.path.expanduser(options.path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"trace {options.path!r} cannot be read: {error.strerror}",
            "a path that is not absolute starts from the folder llem is run in",
            code="trace_unreadable",
        ) from error
    asked = {"input": options.input_column, "output": options.output_column, "arrival": options.arrival_column}
    digest = hashlib.sha256(content).hexdigest()
    return parse_trace(path.name, digest, content, asked, skip_empty=options.skip_empty)


def _timetable(trace: Trace) -> Timetable:
    """A pass begins one mean gap after the last arrival of the one before."""
    offsets = parse_offsets(trace)
    span = offsets[-1]
    if span == 0:
        told = "one request has no gap to the next" if len(offsets) == 1 else f"all {len(offsets)} arrive at once"
        raise ConfigError(
            f"{trace.name}: {told}, by column {trace.columns['arrival']!r}",
            "use a trace that lasts longer, or a load with a rate of its own",
            code="trace_unreadable",
        )
    return Timetable(offsets, span + span / (len(offsets) - 1))
