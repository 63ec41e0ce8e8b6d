"""Findings of engines that others may have used: a warm cache, prompts that repeat, and what a server itself counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.findings import Finding, finding
from llem.metrics.metric import Measured
from llem.store.models import Quantity, ServingFacts
from llem.workloads.base import place_of

__all__ = ["server_checks"]

#: From this share on, tokens from the cache are told: below it, it is the beginning of a chat template or the like.
WARM = 0.01
#: The server's count of tokens may be off by this share, besides what is in flight at the edges.
COUNT = 0.02
#: What a server tells of one window, in words; levels at its two edges, then what was counted between them.
LEVELS = {"requests_running": "requests running", "requests_waiting": "waiting", "kv_cache_used": "KV cache"}
COUNTS = {"cache_hit_tokens": "prompt tokens from its cache", "preemptions": "preemptions"}


def server_checks(measured: Measured, metrics: Mapping[str, Quantity]) -> list[Finding]:
    """Every check; of an offline load, those of the prompts."""
    facts = [trial.serving for trial in measured.trials if trial.serving is not None]
    cache = [*_warm(metrics), *_repeated(measured)] or list(_unknown(measured, metrics))
    return [*cache, *_counted(facts), *_told(facts)]


def _warm(metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    share = metrics["cached_tokens_share"].value
    if share is not None and share > WARM:
        message = f"{share:.1%} of the prompts' tokens came from the engine's cache, so times are those of a warm cache"
        yield finding("cache_warm", message, share=share)


def _repeated(measured: Measured) -> Iterable[Finding]:
    """By the documents of the engines: what the workload says of its prompts, and whether the engine keeps them."""
    setup = measured.setup
    prompts = setup.workload.get("prompts")
    distinct = setup.workload.get("distinct", prompts)
    if setup.keeps_prompts is False or not (isinstance(prompts, int) and isinstance(distinct, int) and prompts > 0):
        return
    seen = {row.index for rows in measured.rows for row in rows}
    block = setup.workload.get("block", max(seen, default=0) + 1)  # an older llem began at the same prompts again
    sent, different = len(seen), min(len({place_of(index, prompts, block) for index in seen}), distinct)
    beside = ""
    if different == sent and (every := _sent_so_far(measured)) > distinct:
        sent, different, beside = every, distinct, " in and beside the windows"
    if different < sent:
        keeps = "has a prefix cache" if setup.keeps_prompts else "may have a prefix cache"
        message = f"{sent:,} requests were sent{beside}, of {different:,} different prompts, and the engine {keeps}"
        yield finding("prompts_repeat", message, requests=sent, prompts=different)


def _sent_so_far(measured: Measured) -> int:
    """Requests of one engine process, at least: with its warm-up and what ran beside its windows, where that is known.
    Batches follow one another from the first of the sequence on."""
    known = [trial.serving.sent_so_far or 0 for trial in measured.trials if trial.serving is not None]
    batches = [] if measured.served else [row.index + 1 for rows in measured.rows for row in rows]
    return max([*known, *batches], default=0)


def _unknown(measured: Measured, metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    """That a server may have the prompts in its cache from an earlier run, and nothing tells."""
    setup = measured.setup
    same = setup.salt == "" or "prompts" in setup.workload
    told = setup.keeps_prompts is False or metrics["cached_tokens_share"].value is not None
    if setup.runs_already and same and not told:
        message = (
            "the server ran before, gets prompts that another run may have sent, and tells neither of a prefix cache "
            "nor of none: times may be those of a warm cache"
        )
        yield finding("cache_unknown", message)


def _counted(facts: Sequence[ServingFacts]) -> Iterable[Finding]:
    """That the server made other tokens than llem received, beyond those on their way at the window's edges.

    Some servers count a request's tokens when it ends: what is in flight at an edge may be off by its whole length.
    """
    known = [one for one in facts if "output_tokens" in one.server and "received_tokens" in one.server]
    made, received = (sum(one.server[name] for one in known) for name in ("output_tokens", "received_tokens"))
    slack = sum((one.in_flight_start + one.in_flight_end) * _length(one) for one in known)
    if known and abs(made - received) > max(COUNT * received, slack):
        message = f"the server counts {made:,.0f} output tokens beside the windows, and llem received {received:,.0f}"
        yield finding("server_counts_differ", message, made=made, received=received)


def _length(facts: ServingFacts) -> float:
    return facts.completed_output_tokens / facts.completed if facts.completed else 0.0


def _told(facts: Sequence[ServingFacts]) -> Iterable[Finding]:
    """What the server tells of itself, over all windows; and where it did not, though it does elsewhere."""
    every = [one.server for one in facts if one.server]
    parts = [text for name, words in LEVELS.items() if (text := _levels(every, name, words))]
    for name, words in COUNTS.items():
        counted = [one[name] for one in every if name in one]
        if counted:
            parts.append(f"{sum(counted):,.0f} {words}")
    if untold := sum("seconds" not in one.server for one in facts) if every else 0:
        parts.append(f"nothing at an edge of {untold} of {len(facts)} windows, whose counts are not known")
    if parts:
        evidence: dict[str, Any] = {"trials": [dict(one) for one in every]}
        yield finding("server_told", f"at the windows' edges and between them: {', '.join(parts)}", **evidence)


def _levels(every: Sequence[Mapping[str, float]], name: str, words: str) -> str:
    values = [one[f"{name}_{edge}"] for one in every for edge in ("start", "end") if f"{name}_{edge}" in one]
    if not values:
        return ""
    low, high = min(values), max(values)
    if name == "kv_cache_used":
        return f"{words} {low:.1%} to {high:.1%} full"
    return f"{words} {low:g} to {high:g}" if low != high else f"{words} {low:g}"
