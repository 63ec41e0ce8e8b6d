"""Energies: which domains the headline covers, net of idle, and every domain by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from llem.results.aggregate import Value, quantity
from llem.results.models import BaselineReading, DomainMetrics, EnergyReading, ErrorBudget, Trial
from llem.results.statistics import mean, mean_interval

__all__ = ["Headline", "domain_metrics", "gross", "headline", "idle_power", "net", "output_energy"]

#: What the headline covers, best first. A sum never mixes measured with modelled.
SCOPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("measured", ("gpu",)),
    ("measured", ("cpu", "dram")),
    ("measured", ("node",)),
    ("modelled", ("gpu",)),
    ("modelled", ("cpu", "dram")),
    ("modelled", ("node",)),
)


@attrs.frozen
class Headline:
    """The (meter, domain) pairs whose energies add up to the headline, and what their sum covers."""

    keys: tuple[tuple[str, str], ...]
    scope: str
    kind: str


def _key(reading: EnergyReading) -> tuple[str, str]:
    return reading.meter, reading.domain


def _distinct(trials: Sequence[Trial]) -> list[EnergyReading]:
    """One reading per meter and domain, in the order in which meters were asked for."""
    seen: dict[tuple[str, str], EnergyReading] = {}
    for trial in trials:
        for reading in trial.energies:
            seen.setdefault(_key(reading), reading)
    return list(seen.values())


def headline(trials: Sequence[Trial]) -> Headline | None:
    """Choose what is reported first; None when no meter read anything.

    Within a scope each domain comes from the first meter that covers it, whether its reading succeeded or not: to
    take another meter's because the first one failed would change the instrument without being asked.
    """
    readings = _distinct(trials)
    for kind, scopes in SCOPES:
        chosen: dict[str, EnergyReading] = {}
        for reading in readings:
            if reading.kind == kind and reading.scope in scopes:
                chosen.setdefault(reading.domain, reading)
        if chosen:
            present = {reading.scope for reading in chosen.values()}
            scope = "+".join(name for name in scopes if name in present)
            return Headline(tuple(_key(reading) for reading in chosen.values()), scope, kind)
    return None


def _reading(readings: Sequence[EnergyReading], key: tuple[str, str]) -> EnergyReading | None:
    return next((reading for reading in readings if _key(reading) == key), None)


def _joules(readings: Sequence[EnergyReading], key: tuple[str, str]) -> Value:
    reading = _reading(readings, key)
    if reading is None:
        return Value(None, reason="meter_failed")
    if reading.energy_j is None:
        return Value(None, reason=reading.reason or "meter_failed")
    return Value(reading.energy_j, reading.budget.bound_j if reading.budget else None)


def _total(values: Sequence[Value]) -> Value:
    """Sum of values and of bounds; the first that is missing makes the sum missing."""
    missing = next((v for v in values if v.value is None), None)
    if missing is not None:
        return missing
    bounds = [v.bound for v in values]
    known = [b for b in bounds if b is not None]
    total = math.fsum(v.value for v in values if v.value is not None)
    return Value(total, math.fsum(known) if len(known) == len(bounds) else None)


def gross(trial: Trial, keys: Sequence[tuple[str, str]]) -> Value:
    """Joules of one trial in these domains together."""
    return _total([_joules(trial.energies, key) for key in keys])


def idle_power(baselines: Sequence[BaselineReading], restart: int, key: tuple[str, str]) -> Value:
    """Watts of one engine process at rest before its trials, in one domain."""
    for baseline in baselines:
        if baseline.restart == restart and baseline.phase == "before":
            energy = _joules(baseline.readings, key)
            if energy.value is not None:
                return energy.scaled(1 / baseline.duration_s)
    return Value(None, reason="no_baseline")


def net(trial: Trial, baselines: Sequence[BaselineReading], keys: Sequence[tuple[str, str]]) -> Value:
    """Gross minus the idle power of the same engine process over the same time. May be negative; never clamped."""
    energy = gross(trial, keys)
    idle = _total([idle_power(baselines, trial.restart, key) for key in keys])
    if energy.value is None or idle.value is None:
        return energy if energy.value is None else idle
    bound = None
    if energy.bound is not None and idle.bound is not None:
        bound = energy.bound + idle.bound * trial.duration_s
    return Value(energy.value - idle.value * trial.duration_s, bound)


def output_energy(trials: Sequence[Trial]) -> list[float] | None:
    """Headline joules per output token, one per trial: what decides whether more trials are needed. None if absent."""
    chosen = headline(trials)
    if chosen is None:
        return None
    found = []
    for trial in trials:
        energy = gross(trial, chosen.keys).value
        if energy is None or trial.output_tokens == 0:
            return None
        found.append(energy / trial.output_tokens)
    return found


def _mean_budget(readings: Sequence[EnergyReading]) -> ErrorBudget | None:
    """Error budget of the mean over trials: edges and gaps as in a typical trial, scatter as seen between trials."""
    budgets = [reading.budget for reading in readings if reading.budget is not None]
    energies = [reading.energy_j for reading in readings if reading.energy_j is not None]
    if not readings or len(budgets) < len(readings) or len(energies) < len(readings):
        return None
    sensors = [budget.sensor_j for budget in budgets if budget.sensor_j is not None]
    return ErrorBudget(
        tick_j=mean([budget.tick_j for budget in budgets]),
        gap_j=mean([budget.gap_j for budget in budgets]),
        repeat_j=mean_interval(energies).half_width if len(energies) > 1 else budgets[0].repeat_j,
        sensor_j=mean(sensors) if len(sensors) == len(budgets) else None,
    )


def _cross(reading: EnergyReading | None) -> Value:
    if reading is None or reading.energy_j is None or not reading.cross_energy_j:
        return Value(None, reason="no_meter")
    return Value(reading.energy_j / reading.cross_energy_j)


def domain_metrics(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> tuple[DomainMetrics, ...]:
    """Every domain by every meter, by itself."""
    found = []
    for first in _distinct(trials):
        key, scope, kind = _key(first), first.scope, first.kind
        readings = [_reading(trial.energies, key) for trial in trials]
        energies = [gross(trial, (key,)) for trial in trials]
        restarts = sorted({trial.restart for trial in trials})
        found.append(
            DomainMetrics(
                meter=first.meter,
                domain=first.domain,
                scope=scope,
                kind=kind,
                instrument=first.instrument,
                energy_j=quantity(energies, "J", scope=scope, kind=kind),
                energy_net_j=quantity([net(t, baselines, (key,)) for t in trials], "J", scope=scope, kind=kind),
                power_w=quantity(
                    [e.scaled(1 / t.duration_s) for e, t in zip(energies, trials, strict=True)],
                    "W",
                    scope=scope,
                    kind=kind,
                ),
                idle_power_w=quantity(
                    [idle_power(baselines, restart, key) for restart in restarts], "W", scope=scope, kind=kind
                ),
                budget=_mean_budget([r for r in readings if r is not None]) if None not in readings else None,
                cross_ratio=quantity([_cross(reading) for reading in readings], ""),
            )
        )
    return tuple(found)
