"""Which experiments are one engine configuration at several loads or with several output lengths, with the draws of
what was measured. Pure."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from llem.analysis.breakeven import LengthCurve
from llem.analysis.capacity import Configuration, MeasuredLoad
from llem.analysis.limits import Limit
from llem.analysis.overview import Overview
from llem.analysis.sides import Side
from llem.metrics.quality import is_score
from llem.metrics.statistics import Z_95
from llem.store.files import digest
from llem.store.models import DomainMetrics, Quantity, Result

__all__ = [
    "RATE",
    "Bounded",
    "Columns",
    "Draws",
    "MeasuredExperiment",
    "configurations_of",
    "idle_of",
    "length_curves",
    "needed_metrics",
]

#: Settings of the length of a measurement and of what is done beside it: they change no engine and no request.
NOT_THE_ENGINE = (
    "preset", "window_s", "trials", "max_trials", "target_half_width", "processes", "warmup", "baseline", "meters",
    "slo", "quality", "gpus", "load",
)  # fmt: skip
OVER_SATURATED = "over_saturated"
#: Metrics of a measured load.
RATE, POWER, ENERGY = "requests_per_s", "power_w", "energy_per_request_j"
#: Characters of a configuration's id.
ID = 16


class Draws(Protocol):
    """Joint posterior draws; see `llem.analysis.posterior.Posterior`."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    def logs(self, metric: str) -> Any:
        """Draws of the logarithm of the true values: (count, len(ids)); NaN where one lacks the metric.

        Raises KeyError where none has it.
        """


#: Draws (count,) of what a limit bounds, of an experiment, in the unit of its bound; None where it has none.
Bounded = Callable[[str, Limit], Any]


def needed_metrics(limits: Sequence[Limit] = ()) -> tuple[str, ...]:
    """Metrics of which `served` needs draws: of trials; scores and shares of requests come from elsewhere."""
    return tuple(dict.fromkeys([RATE, POWER, ENERGY, *(one.metric for one in limits if not is_score(one.metric))]))


@attrs.frozen
class MeasuredExperiment:
    """What is needed of one experiment.

    Attributes:
        engine: all that is fixed but the load, the workload and the length of the measurement.
        way: how requests arrive, but for how many: what an engine does with another way is another curve.
        work: the workload without its seed.
    """

    row: Overview
    result: Result
    gpus: int
    engine: Mapping[str, Any]
    way: Mapping[str, Any]
    work: Mapping[str, Any]

    @classmethod
    def of(cls, row: Overview, result: Result, side: Side) -> MeasuredExperiment:
        engine = {name: one for name, one in result.config.items() if name not in (*NOT_THE_ENGINE, "workload")}
        boards = sorted({",".join(place.names) or str(place.environment) for place in side.places})
        gpus = max((len(place.gpus) for place in side.places), default=0)
        load = result.config.get("load", {})
        way = {name: load[name] for name in ("kind", "burstiness") if name in load}
        basis = None if side.basis is None else str(side.basis)
        return cls(row, result, gpus, {**engine, "boards": boards, "basis": basis}, way, side.work)


def configurations_of(
    experiments: Iterable[MeasuredExperiment],
    draws: Draws,
    limits: Sequence[Limit] = (),
    *,
    bounded: Bounded | None = None,
    values: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Configuration]:
    """Engine configurations, each with the loads that it is measured at, in the order of the experiments.

    Experiments are one configuration where all is equal but the load and the length of the measurement: engine and
    sampling, workload, models of the GPUs, what the energies cover, and the kind of load, since latencies of open and
    closed loads and of batches answer different questions.
    """
    groups: dict[str, list[MeasuredExperiment]] = {}
    for one in experiments:
        groups.setdefault(digest([one.engine, one.way, one.work])[:ID], []).append(one)
    columns = Columns(draws)
    return [_configuration(name, group, columns, limits, bounded, values or {}) for name, group in groups.items()]


def _configuration(
    name: str,
    group: Sequence[MeasuredExperiment],
    columns: Columns,
    limits: Sequence[Limit],
    bounded: Bounded | None,
    values: Mapping[str, Mapping[str, Any]],
) -> Configuration:
    import numpy as np

    limited = {one.row.id: [_limited(one.row.id, limit, columns, bounded) for limit in limits] for one in group}
    for number, limit in enumerate(limits):
        if is_score(limit.metric):  # of the engine, and evaluated once for all its loads
            found = next((each[number] for each in limited.values() if each[number] is not None), None)
            for each in limited.values():
                each[number] = found
    loads = [
        MeasuredLoad(
            one.row.id,
            _rate(one.row, columns),
            columns.of(one.row.id, POWER),
            tuple(limited[one.row.id]),
            OVER_SATURATED in one.row.codes,
        )
        for one in group
    ]
    idle, reason = _idle_draws(name, group, columns.count)
    axes = [values.get(one.row.id, {}) for one in group]
    return Configuration(
        id=name,
        kind=str(group[0].way.get("kind", "offline")),
        loads=tuple(sorted(loads, key=lambda load: (float(np.median(load.rate)), load.id))),
        gpus=max(one.gpus for one in group),
        idle=idle,
        idle_reason=reason,
        basis=group[0].row.basis,
        work=group[0].work,
        values={path: value for path, value in axes[0].items() if all(one.get(path) == value for one in axes)},
    )


