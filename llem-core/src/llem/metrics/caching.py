"""How much of the prompts an engine took from its cache instead of computing it: a prefix that it had computed before.

    share = prompt tokens taken from the cache / prompt tokens

of the requests that ended within the window, as the engine tells of each (`cached_tokens`). Where it tells of none, by
its own counters from right before the window to right after it, if they are a share. Engines count whole blocks of
tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llem.metrics.flow import FAILED, UNFINISHED
from llem.metrics.metric import Measured, Metric
from llem.metrics.quantity import Value
from llem.store.models import RequestRow, ServingFacts, Trial

__all__ = ["cache_metrics"]


def cache_metrics() -> Iterator[Metric]:
    """A row for each."""
    yield Metric(
        "cached_tokens_share", "", "prompt tokens from cache", None, "speed",
        "Share of the prompts' tokens that the engine took from its cache (prefix cache), of the requests that ended "
        "within the window; by the engine's own counters where it does not tell it of each request.",
        each=_shares, shown=("result",), since=5, most=1.0,
    )  # fmt: skip


def _shares(measured: Measured) -> list[Value]:
    return [
        Value(
            _of_requests(_ended(trial, rows)) if _tells(rows) else _of_counters(trial.serving), reason="cache_not_told"
        )
        for trial, rows in zip(measured.trials, measured.rows, strict=True)
    ]


def _tells(rows: Sequence[RequestRow]) -> bool:
    """Whether the engine tells it of any request; some tell it only where it is not 0."""
    return any("cached_tokens" in (row.engine_metrics or {}) for row in rows)


def _ended(trial: Trial, rows: Sequence[RequestRow]) -> Iterator[RequestRow]:
    """Requests that ended well within the window; of an offline load these are all of its rows."""
    for row in rows:
        within = trial.serving is None or trial.t0_ns <= row.end_ns < trial.t1_ns
        if within and row.finish_reason not in (FAILED, UNFINISHED):
            yield row


def _of_requests(rows: Iterable[RequestRow]) -> float | None:
    cached = prompts = 0.0
    for row in rows:
        told = row.engine_metrics or {}
        given = told.get("prompt_tokens", row.input_tokens)
        if given is None:
            return None
        cached += told.get("cached_tokens", 0.0)
        prompts += given
    return min(cached / prompts, 1.0) if prompts > 0 else None


def _of_counters(facts: ServingFacts | None) -> float | None:
    if facts is None:
        return None
    hit, queried = facts.server.get("cache_hit_tokens"), facts.server.get("cache_queried_tokens")
    # more hits than were looked for are counted in another way, whatever their names say
    return None if hit is None or not queried or hit > queried else hit / queried
