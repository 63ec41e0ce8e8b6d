"""Is a window in steady state? A straight line through ten sub-windows of speed and of power.

Batches of an offline load do the same work each, so a line that fits in one window is a drift. Under a serving load
the work itself comes and goes, and what follows it is correlated from one sub-window to the next: there the drifts of
several windows, which are independent of one another, are held together by a t-test on their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import attrs

from llem.findings import Finding, finding
from llem.meters.trace import TraceRow, series
from llem.metrics.energies import headline
from llem.metrics.flow import Flow
from llem.metrics.statistics import holm, mean, trend, zero_mean
from llem.store.models import Trial

__all__ = ["steady_state"]

PARTS = 10
TOKEN_RATE = "output tokens per second"
#: Change over the window as a share of the mean, and the level, both from the protocol.
SHARE, LEVEL = 0.005, 0.01
#: Windows that a t-test over windows needs. With fewer, a drift under a serving load must be this large to be told.
WINDOWS, LARGE = 3, 0.10


@attrs.frozen
class _Drift:
    """A fitted change over one window: `share` of the mean, from its beginning to its end."""

    what: str
    trial: int
    share: float
    p_value: float


def _fit(what: str, trial: int, values: Sequence[float]) -> _Drift | None:
    centre = mean(values)
    if centre == 0:
        return None
    line = trend(values)
    return _Drift(what, trial, line.slope * len(values) / centre, line.p_value)


def _speed_drift(trial: Trial) -> _Drift | None:
    """Drift of the duration of batches, in ten groups; None for fewer than ten batches."""
    n = len(trial.batch_s)
    if n < PARTS:
        return None
    parts = [trial.batch_s[i * n // PARTS : (i + 1) * n // PARTS] for i in range(PARTS)]
    return _fit("time per batch", trial.index, [mean(part) for part in parts])


def _power_drift(trial: Trial, rows: Sequence[TraceRow], meter: str, domain: str) -> _Drift | None:
    """Drift of power in one domain; None where a tenth of the window has no sample.

    Samples of power where the meter has them, else the mean power between the counter's ticks.
    """
    samples = [(row.t_ns, row.value) for row in series(rows, meter, domain, "power_w")]
    if not samples:
        ticks = series(rows, meter, domain, "counter_j")
        samples = [
            ((a.t_ns + b.t_ns) // 2, (b.value - a.value) / (b.t_ns - a.t_ns) * 1e9)
            for a, b in pairwise(ticks)
            if b.t_ns > a.t_ns
        ]
    length = trial.t1_ns - trial.t0_ns
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for at, watts in samples:
        if trial.t0_ns <= at < trial.t1_ns:
            parts[(at - trial.t0_ns) * PARTS // length].append(watts)
    if not all(parts):
        return None
    return _fit(f"power of {domain}", trial.index, [mean(part) for part in parts])


def _rate_drift(trial: Trial, flow: Flow) -> _Drift | None:
    """Drift of the rate of output tokens over a serving window; None where none came."""
    return _fit(TOKEN_RATE, trial.index, flow.token_rates(PARTS))


def steady_state(
    trials: Sequence[Trial], flows: Sequence[Flow | None], traces: Mapping[int, Sequence[TraceRow]]
) -> list[Finding]:
    """`no_steady_state` for every series that drifts. The level is held over all windows together (Holm)."""
    chosen = headline(trials)
    drifts = [drift for trial in trials if (drift := _speed_drift(trial)) is not None]
    for trial, flow in zip(trials, flows, strict=True):
        if flow is not None and (drift := _rate_drift(trial, flow)) is not None:
            drifts.append(drift)
    for trial in trials:
        for meter, domain in chosen.of(trial) if chosen else ():
            drift = _power_drift(trial, traces.get(trial.index, ()), meter, domain)
            if drift is not None:
                drifts.append(drift)
    serving = any(flow is not None for flow in flows)
    return _together(drifts) if serving else _each(drifts, SHARE)


def _each(drifts: Sequence[_Drift], share: float) -> list[Finding]:
    """Windows judged one by one."""
    adjusted = holm([drift.p_value for drift in drifts])
    bad: dict[str, list[_Drift]] = {}
    for drift, p_value in zip(drifts, adjusted, strict=True):
        if abs(drift.share) > share and p_value < LEVEL:
            bad.setdefault(drift.what, []).append(attrs.evolve(drift, p_value=p_value))
    return [_report(what, found) for what, found in bad.items()]


def _together(drifts: Sequence[_Drift]) -> list[Finding]:
    """Windows of a serving load judged by the mean of their drifts, or one by one where they are too few."""
    series: dict[str, list[_Drift]] = {}
    for drift in drifts:
        series.setdefault(drift.what, []).append(drift)
    if any(len(found) < WINDOWS for found in series.values()):
        return _each(drifts, LARGE)
    means = {what: zero_mean([drift.share for drift in found]) for what, found in series.items()}
    adjusted = holm([1.0 if one.p_value is None else one.p_value for one in means.values()])
    return [
        finding(
            "no_steady_state",
            f"{what} changes by {one.value:+.2%} within a window, on average over {one.n} windows",
            what=what,
            share=one.value,
            p_value=p_value,
            trials=[drift.trial for drift in series[what]],
        )
        for (what, one), p_value in zip(means.items(), adjusted, strict=True)
        if abs(one.value) > SHARE and p_value < LEVEL
    ]


def _report(what: str, found: Sequence[_Drift]) -> Finding:
    worst = max(found, key=lambda drift: abs(drift.share))
    return finding(
        "no_steady_state",
        f"{what} changes by {worst.share:+.2%} within a window (trial {worst.trial}; {len(found)} windows drift)",
        what=what,
        share=worst.share,
        p_value=worst.p_value,
        trials=[drift.trial for drift in found],
    )
