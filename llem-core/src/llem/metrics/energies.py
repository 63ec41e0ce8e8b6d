"""Energies of trials: which domains add up to the headline, whatever GPUs a trial ran on, and their joules."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

import attrs

from llem.metrics.quantity import Value, total
from llem.store.models import EnergyReading, Trial

__all__ = [
    "Headline",
    "Key",
    "distinct",
    "expected_readings",
    "gross",
    "headline",
    "headline_of",
    "joules",
    "key_of",
    "output_energy",
    "reading_of",
    "token_energy",
    "token_value",
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


def distinct(trials: Iterable[Trial]) -> list[EnergyReading]:
    """One reading per meter and domain, in the order in which meters were asked for."""
    seen: dict[Key, EnergyReading] = {}
    for trial in trials:
        for reading in trial.energies:
            seen.setdefault(key_of(reading), reading)
    return list(seen.values())


def expected_readings(trials: Sequence[Trial]) -> dict[int, list[EnergyReading]]:
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
    return {trial.process: found for group in alike.values() for found in [distinct(group)] for trial in group}


def headline(trials: Sequence[Trial]) -> Headline | None:
    """Choose what is reported first; None when no meter read anything.

    Within a scope each domain comes from the first meter that covers it, whether its reading succeeded or not: to
    take another meter's because the first one failed would change the instrument without being asked. The domains are
    those of the GPUs that a trial ran on; meters, scopes and the number of GPUs are the same for all trials.
    """
    return _headline(expected_readings(trials))


def headline_of(readings: Sequence[EnergyReading]) -> Headline | None:
    """The same of one set of readings, such as those of an evaluation, as of the only engine process, 0."""
    return _headline({0: list(readings)})


def _headline(expected: Mapping[int, Sequence[EnergyReading]]) -> Headline | None:
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


def reading_of(readings: Sequence[EnergyReading], key: Key) -> EnergyReading | None:
    """The reading of one domain by one meter; None where there is none."""
    return next((reading for reading in readings if key_of(reading) == key), None)


def joules(readings: Sequence[EnergyReading], key: Key) -> Value:
    """Joules of one domain by one meter, with its bound.

    Windows of one instrument may have their edges and gaps off alike, so that part is shared. What the reading's own
    updates scatter differs from window to window. The sensor's calibration stays apart: it is the same for everything
    that is measured on one board.
    """
    reading = reading_of(readings, key)
    if reading is None:
        return Value(None, reason="meter_failed")
    if reading.energy_j is None:
        return Value(None, reason=reading.reason or "meter_failed")
    budget = reading.budget
    if budget is None:
        return Value(reading.energy_j)
    return Value(reading.energy_j, budget.bound_j, shared=budget.tick_j + budget.gap_j)


def gross(trial: Trial, keys: Sequence[Key]) -> Value:
    """Joules of one trial in these domains together."""
    return total([joules(trial.energies, key) for key in keys])


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
    return token_value(trial, chosen).value


def token_value(trial: Trial, chosen: Headline) -> Value:
    """The same with what the instrument may be off by."""
    if trial.output_tokens == 0:
        return Value(None, reason="no_completions")
    return gross(trial, chosen.of(trial)).scaled(1 / trial.output_tokens)
