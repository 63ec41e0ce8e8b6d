"""The class of a metric, one row of the catalogue; and everything from which values are computed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from llem.metrics.energies import Headline, gross, headline
from llem.metrics.flow import Flow, edge_factor, flow_of
from llem.metrics.idle import trusted
from llem.metrics.quantity import Value, absent, exact, possible, quantity
from llem.metrics.setup import Setup, setup_of
from llem.metrics.work import Work, serving_work, window_work
from llem.store.models import BaselineReading, Quantity, RequestRow, Trial

if TYPE_CHECKING:
    from llem.store.store import Store

__all__ = [
    "Basis",
    "Direction",
    "Measured",
    "Metric",
    "Place",
    "alike",
    "mean_over_trials",
]

T = TypeVar("T")
Direction = Literal["lower", "higher"]
#: Where a metric is shown by default: a row of one result or of its table of latencies, a column of a study's table, of
#: a comparison, of the effects of an axis, or of a latency-energy curve.
Place = Literal["result", "latencies", "study", "compare", "effects", "curve", "commands"]


@attrs.frozen
class Basis:
    """What an energy covers, and whether it is "measured" or "modelled". Energies of two bases are never compared."""

    scope: str
    kind: str

    def __str__(self) -> str:
        return f"{self.scope}, {self.kind}"


@attrs.frozen(eq=False)
class Measured:
    """Everything of one experiment from which metrics are computed.

    Attributes:
        requests: gives the rows of a trial by its index. Called only if a metric needs them, because they are large.
    """

    setup: Setup
    trials: Sequence[Trial]
    baselines: Sequence[BaselineReading] = ()
    requests: Callable[[int], Sequence[RequestRow]] = lambda _: ()
    _kept: dict[Any, Any] = attrs.field(factory=dict, init=False, repr=False)

    @classmethod
    def read(cls, store: Store, experiment_id: str, engines: Sequence[Mapping[str, Any]] | None = None) -> Measured:
        """What is stored of one experiment; its request rows are read when they are asked for.

        Args:
            engines: its engine documents, where they are at hand.
        """
        if engines is None:
            engines = store.engines(experiment_id)
        setup = setup_of(store.read_experiment(experiment_id), engines)
        baselines = trusted(store.baselines(experiment_id), engines)
        return cls(setup, store.trials(experiment_id), baselines, lambda index: store.requests(experiment_id, index))

    @cached_property
    def rows(self) -> list[Sequence[RequestRow]]:
        """Requests of each trial."""
        return [self.requests(trial.index) for trial in self.trials]

    @property
    def processes(self) -> list[int]:
        """The engine process of each trial."""
        return [trial.process for trial in self.trials]

    @property
    def served(self) -> bool:
        """Whether the trials are of a serving load."""
        return any(trial.serving is not None for trial in self.trials)

    @property
    def unserved(self) -> str | None:
        """Why there is nothing of a serving load; None where there is."""
        return None if self.served else "no_trials" if self.setup.serving else "offline_load"

    @property
    def uncounted(self) -> str | None:
        """Why nothing is known of requests and tokens: a command ran, and told of none. None where they are known."""
        untold = self.setup.metered and any(trial.serving is None for trial in self.trials)
        return "no_request_file" if untold else None

    @cached_property
    def flows(self) -> list[Flow | None]:
        """Requests of each trial as columns; None for an offline one."""
        return [
            None if trial.serving is None else flow_of(trial, rows)
            for trial, rows in zip(self.trials, self.rows, strict=True)
        ]

    @cached_property
    def edges(self) -> list[float]:
        """What a count of requests is multiplied by, for those that each window's edges cut (see `edge_factor`)."""
        told = all(trial.serving is None or trial.serving.failed_output_tokens is not None for trial in self.trials)
        flows: Sequence[Flow | None] = [None] * len(self.trials) if told else self.flows
        return [edge_factor(trial, flow) for trial, flow in zip(self.trials, flows, strict=True)]

    @property
    def whole_requests(self) -> list[float]:
        """Requests that each window's work amounts to; 0 where none ended within it, so that their size is unknown."""
        return [trial.requests * edge for trial, edge in zip(self.trials, self.edges, strict=True)]

    @cached_property
    def works(self) -> list[Work | None]:
        """What each window had to compute; None where the model is not known, or nothing was done."""
        known = self.setup.architecture
        if known is None:
            return [None] * len(self.trials)
        return [
            window_work(known, rows) if flow is None else serving_work(known, flow)
            for rows, flow in zip(self.rows, self.flows, strict=True)
        ]

    @cached_property
    def headline(self) -> Headline | None:
        """The domains that energies are of; None without a meter."""
        return headline(self.trials)

    @property
    def basis(self) -> Basis | None:
        """What the energies cover; None without a meter."""
        return None if self.headline is None else Basis(self.headline.scope, self.headline.kind)

    @cached_property
    def gross(self) -> list[Value]:
        """Headline joules of each trial."""
        chosen = self.headline
        if chosen is None:
            return [Value(None, reason="no_meter") for _ in self.trials]
        return [gross(trial, chosen.of(trial)) for trial in self.trials]

    def once(self, make: Callable[[Measured], T]) -> T:
        """`make(self)`, computed the first time and kept: for what several metrics share."""
        if make not in self._kept:
            self._kept[make] = make(self)
        found: T = self._kept[make]
        return found


