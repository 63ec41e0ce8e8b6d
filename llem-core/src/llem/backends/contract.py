"""What llem relies on in what an engine gives. Held as a study runs, before a window or after it; the conformance
suites hold the same and more. Types and bounds are in `llem.backends.forms`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs

from llem.backends.forms import COUNTS, breach, chunk_form, completions_form, shown
from llem.backends.requests import Chunk, Completion, Request
from llem.config.models import Experiment
from llem.errors import Breach
from llem.findings import Finding, finding
from llem.foreign.values import MOST

__all__ = [
    "completion_breaches",
    "overruled",
    "same_setting",
    "stream_breaches",
]

#: Times of so many tokens, so far apart, that are equally spaced to this: no clock was read for them.
SPACED, SPACED_NS, ALIKE_NS = 8, 10_000, 2
#: Values that can be compared with their like alone.
FORMS = (str, int | float)


def completion_breaches(
    requests: Sequence[Request], completions: Sequence[Completion], *, asked_times: bool, start_ns: int, end_ns: int
) -> Iterator[Breach]:
    """Of one batch.

    Args:
        asked_times: token times were asked for.
        start_ns, end_ns: monotonic times right before and after the call of `generate`.
    """
    if (odd := next(completions_form(completions), None)) is not None:
        yield odd
        return
    asked, given = [one.index for one in requests], [one.index for one in completions]
    if asked != given:
        yield _order(asked, given)
        return
    for done in completions:
        yield from _ids_breaches(done.index, done.token_ids)
        times = done.token_times_ns
        if times is None:
            continue
        if not asked_times:
            yield breach("token times come only when they are asked for", f"times of request {done.index}", "None")
        elif len(times) != done.tokens:
            yield breach("each token has a time", f"{len(times)} for request {done.index}", f"{done.tokens}")
        else:
            yield from _times_breaches(done.index, times, start_ns, end_ns)


def _order(asked: Sequence[int], given: Sequence[int]) -> Breach:
    rule = "completions stand in the order of the requests, one for each"
    if len(asked) != len(given):
        return breach(rule, f"{len(given)} completions", f"{len(asked)}")
    place = next(place for place, (one, other) in enumerate(zip(asked, given, strict=True)) if one != other)
    return breach(rule, f"request {shown(given[place])} at place {place}", f"request {asked[place]}")


def _ids_breaches(index: int, ids: Sequence[int] | None) -> Iterator[Breach]:
    if ids and (set(map(type, ids)) != {int} or min(ids) not in COUNTS or max(ids) not in COUNTS):
        odd = next(one for one in ids if type(one) is not int or one not in COUNTS)
        rule = "token ids are Python integers of the vocabulary"
        yield breach(rule, f"{shown(odd)} ({type(odd).__name__}) for request {index}", "an int from 0 on")


def _times_breaches(index: int, times: Sequence[int], start_ns: int, end_ns: int) -> Iterator[Breach]:
    """Of times at which tokens, or chunks of them, came."""
    if not times:
        return
    who = f"request {index}"
    if set(map(type, times)) != {int}:
        odd = next(one for one in times if type(one) is not int)
        yield breach("times are integers of nanoseconds", f"{shown(odd)} for {who}", "time.monotonic_ns()")
    elif any(later < earlier for earlier, later in pairwise(times)):
        yield breach("times do not go backwards", f"times of {who} that do", "each token after the one before")
    elif times[0] < start_ns or times[-1] > end_ns:
        off = times[-1] - end_ns if times[-1] > end_ns else times[0] - start_ns
        off_s = min(abs(off), MOST) / 1e9
        got = f"{who} {off_s:.3g} s {'after its end' if off > 0 else 'before its beginning'}"
        yield breach("times are time.monotonic_ns() at which tokens came, within the call", got, "within it")
    elif _are_spaced(times):
        got = (
            f"{len(times)} times of {who}, each {(times[-1] - times[0]) / (len(times) - 1) / 1e6:.4g} ms after the last"
        )
        yield breach("times are read from the clock as tokens come, and not computed", got, "times that scatter")


def _are_spaced(times: Sequence[int]) -> bool:
    """Whether all are equally far apart, as only an interpolation makes them."""
    if len(times) < SPACED:
        return False
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return min(gaps) >= SPACED_NS and max(gaps) - min(gaps) <= ALIKE_NS


def stream_breaches(index: int, chunks: Sequence[Chunk], start_ns: int, end_ns: int) -> Iterator[Breach]:
    """Of one request that was streamed: chunks between its sending and the end of its load."""
    for chunk in chunks:
        if (odd := next(chunk_form(index, chunk), None)) is not None:
            yield odd
            return
        if chunk.token_ids is not None and len(chunk.token_ids) != chunk.tokens:
            got = f"{len(chunk.token_ids)} ids in a chunk of {chunk.tokens} tokens of request {index}"
            yield breach("a chunk has as many ids as tokens, or none at all", got, "one id each, or None")
            return
        yield from _ids_breaches(index, chunk.token_ids)
    yield from _times_breaches(index, [chunk.time_ns for chunk in chunks], start_ns, end_ns)


def overruled(experiment: Experiment, effective: Mapping[str, Any]) -> Iterator[Finding]:
    """Settings that were asked for, and of which the engine says that it runs with another value.

    Looked for under their own names: options and `dtype` at the top, sampling under `sampling`, but for the seed, which
    engines make others of. What an engine does not tell, or tells in another form, is no difference.
    """
    options = experiment.options
    fields = attrs.fields(type(options)) if attrs.has(type(options)) else ()
    asked = {f"{experiment.backend}.{field.name}": (getattr(options, field.name), effective) for field in fields}
    asked["dtype"] = experiment.dtype, effective
    sampling = effective.get("sampling")
    if isinstance(sampling, Mapping):
        names = [field.name for field in attrs.fields(type(experiment.sampling)) if field.name != "seed"]
        asked |= {f"sampling.{name}": (getattr(experiment.sampling, name), sampling) for name in names}
    for path, (wanted, told) in asked.items():
        found = told.get(path.rpartition(".")[2])
        if any(isinstance(wanted, form) and isinstance(found, form) for form in FORMS) and not same_setting(
            wanted, found
        ):
            message = f"{path}: asked for {wanted!r}, and the engine says that it runs with {found!r}"
            yield finding("setting_overruled", message, parameter=path, asked=wanted, effective=found)


def same_setting(asked: Any, found: Any) -> bool:
    """Whether a value that an engine tells is the one that was asked for: `auto` is any, names may be in capitals."""
    if asked == "auto":
        return True
    if isinstance(asked, str):
        return asked.lower() == str(found).lower().removeprefix("torch.")
    if isinstance(asked, float) and isinstance(found, float):
        return math.isclose(asked, found, rel_tol=1e-6)  # kept as four bytes
    return bool(asked == found)
