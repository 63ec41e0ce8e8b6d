"""Energies: the domains of the headline, whatever GPUs a trial ran on; energy net of idle; and every domain by itself,
with the error budget of its mean."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.metrics.quantity import Value, quantity
from llem.metrics.statistics import mean, mean_interval, relative_half_width
from llem.store.models import BaselineReading, DomainMetrics, EnergyReading, ErrorBudget, Trial

__all__ = [
    "Headline",
    "Key",
    "Precision",
    "domain_metrics",
    "gross",
    "headline",
    "idle_power",
    "is_narrow",
    "key_of",
    "net",
    "output_energy",
    "precision",
    "token_energy",
    "trusted",
]

#: What the headline covers, best first. A sum never mixes measured with modelled.
SCOPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("measured", ("gpu",)),
    ("measured", ("cpu", "dram")),
    ("measured", ("node",)),
    ("modelled", ("gpu",)),
    ("modelled", ("cpu", "dram")),
    ("modelled", ("node",)),
)

#: A meter and one of its domains.
Key = tuple[str, str]


@attrs.frozen
class Headline:
    """What adds up to the headline: (meter, domain) pairs of each engine process, and what their sum covers.

    Attributes:
        keys: by engine process, since each may have had other GPUs; none for a process that read other domains.
    """

    keys: Mapping[int, tuple[Key, ...]]
    scope: str
    kind: str

    def of(self, trial: Trial) -> tuple[Key, ...]:
        """The domains of one trial."""
        return self.keys.get(trial.process, ())


def key_of(reading: EnergyReading) -> Key:
    """What tells a reading from the others of its trial."""
    return reading.meter, reading.domain


def _distinct(trials: Iterable[Trial]) -> list[EnergyReading]:
    """One reading per meter and domain, in the order in which meters were asked for."""
    seen: dict[Key, EnergyReading] = {}
    for trial in trials:
        for reading in trial.energies:
            seen.setdefault(key_of(reading), reading)
    return list(seen.values())


def _expected_readings(trials: Sequence[Trial]) -> dict[int, list[EnergyReading]]:
    """One reading of every domain that each engine process should have read in each of its trials.

    An engine process stays on its GPUs, so each of its trials should have every domain that any of its trials has. The
    same holds for another process on the same GPUs. Without a GPU, two processes may have run on different machines.
    """
    boards: dict[int, set[str]] = {}
    for trial in trials:
        seen = {reading.domain for reading in trial.energies if reading.scope == "gpu"}
        boards.setdefault(trial.process, set()).update(seen, trial.health)
    alike: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        alike.setdefault(frozenset(boards[trial.process]) or trial.process, []).append(trial)
    return {trial.process: found for group in alike.values() for found in [_distinct(group)] for trial in group}


def headline(trials: Sequence[Trial]) -> Headline | None:
    """Choose what is reported first; None when no meter read anything.

    Within a scope each domain comes from the first meter that covers it, whether its reading succeeded or not: to
    take another meter's because the first one failed would change the instrument without being asked. The domains are
    those of the GPUs that a trial ran on; meters, scopes and the number of GPUs are the same for all trials.
    """
    expected = _expected_readings(trials)
    for kind, scopes in SCOPES:
        chosen = {process: _choice(readings, kind, scopes) for process, readings in expected.items()}
        coverage = {process: _coverage(readings) for process, readings in chosen.items()}
        whole = functools.reduce(operator.or_, coverage.values(), Counter[Key]())
        if whole:
            present = {scope for _, scope in whole}
            keys = {
                process: tuple(key_of(reading) for reading in readings) if coverage[process] == whole else ()
                for process, readings in chosen.items()
            }
            return Headline(keys, "+".join(name for name in scopes if name in present), kind)
    return None


def _choice(readings: Sequence[EnergyReading], kind: str, scopes: Collection[str]) -> list[EnergyReading]:
    found: dict[str, EnergyReading] = {}
    for reading in readings:
        if reading.kind == kind and reading.scope in scopes:
            found.setdefault(reading.domain, reading)
    return list(found.values())


def _coverage(readings: Sequence[EnergyReading]) -> Counter[Key]:
    """How many domains of each meter and scope. Of GPUs an experiment has one number; of sockets a machine has its."""
    counts = Counter((reading.meter, reading.scope) for reading in readings)
    return Counter({pair: count if pair[1] == "gpu" else 1 for pair, count in counts.items()})


def _reading_of(readings: Sequence[EnergyReading], key: Key) -> EnergyReading | None:
    """The reading of one domain by one meter; None where there is none."""
    return next((reading for reading in readings if key_of(reading) == key), None)


def _joules(readings: Sequence[EnergyReading], key: Key) -> Value:
    reading = _reading_of(readings, key)
    if reading is None:
        return Value(None, reason="meter_failed")
    if reading.energy_j is None:
        return Value(None, reason=reading.reason or "meter_failed")
    return Value(reading.energy_j, reading.budget.bound_j if reading.budget else None)


def _total(values: Sequence[Value]) -> Value:
    """Sum of values and of bounds; the first that is missing makes the sum missing, and so does none at all."""
    missing = next((v for v in values if v.value is None), None)
    if missing is not None:
        return missing
    if not values:
        return Value(None, reason="no_meter")
    bounds = [v.bound for v in values]
    known = [b for b in bounds if b is not None]
    total = math.fsum(v.value for v in values if v.value is not None)
    return Value(total, math.fsum(known) if len(known) == len(bounds) else None)


def gross(trial: Trial, keys: Sequence[Key]) -> Value:
    """Joules of one trial in these domains together."""
    return _total([_joules(trial.energies, key) for key in keys])


def idle_power(baselines: Sequence[BaselineReading], process: int, key: Key) -> Value:
    """Watts of one engine process at rest before its trials, in one domain."""
    for baseline in baselines:
        if baseline.process == process and baseline.phase == "before" and _reading_of(baseline.readings, key):
            return _joules(baseline.readings, key).scaled(1 / baseline.duration_s)
    return Value(None, reason="no_baseline")


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


def net(trial: Trial, baselines: Sequence[BaselineReading], keys: Sequence[Key]) -> Value:
    """Gross minus the idle power of the same engine process over the same time. May be negative; never clamped."""
    energy = gross(trial, keys)
    idle = _total([idle_power(baselines, trial.process, key) for key in keys])
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
    found = [token_energy(trial, chosen) for trial in trials]
    known = [energy for energy in found if energy is not None]
    return known if len(known) == len(found) else None


def token_energy(trial: Trial, chosen: Headline) -> float | None:
    """Headline joules per output token of one trial."""
    energy = gross(trial, chosen.of(trial)).value
    return None if energy is None or trial.output_tokens == 0 else energy / trial.output_tokens


def domain_metrics(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> tuple[DomainMetrics, ...]:
    """Every domain by every meter, by itself, over the trials that ran where it is: `n` says how many those are."""
    expected = {process: {key_of(one) for one in readings} for process, readings in _expected_readings(trials).items()}
    return tuple(
        _domain(first, [trial for trial in trials if key_of(first) in expected[trial.process]], baselines)
        for first in _distinct(trials)
    )


def _domain(first: EnergyReading, trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> DomainMetrics:
    key = key_of(first)
    label = {"scope": first.scope, "kind": first.kind}
    processes = [trial.process for trial in trials]
    readings = [_reading_of(trial.energies, key) for trial in trials]
    energies = [gross(trial, (key,)) for trial in trials]
    powers = [energy.scaled(1 / trial.duration_s) for energy, trial in zip(energies, trials, strict=True)]
    idle = [idle_power(baselines, process, key) for process in sorted({trial.process for trial in trials})]
    return DomainMetrics(
        meter=first.meter,
        domain=first.domain,
        scope=first.scope,
        kind=first.kind,
        instrument=first.instrument,
        energy_j=quantity(energies, "J", processes, **label),
        energy_net_j=quantity([net(trial, baselines, (key,)) for trial in trials], "J", processes, **label),
        power_w=quantity(powers, "W", processes, **label),
        idle_power_w=quantity(idle, "W", None, **label),
        budget=_mean_budget([one for one in readings if one is not None]) if None not in readings else None,
        cross_ratio=quantity([_cross(reading) for reading in readings], "", processes),
    )


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


@attrs.frozen
class Precision:
    """Half of the 95 % interval over its mean, of the quantity that is `of`; None for fewer than two trials."""

    of: str
    half_width: float | None


def precision(trials: Sequence[Trial]) -> Precision:
    """Of energy per output token, or of output tokens per second where no energy is read."""
    if energies := output_energy(trials):
        return Precision("energy per output token", relative_half_width(energies))
    rates = [trial.output_tokens / trial.duration_s for trial in trials]
    return Precision("output tokens per second", relative_half_width(rates))


def is_narrow(trials: Sequence[Trial], target: float) -> bool:
    """Whether the interval is at most ± `target`, so that no further trial is needed."""
    width = precision(trials).half_width
    return width is not None and width <= target