def mean_over_trials(measured: Measured, metric: Metric) -> Quantity:
    """The mean with its Student-t interval."""
    return quantity(metric.each(measured), metric.unit, measured.processes, **metric.labels(measured))


def alike(measured: Measured, metric: Metric) -> Quantity:
    """Exact where all trials agree, for then it follows from what was asked; else the mean."""
    values = {value.value for value in metric.each(measured)}
    only = values.pop() if len(values) == 1 else None
    return mean_over_trials(measured, metric) if only is None else exact(only, metric.unit, len(measured.trials))


@attrs.frozen
class Metric:
    """One row of the catalogue, the only definition of a metric.

    Attributes:
        name: name in results; it ends with the unit.
        unit: unit of the Quantity; "" for a share.
        label: name for people, without the unit.
        direction: which way is better; None if neither is.
        group: a key of `llem.metrics.catalogue.GROUPS`.
        doc: one paragraph: what the metric is, of which requests or tokens, by which rule.
        each: one value per trial, in order; empty for a metric that single trials do not have.
        over: computes one quantity from all trials.
        lacks: why the experiment has no value, as a code of `llem.findings.REASONS`; None if it may have one.
            A row of the group "serving" is computed for serving loads alone.
        scoped: whether the metric is an energy or a power, with scope and kind.
        shown: where the metric is shown by default.
        heading: heading of its column in a table; if empty, `label`. It has the unit, but of times and sizes, which
            are shown in a unit that fits.
        part: of a latency: the family's label, and "mean" or the percentile.
        since: first schema version whose results have the metric, with its value by the present rule.
        of_window: it needs no request, so a metered command has it too.
        least, most: what it can be; None where there is no such limit.
    """

    name: str
    unit: str
    label: str
    direction: Direction | None
    group: str
    doc: str
    each: Callable[[Measured], Sequence[Value]] = lambda _: ()
    over: Callable[[Measured, Metric], Quantity] = mean_over_trials
    lacks: Callable[[Measured], str | None] = lambda _: None
    scoped: bool = False
    shown: tuple[Place, ...] = ()
    heading: str = ""
    part: tuple[str, str] = ("", "")
    since: int = 2
    of_window: bool = False
    least: float | None = 0.0
    most: float | None = None

    def of(self, measured: Measured) -> Quantity:
        """The metric of one experiment, with its interval or the reason why there is none."""
        reason = self._lacks(measured)
        if reason is not None:
            return absent(self.unit, reason)
        return possible(self.over(measured, self), self.least, self.most)

    def per_trial(self, measured: Measured) -> list[float] | None:
        """One value per trial; None where a trial has none, or trials do not have it by themselves."""
        if self._lacks(measured) is not None:
            return None
        values = [value.value for value in self.each(measured)]
        known = [value for value in values if value is not None]
        return known if known and len(known) == len(values) else None

    def _lacks(self, measured: Measured) -> str | None:
        if not self.of_window and measured.uncounted is not None:
            return measured.uncounted
        return (measured.unserved if self.group == "serving" else None) or self.lacks(measured)

    def labels(self, measured: Measured) -> dict[str, str]:
        """`scope` and `kind`, of an energy."""
        basis = measured.basis if self.scoped else None
        return {} if basis is None else attrs.asdict(basis)

    @property
    def says_unit(self) -> bool:
        """Whether its heading has its unit, so that a cell need not say one."""
        return bool(self.heading) and self.unit not in ("s", "B")

    @property
    def lower_is_better(self) -> bool:
        return self.direction == "lower"
