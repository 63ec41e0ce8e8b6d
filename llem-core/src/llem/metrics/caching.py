"""How much of the prompts an engine took from its cache instead of computing it: a prefix that it had computed before.

    share = prompt tokens taken from the cache / prompt tokens

of the requests that ended within the window, as the engine tells of each (`cached_tokens`). Where it tells of none, by
its own counters from right before the window to right after it. Engines count whole blocks of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

from llem.metrics.flow import FAILED, UNFINISHED, Flow
from llem.metrics.metric import Measured, Metric
from llem.metrics.quantity import Value
from llem.store.models import ServingFacts

__all__ = ["cache_metrics"]


def cache_metrics() -> Iterator[Metric]:
    """A row for each."""
    yield Metric(
        "cached_tokens_share", "", "prompt tokens from cache", None, "serving",
        "Share of the prompts' tokens that the engine took from its cache (prefix cache), of the requests that ended "
        "within the window; by the engine's own counters where it does not tell it of each request.",
        each=_shares, shown=("result",), since=5,
    )  # fmt: skip


def _shares(measured: Measured) -> list[Value]:
    served = [(trial.serving, flow) for trial, flow in zip(measured.trials, measured.flows, strict=True)]
    return [
        Value(_of_requests(flow) if _tells(flow) else _of_counters(facts), reason="cache_not_told")
        for facts, flow in served
        if facts is not None and flow is not None
    ]


def _tells(flow: Flow) -> bool:
    """Whether the engine tells it of any request; some tell it only where it is not 0."""
    return any("cached_tokens" in (row.engine_metrics or {}) for row in flow.rows)


def _of_requests(flow: Flow) -> float | None:
    cached = prompts = 0.0
    for row in flow.rows:
        if flow.t0 <= row.end_ns < flow.t1 and row.finish_reason not in (FAILED, UNFINISHED):
            told = row.engine_metrics or {}
            given = told.get("prompt_tokens", row.input_tokens)
            if given is None:
                return None
            cached += told.get("cached_tokens", 0.0)
            prompts += given
    return min(cached / prompts, 1.0) if prompts > 0 else None


def _of_counters(facts: ServingFacts) -> float | None:
    hit, queried = facts.server.get("cache_hit_tokens"), facts.server.get("cache_queried_tokens")
    return None if hit is None or not queried else min(hit / queried, 1.0)
