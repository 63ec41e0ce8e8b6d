"""The power of an experiment over time, with the window marked: series of watts, and their plot for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from llem.meters.trace import TraceRow, series
from llem.metrics.energies import headline
from llem.reports.axis import axis_of
from llem.reports.figures import plain, screen
from llem.reports.plot import canvas_for
from llem.store.models import EnergyReading, Trial
from llem.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PowerSeries", "power_of", "render_power"]

#: Lines of a plot; there may be one for each GPU.
HEIGHT = 12
#: So many domains are drawn.
MOST = 4


@attrs.frozen
class PowerSeries:
    """Power in one domain by one meter.

    Attributes:
        counter: whether it is the mean power between the ticks of a counter; else it is readings of power.
        points: seconds from the window's beginning (of a counter the two ticks) and watts.
    """

    meter: str
    domain: str
    kind: str
    counter: bool
    points: tuple[tuple[float, float, float], ...]


def power_of(trial: Trial, rows: Sequence[TraceRow]) -> list[PowerSeries]:
    """The power behind each energy of a trial that was counted or sampled, those of the headline first.

    Args:
        rows: the trial's trace.
    """
    chosen = headline([trial])
    first = () if chosen is None else chosen.of(trial)
    found = []
    for one in sorted(trial.energies, key=lambda one: (one.meter, one.domain) not in first):
        counts = series(rows, one.meter, one.domain, "counter_j")
        read = counts or series(rows, one.meter, one.domain, "power_w")
        if points := tuple(_steps(trial, counts) if counts else _samples(trial, read)):
            found.append(PowerSeries(one.meter, one.domain, one.kind, bool(counts), points))
    return found


def _seconds(trial: Trial, row: TraceRow) -> float:
    """When the value became the current one: the middle of the span in which it did."""
    return ((row.t_from_ns + row.t_ns) / 2 - trial.t0_ns) / 1e9


def _steps(trial: Trial, rows: Sequence[TraceRow]) -> Iterator[tuple[float, float, float]]:
    for before, row in itertools.pairwise(rows):
        since, until = _seconds(trial, before), _seconds(trial, row)
        if until > since:
            yield since, until, (row.value - before.value) / (until - since)


def _samples(trial: Trial, rows: Sequence[TraceRow]) -> Iterator[tuple[float, float, float]]:
    for row in rows:
        at = _seconds(trial, row)
        yield at, at, row.value


def render_power(store: Store, experiment: str, console: Console | None = None) -> None:
    """Print the power of the first trial whose trace has any; or why there is nothing to draw."""
    out, trials = screen(console), store.trials(experiment)
    for trial in trials:
        if found := power_of(trial, store.trace(experiment, trial.index)):
            for one in found[:MOST]:
                _plot(one, trial, out)
            if (more := len(found) - MOST) > 0:
                out.print(plain(f"{more:,} more domains are not drawn"), style="dim")
            return
    why = _why([one for trial in trials for one in trial.energies]) if trials else "no trial ended"
    out.print(plain(f"nothing to draw: {why}"))


def _why(energies: Sequence[EnergyReading]) -> str:
    if not energies:
        return "no meter measured power here; `llem doctor` says which could"
    meters = ", ".join(sorted({one.meter for one in energies}))
    return f"{meters} gives the energy of a whole window, and no power over time"


def _plot(one: PowerSeries, trial: Trial, out: Console) -> None:
    spans = [(watts, None, None) for _, _, watts in one.points]
    times = [(at, None, None) for since, until, _ in one.points for at in (since, until)]
    x = axis_of("seconds from the beginning of the window", "", times, (0.0, trial.duration_s))
    y = axis_of("W", "", spans, (0.0,))
    canvas = canvas_for(x, y, out, height=HEIGHT)
    for edge in (0.0, trial.duration_s):
        canvas.upright(edge, "green")
    fine = 2 * canvas.width
    step = (x.high - x.low) / fine
    for since, until, watts in one.points:
        for number in range(int((until - since) / step) + 1):
            canvas.dot(since + number * step, watts, "cyan")
    how = "mean between the counter's ticks" if one.counter else "readings"
    out.print(plain(f"trial {trial.index} · {one.domain[:16]} · {one.meter} ({one.kind}), {how}"), style="bold")
    out.print(canvas.text(), no_wrap=True, crop=False, overflow="ignore")
    inside = [watts for since, until, watts in one.points if since >= 0 and until <= trial.duration_s]
    middle = f"; between them {min(inside):,.0f} to {max(inside):,.0f} W" if inside else ""
    out.print(plain(f"{canvas.sign('limit_x')} edges of the window, {trial.duration_s:.2f} s{middle}"), style="dim")
    out.print()
