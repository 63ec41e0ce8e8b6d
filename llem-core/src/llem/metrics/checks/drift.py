"""Is a window in steady state? Shapes sought in the time per batch, in power, and in the rate of output tokens.

Batches of an offline load are many and alike, or as long as their work makes them: what the work explains is taken
out, and the rest is looked through for a line, a bend, a step or a bump (`llem.metrics.changes`). Where values are too
few for that, and under a serving load, where the work itself comes and goes, the windows are held together: they are
independent of one another, so that a t-test on the mean of their lines, and of their bends, needs no model of noise.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import attrs

from llem.findings import Finding, finding
from llem.meters.trace import TraceRow, series
from llem.metrics.changes import LEAST, MOST, Change, cells, changes
from llem.metrics.checks.batches import Batch, batches_of, columns_of
from llem.metrics.checks.meters import resolves
from llem.metrics.energies import Key
from llem.metrics.flow import Flow
from llem.metrics.metric import Measured
from llem.metrics.residuals import residuals
from llem.metrics.statistics import holm, mean, trend, zero_mean
from llem.store.models import Trial

__all__ = ["steady_state"]

PARTS = 10
TIME, TOKEN_RATE = "time per batch", "output tokens per second"
#: Change over the window as a share of the mean, and the level, both from the protocol.
SHARE, LEVEL = 0.005, 0.01
#: Windows that a t-test over windows needs. With fewer, a drift under a serving load must be this large to be told.
WINDOWS, LARGE = 3, 0.10
#: Values of one window that a line and a bend are fitted to, at least; batches from which power within one is known.
FEW, PHASED = 4, 4
#: Parts of a serving window tell of different requests where they last so many times as long as a request.
REQUESTS_A_PART = 2.0
#: Parts of a batch whose power may differ, and the values that a window must have for each column that explains them.
PHASES, PER_COLUMN = 16, 5


@attrs.frozen
class _Series:
    """One window of one quantity, in time.

    Attributes:
        columns: what is known to move the values, each as long as they are.
        alike: neighbouring values of which each tells of the same requests.
    """

    what: str
    trial: int
    values: Sequence[float]
    columns: Sequence[Sequence[float]] = ()
    alike: int = 1


@attrs.frozen
class _Drift:
    """A change that was looked for: its size as a share of the mean, its p-value, the trials it is of, its words.

    Attributes:
        together: whether it is of the mean of several windows.
    """

    what: str
    trials: tuple[int, ...]
    share: float
    p_value: float
    shape: str = "line"
    begin: float = 0.0
    end: float = 1.0
    together: bool = False


def steady_state(measured: Measured, traces: Mapping[int, Sequence[TraceRow]]) -> list[Finding]:
    """`no_steady_state` for every series that changes. The level is held over all that is tested."""
    groups: dict[str, list[_Series]] = {}
    for one in _all_series(measured, traces):
        groups.setdefault(one.what, []).append(one)
    drifts = []
    for found in groups.values():
        many = [one for one in found if len(one.values) >= LEAST]
        drifts += _sought(many) if many and not measured.served else _together(found, measured.served)
    bad: dict[str, list[_Drift]] = {}
    for drift in _adjusted(drifts):
        least = SHARE if drift.together or not measured.served else LARGE
        if abs(drift.share) > least and drift.p_value < LEVEL:
            bad.setdefault(drift.what, []).append(drift)
    return [_report(what, found) for what, found in bad.items()]


def _adjusted(drifts: Sequence[_Drift]) -> list[_Drift]:
    """P-values to be compared with the level: Holm's among means over windows, and among single windows.

    Where there are both, each kind has half of the level: what recurs is not to pay for every window by itself.
    """
    kinds = [kind for kind in ([d for d in drifts if d.together], [d for d in drifts if not d.together]) if kind]
    return [
        attrs.evolve(drift, p_value=min(1.0, p_value * len(kinds)))
        for kind in kinds
        for drift, p_value in zip(kind, holm([one.p_value for one in kind]), strict=True)
    ]


# the series


def _all_series(measured: Measured, traces: Mapping[int, Sequence[TraceRow]]) -> Iterable[_Series]:
    trials, chosen = measured.trials, measured.headline
    batches = [batches_of(trial, rows) for trial, rows in zip(measured.trials, measured.rows, strict=True)]
    for trial, made in zip(trials, batches, strict=True):
        if trial.batch_s:
            yield _Series(TIME, trial.index, trial.batch_s, columns_of(made) if len(made) == len(trial.batch_s) else ())
    alike = {trial.index: _alike(flow) for trial, flow in zip(trials, measured.flows, strict=True) if flow is not None}
    for trial, flow in zip(trials, measured.flows, strict=True):
        if flow is not None:
            yield _Series(TOKEN_RATE, trial.index, flow.token_rates(PARTS), alike=alike[trial.index])
    keys = {trial.index: chosen.of(trial) if chosen else () for trial in trials}
    resolved: dict[Key, bool] = {}
    for trial, made in zip(trials, batches, strict=True):
        for key in keys[trial.index]:
            if key not in resolved:
                resolved[key] = resolves([one for one in trials if key in keys[one.index]], traces, *key)
            rows = traces.get(trial.index, ())
            power = _power(trial, made, rows, *key) if resolved[key] else _counted(trial, rows, *key)
            if power is not None:
                yield attrs.evolve(power, alike=alike.get(trial.index, 1))


def _alike(flow: Flow) -> int:
    """Parts of a serving window in which one and the same request may stream: what comes by chance in one of them
    comes in the others too."""
    lasting = (flow.end - flow.start)[flow.completed]
    return ceil(REQUESTS_A_PART * float(lasting.mean()) * PARTS / (flow.t1 - flow.t0)) if len(lasting) else PARTS


def _power(trial: Trial, batches: Sequence[Batch], rows: Sequence[TraceRow], meter: str, domain: str) -> _Series | None:
    """Power in one domain by its readings; None where a tenth of the window has none, or too few batches to know their
    course. Of a serving load, the means of ten parts.
    """
    samples = [(row.t_ns, row.value) for row in series(rows, meter, domain, "power_w")]
    if not samples:
        return _counted(trial, rows, meter, domain)
    samples = [(at, watts) for at, watts in samples if trial.t0_ns <= at < trial.t1_ns]
    length = trial.t1_ns - trial.t0_ns
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for at, watts in samples:
        parts[(at - trial.t0_ns) * PARTS // length].append(watts)
    what = f"power of {domain}"
    if not all(parts):
        return None
    if trial.serving is not None:
        return _Series(what, trial.index, [mean(part) for part in parts])
    if len(batches) < PHASED:
        return None
    columns = _course(batches, [at for at, _ in samples])
    return _Series(what, trial.index, [watts for _, watts in samples], columns)


def _counted(trial: Trial, rows: Sequence[TraceRow], meter: str, domain: str) -> _Series | None:
    """Mean power by the counter in parts of a tenth of the window and more, for a load that the readings of power do
    not resolve; None for fewer than four parts."""
    ticks = [row for row in series(rows, meter, domain, "counter_j") if trial.t0_ns <= row.t_ns < trial.t1_ns]
    least = (trial.t1_ns - trial.t0_ns) / PARTS
    watts, begin = [], 0
    for i, row in enumerate(ticks):
        if row.t_ns - ticks[begin].t_ns >= least:
            watts.append((row.value - ticks[begin].value) / (row.t_ns - ticks[begin].t_ns) * 1e9)
            begin = i
    return _Series(f"power of {domain}", trial.index, watts) if len(watts) >= FEW else None


def _course(batches: Sequence[Batch], times: Sequence[int]) -> list[list[float]]:
    """What a batch does to power at each time: how far the batch is (one column per phase), and its work.

    Without it, a few long batches look like bumps; and samples that come nearly once per batch creep along its course,
    which looks like a drift.
    """
    starts = [batch.start_ns for batch in batches]
    ends = [*starts[1:], batches[-1].end_ns]
    places = [max(0, bisect.bisect_right(starts, at) - 1) for at in times]
    shares = [(at - starts[k]) / max(ends[k] - starts[k], 1) for at, k in zip(times, places, strict=True)]
    work = [[kind[k] for k in places] for kind in columns_of(batches)]
    # other windows may have a sample less, and all are cut into as many cells
    room = int(0.9 * min(len(times), MOST)) // PER_COLUMN - len(work)
    count = min(PHASES, max(1, room + 1))
    phases = [min(count - 1, max(0, int(share * count))) for share in shares]
    return [[float(phase == number) for phase in phases] for number in range(count - 1)] + work


# what is looked for


def _sought(found: Sequence[_Series]) -> list[_Drift]:
    """Shapes in every window, and in the mean of all of them."""
    count = min(MOST, *(len(one.values) for one in found))
    found = [one for one in found if _known(one, count)]
    if not found:
        return []
    values = [cells(one.values, count) for one in found]
    columns = [[cells(column, count) for column in one.columns] for one in found]
    pooled, each = changes(values, columns)
    drifts = [_drift(one.what, (one.trial,), change) for one, change in zip(found, each, strict=True)]
    if pooled is not None:
        drifts.append(_drift(found[0].what, tuple(one.trial for one in found), pooled))
    return drifts


def _known(one: _Series, count: int) -> bool:
    """Whether so many values are enough to tell what the columns explain: else nothing can be said of the rest."""
    return len(one.columns) * PER_COLUMN <= count


def _drift(what: str, trials: tuple[int, ...], change: Change) -> _Drift:
    return _Drift(
        what, trials, change.share, change.p_value, change.shape, change.begin, change.end, together=len(trials) > 1
    )


def _together(found: Sequence[_Series], served: bool) -> list[_Drift]:
    """The mean line and the mean bend over windows; where these are too few, the line of each under a serving load, if
    its parts are independent."""
    found = [
        attrs.evolve(one, values=residuals(one.values, one.columns))
        for one in found
        if len(one.values) >= FEW and mean(one.values) != 0 and _known(one, len(one.values))
    ]
    if len(found) < WINDOWS:
        apart = [attrs.evolve(one, values=_apart(one.values, one.alike)) for one in found]
        return [_line(one) for one in apart if len(one.values) >= FEW] if served else []
    trials = tuple(one.trial for one in found)
    lines = zero_mean([_line(one).share for one in found])
    bends = zero_mean([_bend(one.values) for one in found])
    return [
        _Drift(found[0].what, trials, test.value, 1.0 if test.p_value is None else test.p_value, shape, *at, True)
        for test, shape, at in ((lines, "line", (0.0, 1.0)), (bends, "bend", (0.5, 0.5)))
    ]


def _apart(values: Sequence[float], alike: int) -> list[float]:
    """The means of so many neighbours each."""
    return [mean(values[begin : begin + alike]) for begin in range(0, len(values) - alike + 1, alike)]


def _line(one: _Series) -> _Drift:
    line = trend(one.values)
    return _Drift(one.what, (one.trial,), line.slope * len(one.values) / abs(mean(one.values)), line.p_value)


def _bend(values: Sequence[float]) -> float:
    """The change from the middle to the ends as a share of the mean, by least squares."""
    n = len(values)
    column = [abs(t - (n - 1) / 2) for t in range(n)]
    centre, middle = mean(values), mean(column)
    spread = sum((one - middle) ** 2 for one in column)
    slope = sum((one - middle) * (value - centre) for one, value in zip(column, values, strict=True)) / spread
    return slope * (n - 1) / 2 / abs(centre)


def _report(what: str, found: Sequence[_Drift]) -> Finding:
    """The mean over windows where it changes, unless single windows change by more than twice as much."""
    means, single = ([drift for drift in found if drift.together is kind] for kind in (True, False))
    kind = means or single
    if means and single and max(abs(one.share) for one in single) > 2 * max(abs(one.share) for one in means):
        kind = single
    worst = max(kind, key=lambda drift: abs(drift.share))
    trials = sorted({trial for drift in kind for trial in drift.trials})
    if worst.together:
        where = f", on average over {len(worst.trials)} windows"
    else:
        where = f" (trial {worst.trials[0]}; {len(trials)} window{' drifts' if len(trials) == 1 else 's drift'})"
    return finding(
        "no_steady_state",
        f"{what} {_said(worst)}{where}",
        what=what,
        shape=worst.shape,
        begin=worst.begin,
        end=worst.end,
        share=worst.share,
        p_value=worst.p_value,
        trials=trials,
    )


def _said(drift: _Drift) -> str:
    if drift.shape == "step":
        return f"changes by {drift.share:+.2%} at {drift.begin:.0%} of a window"
    if drift.shape == "bump":
        return f"differs by {drift.share:+.2%} between {drift.begin:.0%} and {drift.end:.0%} of a window"
    if drift.shape == "bend":
        return f"turns at {drift.begin:.0%} of a window and changes by {drift.share:+.2%} from there"
    return f"changes by {drift.share:+.2%} within a window"