def _rate(row: Overview, columns: Columns) -> Any:
    """Draws of the requests per second that a measured load is: of an open load that the engine keeps up with, those
    that arrive, which are known; else those that are completed."""
    import numpy as np

    arriving = row.value("request_rate")
    if arriving is None or OVER_SATURATED in row.codes:
        return columns.of(row.id, RATE)
    return np.full(columns.count, arriving)


def _limited(name: str, limit: Limit, columns: Columns, bounded: Bounded | None) -> Any:
    found = None if bounded is None else bounded(name, limit)
    if found is not None or limit.against or is_score(limit.metric):
        return found
    return columns.of(name, limit.metric)


class Columns:
    """Draws of single experiments."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._places = {name: place for place, name in enumerate(draws.ids)}

    @functools.cached_property
    def count(self) -> int:
        return len(self._draws.logs(RATE))

    def of(self, name: str, metric: str) -> Any:
        """Draws (count,) of the true value; None where it is not measured."""
        import numpy as np

        try:
            logs = self._draws.logs(metric)
        except KeyError:
            return None
        column = logs[:, self._places[name]] if name in self._places else np.array([np.nan])
        return None if np.isnan(column).any() else np.exp(column)


# idle power


def _idle_draws(name: str, group: Sequence[MeasuredExperiment], count: int) -> tuple[Any, str]:
    """Draws (count,) of idle power of a configuration, or None with the code of the reason.

    Its value is the mean over the experiments. Its error is their mean error, since they may share a baseline.
    """
    import numpy as np

    found = [idle_of(one.result) for one in group]
    missing = [one for one in found if isinstance(one, str)]
    known = [one for one in found if not isinstance(one, str)]
    if not known:
        return None, missing[0]
    watts, errors = (float(np.mean(column)) for column in zip(*known, strict=True))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return np.maximum(watts + errors * rng.standard_normal(count), 0.0), ""


def idle_of(result: Result) -> tuple[float, float] | str:
    """Watts at rest with the model loaded, in the domains of the headline, and their standard error; or the code of the
    reason why they are not known.

    The value is gross less net energy over the length of a window. The error is that of the idle power of the domains,
    as a share, taken as one that all of them have alike.
    """
    gross, net, seconds = (result.metrics.get(name) for name in ("energy_j", "energy_net_j", "duration_s"))
    if gross is None or net is None or seconds is None:
        return "no_baseline"
    if gross.value is None or net.value is None or not seconds.value:
        return gross.reason or net.reason or "no_baseline"
    watts = (gross.value - net.value) / seconds.value
    total = halves = 0.0
    for one in (domain.idle_power_w for domain in _of_headline(result.domains, gross)):
        if one.value is not None and one.half_width is not None:
            total += one.value
            halves += one.half_width
    return watts, halves / total / Z_95 * watts if total else 0.0


def _of_headline(domains: Iterable[DomainMetrics], gross: Quantity) -> list[DomainMetrics]:
    """The domains that the headline is the sum of: each by the first meter that covers it."""
    scopes = (gross.scope or "").split("+")
    found: dict[str, DomainMetrics] = {}
    for one in domains:
        if one.scope in scopes and one.kind == gross.kind:
            found.setdefault(one.domain, one)
    return list(found.values())


# output lengths


def length_curves(experiments: Iterable[MeasuredExperiment], draws: Draws) -> list[LengthCurve]:
    """Configurations at one load that are measured with several output lengths and differ in nothing else."""
    import numpy as np

    columns = Columns(draws)
    groups: dict[str, dict[int, MeasuredExperiment]] = {}
    for one in experiments:
        length = one.work.get("output_tokens")
        if isinstance(length, int) and columns.of(one.row.id, ENERGY) is not None:
            groups.setdefault(digest([one.engine, *_at(one)])[:ID], {})[length] = one
    curves = []
    for name, group in groups.items():
        lengths = tuple(sorted(group))
        if len(lengths) > 1:
            ordered = [group[length] for length in lengths]
            energy, rate = (
                np.stack([columns.of(one.row.id, metric) for one in ordered], axis=1) for metric in (ENERGY, RATE)
            )
            first = ordered[0]
            curves.append(LengthCurve(name, digest(_at(first)), lengths, energy, rate, first.gpus, first.row.basis))
    return curves


def _at(one: MeasuredExperiment) -> list[Any]:
    """The load and the workload without its output length."""
    load = {name: value for name, value in one.row.load.items() if name != "seed"}
    return [load, {name: value for name, value in one.work.items() if name != "output_tokens"}]
