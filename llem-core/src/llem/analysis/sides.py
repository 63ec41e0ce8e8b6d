"""What a comparison needs of one experiment: each trial's value, its engine process, its time and its place. Pure but
for the reading."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from llem.analysis.prices import Prices, gpus_of, require_prices
from llem.config.load import ECHO
from llem.findings import REASONS
from llem.metrics.catalogue import PRICED, metric_of, shown
from llem.metrics.metric import Basis, Measured
from llem.metrics.result import Place, place_of
from llem.metrics.statistics import mean
from llem.store.models import Trial
from llem.store.store import Store

__all__ = [
    "NOT_ABOVE_ZERO",
    "ProcessMean",
    "Run",
    "Side",
    "is_fake",
    "is_shuffled",
    "machine_of",
    "read_side",
    "side_of",
    "trial_values",
    "workers_of",
]


#: Orders of a study in which engine processes come at random; see `llem.study.plan.schedule`.
SHUFFLED = ("blocks", "williams")


def is_fake(backend: str | None) -> bool:
    """Whether a backend only plays at inference, so that its figures mean nothing and are never ranked."""
    return backend == ECHO


@attrs.frozen
class Run:
    """One trial without its values.

    Attributes:
        process: number of the engine process within the experiment.
        worker: number of the worker. Experiments of one store with the same one share an engine process. None: unknown.
        started_at: UTC, in whole seconds. It orders trials of two processes.
        t0_ns, t1_ns: the window on the monotonic clock. It orders trials of one process.
        block: number of the turn in which every experiment of the engine process gets one trial; None: unknown.
    """

    process: int
    worker: int | None
    started_at: str
    t0_ns: int
    t1_ns: int
    block: int | None = None

    @property
    def time(self) -> tuple[str, int]:
        """What trials of two processes are ordered by."""
        return self.started_at, self.t0_ns


@attrs.frozen
class ProcessMean:
    """Mean logarithm over the trials of one engine process, and when its first and its last trial began."""

    process: int
    mean: float
    trials: int
    first: tuple[str, int]
    last: tuple[str, int]


@attrs.frozen
class Side:
    """What a comparison needs of one experiment.

    Attributes:
        values: of each metric that it has, one per trial, above 0.
        lacking: metrics that were asked for and are not among these, with why.
        basis: what its energies cover; None without a meter.
        places: where its engine processes ran: on which GPUs, or without any on which machine.
        work: the workload of its configuration, without the seed.
        shuffled: whether its study ran the engine processes in random order, so that no pair of experiments lies far
            apart by design.
        prices: that its costs and emissions are computed with.
    """

    runs: tuple[Run, ...]
    values: Mapping[str, Sequence[float]]
    basis: Basis | None = None
    places: frozenset[Place] = frozenset()
    backend: str | None = None
    work: Mapping[str, Any] = attrs.field(factory=dict)
    lacking: Mapping[str, str] = attrs.field(factory=dict)
    shuffled: bool = False
    prices: Prices | None = None

    @functools.cached_property
    def span(self) -> tuple[float, float]:
        """When its first trial began and its last one ended, in seconds since 1970."""
        began = [datetime.fromisoformat(run.started_at).timestamp() for run in self.runs]
        lasted = [(run.t1_ns - run.t0_ns) / 1e9 for run in self.runs]
        return min(began), max(start + length for start, length in zip(began, lasted, strict=True))

    @property
    def fake(self) -> bool:
        return is_fake(self.backend)

    def basis_of(self, metric: str) -> Basis | None:
        """What a metric covers, of energies and of what is computed from them; else None."""
        if metric in PRICED and not (self.prices and self.prices.counts_energy(metric)):
            return None
        return self.basis if metric_of(metric).scoped else None

    def unit_of(self, metric: str) -> str:
        """A metric's unit; of a cost, the currency."""
        return (self.prices.metric(metric) if self.prices else metric_of(metric)).unit

    @property
    def workers(self) -> frozenset[int]:
        """The engine processes that it may share with others."""
        return frozenset(run.worker for run in self.runs if run.worker is not None)

    def logs(self, metric: str) -> list[float]:
        """Natural logarithms of the metric, one per trial."""
        return [math.log(value) for value in self.values[metric]]

    def process_means(self, metric: str) -> list[ProcessMean]:
        """One for each engine process, by its number."""
        found: dict[int, list[tuple[Run, float]]] = {}
        for run, value in zip(self.runs, self.logs(metric), strict=True):
            found.setdefault(run.process, []).append((run, value))
        return [_process_mean(process, found[process]) for process in sorted(found)]


def _process_mean(process: int, trials: Sequence[tuple[Run, float]]) -> ProcessMean:
    times = [run.time for run, _ in trials]
    return ProcessMean(process, mean([value for _, value in trials]), len(trials), min(times), max(times))


def trial_values(measured: Measured, metric: str) -> list[float] | None:
    """One value of `metric` per trial; None where a trial has none or it is not above 0 (logarithms are taken)."""
    values = metric_of(metric).per_trial(measured)
    return values if values and min(values) > 0 else None


#: Why a metric that all trials have has no ratio.
NOT_ABOVE_ZERO = "it is not above 0 in every trial"


def _why(measured: Measured, metric: str) -> str:
    """Why `trial_values` has none."""
    return NOT_ABOVE_ZERO if metric_of(metric).per_trial(measured) else "not every trial has it"


