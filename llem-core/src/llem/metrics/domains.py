"""Every domain by itself, by every meter: its energy, gross and net, its power, and the error budget of their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from llem.metrics.energies import distinct, expected_readings, gross, key_of, reading_of
from llem.metrics.idle import idle_power, nets, powers
from llem.metrics.quantity import Value, possible, quantity
from llem.metrics.statistics import clustered, mean
from llem.store.models import BaselineReading, DomainMetrics, EnergyReading, ErrorBudget, Quantity, Trial

__all__ = ["domain_metrics"]


def domain_metrics(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> tuple[DomainMetrics, ...]:
    """Every domain by every meter, by itself, over the trials that ran where it is: `n` says how many those are."""
    expected = {process: {key_of(one) for one in readings} for process, readings in expected_readings(trials).items()}
    return tuple(
        _domain(first, [trial for trial in trials if key_of(first) in expected[trial.process]], baselines)
        for first in distinct(trials)
    )


def _domain(first: EnergyReading, trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> DomainMetrics:
    key = key_of(first)
    label = {"scope": first.scope, "kind": first.kind}
    processes = [trial.process for trial in trials]
    readings = [reading_of(trial.energies, key) for trial in trials]
    energies = [gross(trial, (key,)) for trial in trials]
    rates = [energy.scaled(1 / trial.duration_s) for energy, trial in zip(energies, trials, strict=True)]
    idle = idle_power(baselines, dict.fromkeys(sorted(set(processes)), (key,)))
    known = [one for one in readings if one is not None]
    budget = _mean_budget(known, processes) if len(known) == len(readings) else None
    return DomainMetrics(
        meter=first.meter,
        domain=first.domain,
        scope=first.scope,
        kind=first.kind,
        instrument=first.instrument,
        energy_j=possible(quantity(energies, "J", processes, **label)),
        energy_net_j=quantity(nets(trials, baselines, lambda _: (key,)), "J", processes, **label),
        power_w=possible(quantity(rates, "W", processes, **label)),
        idle_power_w=_idle_quantity(idle, {process: powers(baselines, process, (key,)) for process in idle}, label),
        budget=None if budget is None else attrs.evolve(budget, baseline_j=_baseline(idle, trials)),
        cross_ratio=possible(quantity([_cross(reading) for reading in readings], "", processes)),
    )


def _idle_quantity(
    idle: Mapping[int, Value], found: Mapping[int, Mapping[str, Value]], label: Mapping[str, str]
) -> Quantity:
    """Mean idle power, over the baselines: those of one engine process are a cluster, as trials are."""
    missing = [one for one in idle.values() if one.value is None]
    if missing or not idle:
        return quantity(missing, "W", None, **label)
    each = [(process, watts) for process, phases in found.items() for watts in phases.values()]
    if len(each) == 1:
        return possible(quantity([watts for _, watts in each], "W", None, **label))
    values = [Value(watts.value, shared=idle[process].shared) for process, watts in each]
    return possible(quantity(values, "W", [process for process, _ in each], **label))


def _baseline(idle: Mapping[int, Value], trials: Sequence[Trial]) -> float | None:
    """What idle power may be off by over a window, in joules: the mean over trials."""
    bounds = [idle[trial.process].scaled(trial.duration_s).bound for trial in trials]
    known = [bound for bound in bounds if bound is not None]
    return mean(known) if known and len(known) == len(bounds) else None


def _mean_budget(readings: Sequence[EnergyReading], processes: Sequence[int]) -> ErrorBudget | None:
    """Error budget of the mean over trials: edges and gaps as in a typical trial, scatter as seen between trials.

    `processes`: of each reading.
    """
    budgets = [reading.budget for reading in readings if reading.budget is not None]
    energies = [reading.energy_j for reading in readings if reading.energy_j is not None]
    if not readings or len(budgets) < len(readings) or len(energies) < len(readings):
        return None
    sensors = [budget.sensor_j for budget in budgets if budget.sensor_j is not None]
    return ErrorBudget(
        tick_j=mean([budget.tick_j for budget in budgets]),
        gap_j=mean([budget.gap_j for budget in budgets]),
        repeat_j=clustered(energies, processes).half_width if len(energies) > 1 else budgets[0].repeat_j,
        sensor_j=mean(sensors) if len(sensors) == len(budgets) else None,
    )


def _cross(reading: EnergyReading | None) -> Value:
    if reading is None or reading.energy_j is None or not reading.cross_energy_j:
        return Value(None, reason="no_meter")
    return Value(reading.energy_j / reading.cross_energy_j)
