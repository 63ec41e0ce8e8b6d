"""Findings of serving loads: requests that pile up, requests that failed or never ended, limits that broke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from llem.findings import Finding, finding
from llem.metrics.boundary import boundary
from llem.metrics.checks.arrivals import Served, in_flight_parts, not_stationary, rate_off
from llem.metrics.checks.client import client_lag
from llem.metrics.checks.closed import left_out
from llem.metrics.checks.hangs import requests_hang
from llem.metrics.checks.words import in_trials
from llem.metrics.flow import Flow
from llem.metrics.goodput import slo_of
from llem.metrics.setup import Setup
from llem.metrics.statistics import holm, trend
from llem.store.models import Quantity, Trial

__all__ = ["piles_up", "serving_checks"]

#: Level of the rise of requests in flight, and the share of arrivals that the window leaves unanswered.
LEVEL, LEFT_SHARE = 0.01, 0.05
FEW = 200
#: Share of the gaps between chunks that may be none: above it, what is timed is the delivery.
TOGETHER_SHARE = 0.1
#: Share of the tokens that may have no event of their own: above it, times of tokens are an estimate.
UNTOLD_SHARE = 0.05


def serving_checks(
    setup: Setup, trials: Sequence[Trial], flows: Sequence[Flow | None], metrics: Mapping[str, Quantity]
) -> list[Finding]:
    """Every check of serving trials; none for others. `flows` per trial, in the order of `trials`."""
    served = [
        (trial, trial.serving, flow)
        for trial, flow in zip(trials, flows, strict=True)
        if trial.serving is not None and flow is not None
    ]
    if not served:
        return []
    kind = served[0][1].kind
    found = [*_requests(served), *_none(served), *_few(served), *_together(served), *_untold(served)]
    if kind != "command":  # llem sent the load
        found += [*client_lag(served), *requests_hang(served)]
    if kind == "closed":
        found += left_out(served)
    elif kind != "command":
        saturated = list(_saturation(served))
        found += [*saturated, *rate_off(setup, served), *not_stationary(served, saturated=bool(saturated))]
    return [*found, *_boundary(setup), *_objective(setup, metrics)]


def _requests(served: Served) -> Iterable[Finding]:
    """Failures count in the window in which they began: a request that hangs fails when its time is over, mostly after
    the window that it was sent in."""
    lost = [(trial.index, int(flow.lost.sum())) for trial, _, flow in served]
    if count := sum(number for _, number in lost):
        trials = [index for index, number in lost if number]
        message = f"{_many(count)} of the windows failed, within them or later{in_trials(trials)}"
        yield finding("requests_failed", message, failed=count, trials=trials)
    cut = [(trial.index, facts.unfinished) for trial, facts, _ in served]
    if count := sum(number for _, number in cut):
        trials = [index for index, number in cut if number]
        message = f"{_many(count)} had not ended in time and were aborted{in_trials(trials)}"
        yield finding("requests_unfinished", message, unfinished=count, trials=trials)


def _many(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _none(served: Served) -> Iterable[Finding]:
    empty = [(trial, flow) for trial, facts, flow in served if not facts.completed]
    if not empty:
        return
    flows, trials = [flow for _, flow in empty], [trial.index for trial, _ in empty]
    there = sum(int((flow.start < flow.t1).sum()) for flow in flows)
    dry = sum(int(((flow.start < flow.t1) & (flow.emitted == 0)).sum()) for flow in flows)
    tokens = sum(int(flow.emitted.sum()) for flow in flows)
    message = (
        f"no request completed within the window{in_trials(trials)}: of {there} in "
        f"flight {dry} got no token in it, and {tokens} tokens came"
    )
    yield finding("no_completions", message, in_flight=there, without_token=dry, output_tokens=tokens, trials=trials)


def _few(served: Served) -> Iterable[Finding]:
    count = sum(facts.completed for _, facts, _ in served)
    if 0 < count < FEW:
        were = "request was" if count == 1 else "requests were"
        message = f"{count} {were} completed in all windows together; percentiles beyond p90 need {FEW} or more"
        yield finding("few_completions", message, completed=count)


def _together(served: Served) -> Iterable[Finding]:
    counts = [flow.gaps_of_none for *_, flow in served]
    none, gaps = sum(none for none, _ in counts), sum(gaps for _, gaps in counts)
    if gaps and none / gaps > TOGETHER_SHARE:
        message = f"{none / gaps:.0%} of the chunks after a request's first came with the one before"
        yield finding("chunks_together", message, together=none, gaps=gaps)


def _untold(served: Served) -> Iterable[Finding]:
    """Of requests whose tokens did not all come at one time, for which no time of a token is told anyway."""
    rows = [flow.rows[i] for *_, flow in served for i in flow.completed if flow.head[i] < flow.outputs[i]]
    told = [(row, (row.engine_metrics or {}).get("tokens_without_event", 0.0)) for row in rows]
    hidden = sum((row.engine_metrics or {}).get("tokens_hidden", 0.0) for row in rows)
    untold, tokens = sum(count for _, count in told), sum(row.output_tokens for row in rows)
    if not tokens or untold / tokens <= UNTOLD_SHARE:
        return
    last = sum(count for row, count in told if count < len(row.token_times_ns or ()))
    if hidden:
        how = f"the server says that {hidden / tokens:.1%} are of reasoning, which it does not show"
    elif last > untold / 2:
        how = "each request has fewer of them than events; TPOT and gaps assume that they came with its last event"
    else:
        how = "TPOT and gaps between chunks assume that they came evenly with the events of their request"
    message = f"no event told of {untold / tokens:.1%} of the output tokens: {how}"
    yield finding("tokens_untold", message, untold=int(untold), hidden=int(hidden), tokens=tokens)


def piles_up(in_flight: Sequence[float], arrived: int, ended: int) -> bool:
    """The two signs of too much load, of one window: requests in flight, in equal parts of it, rise; and more than 5 %
    of the arrivals are left over."""
    line = trend(in_flight)
    return line.slope > 0 and line.p_value < LEVEL and arrived > 0 and (arrived - ended) / arrived > LEFT_SHARE


def _saturation(served: Served) -> Iterable[Finding]:
    """Requests in flight rise within a window, and over all windows more than 5 % of arrivals are left over.

    Either alone is common: requests in flight wander by themselves, the more so the nearer the engine is to its limit.
    """
    parts = [(trial, in_flight_parts(flow)) for trial, _, flow in served]
    lines = [(trial, trend(values)) for trial, values in parts]
    adjusted = holm([line.p_value for _, line in lines])
    rising = [
        trial for (trial, line), p_value in zip(lines, adjusted, strict=True) if line.slope > 0 and p_value < LEVEL
    ]
    arrived = sum(int(((flow.arrival >= flow.t0) & (flow.arrival < flow.t1)).sum()) for *_, flow in served)
    ended = sum(int(((flow.end >= flow.t0) & (flow.end < flow.t1)).sum()) for *_, flow in served)
    left = (arrived - ended) / arrived if arrived else 0.0
    if not rising or left <= LEFT_SHARE:
        return
    begin = sum(values[0] for _, values in parts) / len(parts)
    end = sum(values[-1] for _, values in parts) / len(parts)
    message = (
        f"{arrived} requests arrived and {ended} ended within the windows: from their first tenth to their last, "
        f"requests in flight rose from {begin:.1f} to {end:.1f}"
    )
    evidence = {"arrived": arrived, "ended": ended, "in_flight_first": begin, "in_flight_last": end}
    yield finding("over_saturated", message, **evidence, trials=[trial.index for trial in rising])


def _boundary(setup: Setup) -> Iterable[Finding]:
    for one in setup.searches:
        found = boundary(one.windows, one.attainment)
        if found.kept is None or found.is_closed:
            continue
        why = "the highest rate asked for" if found.broken is None else f"llem sends late from {found.broken:.4g} on"
        message = f"{found.kept:.4g} requests/s keep the SLO ({why}): the boundary lies above"
        yield finding("boundary_above", message, request_rate=found.kept, late_at=found.broken)


def _objective(setup: Setup, metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    slo, attained = slo_of(setup.config), metrics["slo_attainment"].value
    if slo is None or attained is None:
        return
    limits, share = slo.limits(), slo.attainment
    if attained < share:
        told = ", ".join(f"{name.removesuffix('_s')} {limit:g} s" for name, limit in limits.items())
        message = f"{attained:.2%} of the requests kept every limit ({told}), where {share:.2%} should"
        yield finding("slo_missed", message, attainment=attained, target=share, limits=dict(limits))