def side_of(
    measured: Measured,
    metrics: Sequence[str] | None = None,
    engines: Sequence[Mapping[str, Any]] = (),
    machines: Mapping[str, str] | None = None,
    prices: Prices | None = None,
) -> Side:
    """One side of a comparison.

    Args:
        metrics: None takes the metrics that are compared by default.
        engines: engine-<process>.json of every engine process. Without one, a process shares its engine with no other
            experiment.
        machines: by the hash of a stored environment, its machine in words (see `machine_of`). A hash that is not there
            stands for itself.
        prices: for metrics of cost and carbon.

    Raises StoreError: a metric of cost or carbon, and no prices for it (no_prices).
    """
    rows = (*shown("compare"), *(prices.shown("compare") if prices else ()))
    names = [metric.name for metric in rows] if metrics is None else metrics
    if prices is None:
        require_prices(names, None)
    usual = [name for name in names if name not in PRICED]
    found = {name: trial_values(measured, name) for name in usual}
    lacking = {name: _why(measured, name) for name, one in found.items() if one is None}
    values = {name: one for name, one in found.items() if one is not None}
    if prices is not None and len(usual) < len(names):
        _add_priced([name for name in names if name in PRICED], prices, measured, engines, values, lacking)
    workers = {engine["process"]: engine.get("worker") for engine in engines}
    measuring = {trial.process for trial in measured.trials}
    config = measured.setup.config
    processes = measured.setup.processes if "processes" in config else None
    return Side(
        runs=tuple(_run(trial, workers.get(trial.process), processes) for trial in measured.trials),
        values={name: values[name] for name in names if name in values},
        basis=measured.basis,
        places=frozenset(_place(engine, machines or {}) for engine in engines if engine["process"] in measuring),
        backend=config.get("backend"),
        work={name: value for name, value in config.get("workload", {}).items() if name != "seed"},
        lacking=lacking,
        prices=prices,
    )


def _add_priced(
    names: Sequence[str],
    prices: Prices,
    measured: Measured,
    engines: Sequence[Mapping[str, Any]],
    values: dict[str, list[float]],
    lacking: dict[str, str],
) -> None:
    """Metrics of cost and carbon to the values, or why they are none to what is lacking."""
    boards = {engine["process"]: gpus_of(engine) for engine in engines}
    gpus = [boards.get(trial.process) for trial in measured.trials]
    for name in names:
        found = prices.per_trial(name, measured, gpus)
        if isinstance(found, str):
            lacking[name] = REASONS.get(found, found).rstrip(".")
        elif min(found) > 0:
            values[name] = found
        else:
            lacking[name] = NOT_ABOVE_ZERO


def _run(trial: Trial, worker: int | None, processes: int | None) -> Run:
    """Block k of process p has the trial k x processes + p (see `llem.study.plan.schedule`)."""
    block = None if processes is None else trial.index // processes
    return Run(trial.process, worker, trial.started_at, trial.t0_ns, trial.t1_ns, block)


def _place(engine: Mapping[str, Any], machines: Mapping[str, str]) -> Place:
    """Without GPUs it is the machine, whatever software ran there: another backend has another environment."""
    place = place_of(engine)
    return attrs.evolve(place, environment=machines.get(place.environment, place.environment))


def machine_of(environment: Mapping[str, Any]) -> str:
    """The machine of environments/<hash>.json: processor, threads, memory and system, and its name where it is stored.

    Memory is to the GiB, because a kernel keeps more or less of it.
    """
    host = environment["host"]
    gib = float(host["memory_bytes"]) / 2**30
    cpu = host.get("cpu") or "an unknown processor"
    parts = (cpu, f"{host.get('threads')} threads", f"{gib:.0f} GiB", host.get("system"), host.get("hostname"))
    return ", ".join(str(part) for part in parts if part)


def read_side(
    store: Store,
    experiment_id: str,
    metrics: Sequence[str] | None = None,
    prices: Prices | None = None,
    *,
    shuffled: bool | None = None,
) -> Side:
    """The side of a stored experiment. Raises StoreError as `side_of`.

    Args:
        shuffled: as of a Side; None reads it from the study.
    """
    engines = store.engines(experiment_id)
    measured = Measured.read(store, experiment_id, engines)
    side = side_of(measured, metrics, engines, _machines(store, engines), prices)
    return attrs.evolve(side, shuffled=is_shuffled(store.study()) if shuffled is None else shuffled)


def is_shuffled(study: Mapping[str, Any]) -> bool:
    """Whether a study, by its document, ran its engine processes in random order."""
    return (study.get("order") or {}).get("kind") in SHUFFLED


def workers_of(store: Store, name: str) -> frozenset[int]:
    """Numbers of the workers that measured an experiment; empty where they are not known."""
    found = (engine.get("worker") for engine in store.engines(name))
    return frozenset(worker for worker in found if worker is not None)


def _machines(store: Store, engines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The machines of those that have no GPU, by environment; of damaged or missing documents nothing is known."""
    names = {place.environment for place in map(place_of, engines) if not place.gpus and place.environment}
    there = [name for name in names if (store.path / "environments" / f"{name}.json").exists()]
    return {name: machine_of(store.read_environment(name)) for name in there}
