"""Idle power of engine processes from their baselines, and energy net of it.

Each engine process is measured at rest twice, with its model loaded: before its trials and after them. Idle power is
the mean of the two. Two things may be wrong with it, and both are seen in the difference of the two:

    each baseline's own error   Independent from one to the other: half their difference is the standard error of the
                                mean, with one degree of freedom, so the interval reaches up to 12.7 times as far. Each
                                engine process has its own error, so over several processes the scatter of their means
                                shows it.
    drift                       Idle power during the trials lies anywhere between the two, so the mean may be off by
                                half their difference. In one process the interval above holds that many times over.
                                Over several processes, no scatter shows what all of them drift alike.

The edges of the baselines' windows add what their error budgets say. Where only one baseline was measured, nothing but
its budget tells its error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from llem.metrics.energies import Key, gross, joules, reading_of
from llem.metrics.quantity import Value, total
from llem.metrics.statistics import mean, mean_interval
from llem.store.models import BaselineReading, Trial

__all__ = ["Idle", "idle_power", "nets", "powers", "trusted"]

#: In the order in which they are measured.
PHASES = ("before", "after")


def trusted(baselines: Sequence[BaselineReading], engines: Sequence[Mapping[str, Any]]) -> list[BaselineReading]:
    """Baselines, with None for engine processes whose last baseline failed: their idle power may have changed."""
    failed = {
        engine["process"]
        for engine in engines
        if any(found["code"] == "baseline_failed" for found in engine.get("findings", ()))
    }
    return [_blank(one) if one.process in failed else one for one in baselines]


def _blank(baseline: BaselineReading) -> BaselineReading:
    blank = [attrs.evolve(one, energy_j=None, budget=None, reason="baseline_failed") for one in baseline.readings]
    return attrs.evolve(baseline, readings=tuple(blank))


def powers(baselines: Sequence[BaselineReading], process: int, keys: Sequence[Key]) -> dict[str, Value]:
    """Watts of one engine process at rest, in these domains together, by phase; none without the one before the trials.

    A phase without a baseline is left out.
    """
    found = {
        one.phase: one
        for one in baselines
        if one.process == process and any(reading_of(one.readings, key) for key in keys)
    }
    return {phase: _watts(found[phase], keys) for phase in PHASES if phase in found and "before" in found}


def _watts(baseline: BaselineReading, keys: Sequence[Key]) -> Value:
    if any(reading_of(baseline.readings, key) is None for key in keys):
        return Value(None, reason="no_baseline")
    return total([joules(baseline.readings, key) for key in keys]).scaled(1 / baseline.duration_s)


@attrs.frozen
class Idle:
    """Idle power of one engine process during its trials, in watts.

    Attributes:
        power: the mean of its baselines. `shared` is of their edges, `within` of each baseline's own error. Of a single
            baseline, `shared` is its whole bound.
        drift: watts from the baseline before the trials to the one after; None for a single baseline.
    """

    power: Value
    drift: float | None = None


def _idle(found: Collection[Value]) -> Idle:
    values = [one.value for one in found if one.value is not None]
    if not found or len(values) < len(found):
        missing = next((one for one in found if one.value is None), Value(None, reason="no_baseline"))
        return Idle(missing)
    if len(values) == 1:
        only = next(iter(found))
        return Idle(attrs.evolve(only, shared=only.bound))
    before, after = values
    edges = mean([one.shared or 0.0 for one in found])
    bound = math.hypot(mean_interval(values).half_width, edges)
    return Idle(Value(mean(values), bound, shared=edges, within=abs(after - before) / 2), after - before)


def idle_power(baselines: Sequence[BaselineReading], keys_of: Mapping[int, Sequence[Key]]) -> dict[int, Value]:
    """Watts of each engine process during its trials, in its own domains together, with what is uncertain of them.

    Args:
        keys_of: the domains, by engine process.
    """
    found = {process: _idle(powers(baselines, process, keys).values()) for process, keys in keys_of.items()}
    drifts = [one.drift for one in found.values() if one.drift is not None]
    if len(drifts) < 2:
        return {process: one.power for process, one in found.items()}
    alike = min(map(abs, drifts)) / 2 if min(drifts) > 0 or max(drifts) < 0 else 0.0
    shared = {process: math.hypot(one.power.shared or 0.0, alike) for process, one in found.items()}
    return {process: attrs.evolve(one.power, shared=shared[process]) for process, one in found.items()}


def nets(
    trials: Sequence[Trial], baselines: Sequence[BaselineReading], keys_of: Callable[[Trial], Sequence[Key]]
) -> list[Value]:
    """Of each trial, gross joules less the idle power of its engine process over the same time.

    May be negative; never clamped. `keys_of` gives the domains, which all trials of one process have alike.
    """
    idle = idle_power(baselines, {trial.process: keys_of(trial) for trial in trials})
    return [_less(gross(trial, keys_of(trial)), idle[trial.process].scaled(trial.duration_s)) for trial in trials]


def _less(energy: Value, idle: Value) -> Value:
    """The difference; independent parts of the errors add as the root of the sum of their squares."""
    if energy.value is None or idle.value is None:
        return energy if energy.value is None else idle
    bound = None if energy.bound is None or idle.bound is None else math.hypot(energy.bound, idle.bound)
    shared = math.hypot(energy.shared or 0.0, idle.shared or 0.0)
    return Value(energy.value - idle.value, bound, shared=shared, within=idle.within)
