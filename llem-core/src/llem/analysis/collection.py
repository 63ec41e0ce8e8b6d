"""What can be asked of the results of a folder together."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.compare import Compared, compare
from llem.analysis.effects import Effect, effects_of, find_axis
from llem.analysis.frame import columns, pandas_frame, polars_frame
from llem.analysis.pairs import PairEffect, pair_effects
from llem.analysis.prices import Prices, require_prices
from llem.analysis.quality import against_reference
from llem.analysis.quality_difference import QualityDifference
from llem.analysis.ranking import Best, best_of
from llem.analysis.reference import ReferenceRuns, reference_of
from llem.analysis.sides import workers_of
from llem.analysis.stored import Stored
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better, shown
from llem.metrics.quality import family_of, is_score
from llem.store.models import Result
from llem.store.store import Store

if TYPE_CHECKING:
    from llem.analysis.decision import Recommendation

__all__ = ["Front", "Results"]


class Results(Stored):
    """Stored results by experiment id, and what can be asked of all together."""

    def columns(self, *, everything: bool = False) -> dict[str, list[Any]]:
        """As `frame`, as lists by name of the column: needs no table library."""
        study = self.study
        return columns(self.overviews(), _points(study), _axes(study), everything=everything, prices=self.prices)

    def frame(self, *, everything: bool = False) -> Any:
        """A `polars.DataFrame`, one row per experiment: `id`, the axes, `outcome`, `trials`, `valid`, `publishable`,
        `findings` (codes), `error`, `backend`, `model`, `dtype`, and for each metric its value, `_low`, `_high`, `_n`,
        `_processes`, `_covers` and `_reason`; of energies `_scope` and `_kind`; with prices, these. Columns that are
        empty are left out; `everything` keeps them (see `llem.analysis.frame.columns`).

        Raises MachineError (requirement_missing) without polars: `pip install 'llem-core[frames]'`.
        """
        return polars_frame(self.columns(everything=everything))

    def to_pandas(self, *, everything: bool = False) -> Any:
        """The same as a `pandas.DataFrame`."""
        return pandas_frame(self.columns(everything=everything))

    def reference(self) -> ReferenceRuns | None:
        """How much the engine processes of the study's reference differ, and whether they drift; None without one."""
        return reference_of(self._store)

    def compare(self, a: str, b: str, metrics: Sequence[str] | None = None) -> Compared:
        """Experiment `b` over `a` from their trials, metric by metric; the beginning of an id is enough.

        What varies between engine processes, and how large differences are, llem takes from all valid experiments of
        the folder (of very many, from 200).

        Args:
            metrics: any that trials have by themselves; None takes energies per token and request, power and speeds.

        Raises StoreError: no such id or metric, too few trials, or energies that cover different things (see
        `llem.analysis.compare.compare`).
        """
        require_prices(metrics or (), self.prices)
        names = self._store.find(a), self._store.find(b)
        if names[0] == names[1]:
            what = f"A and B are the same experiment, {names[0]}"
            raise StoreError(what, "`llem show` lists all", "nothing_to_compare")
        sides = self.sides(metrics)
        found = compare(sides(names[0]), sides(names[1]), metrics, self.background(sides, names))
        return Compared(found, self, *names)

    def best(self, metric: str) -> Result:
        """The valid result with the best value. `ties` says from which others it is not separated.

        Raises StoreError: none has one (nothing_to_compare; the fake `echo` is never ranked), their energies cover
        different things (energies_differ), nothing is better than else (no_direction), or results hold different
        scores under this name (scores_differ).
        """
        return self[self._best(metric).row.id]

    def ties(self, metric: str) -> Results:
        """The results that are better than `best` with a probability above 5 %, best first. Raises as `best`."""
        return Results(self._store, self._best(metric).ties, self._held, self.prices)

    def _best(self, metric: str) -> Best:
        lower_is_better(metric)
        require_prices([metric], self.prices)
        return best_of(self.overviews((metric,)), metric)

    def pareto(self, x: str, y: str) -> Front:
        """The valid results that no other one dominates in both metrics with a probability of 0.95, best `x` first.

        From joint draws of what the trials say; of more than 200 results from their own intervals first.

        Raises StoreError as `best` does.
        """
        from llem.analysis.pareto import front_of

        require_prices([x, y], self.prices)
        return Front(self._store, *front_of(self, x, y), self._held, self.prices, (x, y), len(self))

    def recommend(
        self,
        *,
        minimise: str | None = None,
        maximise: str | None = None,
        slo: str = "",
        quality: str = "",
        memory: str | None = None,
        power: str | None = None,
        reference: str | None = None,
    ) -> Recommendation:
        """Which configuration to take: the one that most probably keeps all limits and is the best of those that do.

        Args:
            minimise, maximise: the metric that decides, or a short word for it: energy, energy_per_request, cost,
                carbon, latency, speed. Default: minimise energy.
            slo: limits of latencies and speeds, such as `ttft:p99<500ms;tpot:p99<50ms`.
            quality: limits of scores: `arc_easy>=0.75`, or as a change against the reference `arc_easy>=-0.01`.
            memory, power: the most that is allowed, such as `80GiB` and `600W`.
            reference: the experiment whose score a change is against; the beginning of its id is enough.

        Raises:
            ConfigError: a limit cannot be read, or the metric is the better the other way.
            StoreError: nothing can be ranked, or there is no such metric, score or experiment.
        """
        from llem.analysis.recommend import limits_of, objective_of, ranked_of, recommended

        limits = limits_of(slo, quality, memory, power)
        return recommended(self, ranked_of(self, objective_of(minimise, maximise), limits, reference))

    def by_axis(self, axis: str, metrics: Sequence[str] | None = None, reference: Any = None) -> list[Effect]:
        """What each value of an axis does to each metric, all else equal; see `llem.analysis.effects.axis_effects`.

        Only valid results count. P-values are corrected over all axes of the study.

        Args:
            metrics: None takes energy per output token and output tokens per second, and with prices what a million
                output tokens cost and emit.

        Raises StoreError: no such axis or metric, no point with that reference value, a metric of which neither less
        nor more is better, or a score that no result has.
        """
        study = self.study
        require_prices(metrics or (), self.prices)
        path = find_axis(_axes(study), axis)
        default = [metric.name for metric in shown("effects")]
        further = [metric.name for metric in self.prices.shown("effects")] if self.prices else []
        names = [*default, *further] if metrics is None else list(metrics)
        rows = list(self.overviews({*default, *names}))
        for name in names:
            lower_is_better(name)
            if family_of(name) and not any(name in row.metrics for row in rows):
                raise self._no_score(name)
        workers = functools.partial(workers_of, self._store)
        families = [default] if set(names) <= set(default) else [default, list(dict.fromkeys((*default, *names)))]
        found = [effects_of(study, rows, family, workers, {path: reference}) for family in families]
        return [
            one
            for name in names
            for one in found[0 if name in default else 1]
            if one.axis == path and one.metric == name
        ]

    def _no_score(self, name: str) -> StoreError:
        """The error for a score that no result has. It names the scores that some result has."""
        found = {metric for row in self.overviews() for metric in row.metrics if is_score(metric)}
        there = f"scores in this folder: {', '.join(sorted(found))}" if found else "no result here has any score"
        return StoreError(f"no result has the metric {name!r}", there, "metric_unknown")

    def by_pair(self, axis: str, metrics: Sequence[str] | None = None, reference: Any = None) -> list[PairEffect]:
        """The pairs that `by_axis` pools, one by one, each with the interval that its trials give."""
        found = self.by_axis(axis, metrics, reference)
        sides = self.sides(tuple(dict.fromkeys(effect.metric for effect in found)))
        return pair_effects(found, sides, self.background(sides))

    def quality(self, reference: str | None = None, tasks: Sequence[str] | None = None) -> list[QualityDifference]:
        """The scores of each engine configuration against a reference, item by item, by score.

        Args:
            reference: an experiment; the beginning of its id is enough. None takes the study's `reference` where it has
                the score, else the first of its file that has it.
            tasks: such as `arc_easy`, or a further score as `arc_easy.acc_norm`. None takes the first of each task.

        Raises StoreError: no such id, nobody has such a score, or the reference has none.
        """
        return against_reference(self._store, self._ids, reference, tasks, self.damaged)


class Front(Results):
    """Results that no other one dominates.

    Attributes:
        dominated: by id, the greatest probability with which another one dominates it.
        by: by id, which one that is, where the probability is above 0.
        metrics: in which it is the front. count: of the results of which it is.
    """

    def __init__(
        self,
        store: Store,
        dominated: Mapping[str, float],
        by: Mapping[str, str] | None = None,
        held: Mapping[str, Result] | None = None,
        prices: Prices | None = None,
        metrics: tuple[str, str] = ("", ""),
        count: int = 0,
    ) -> None:
        super().__init__(store, tuple(dominated), held, prices)
        self.dominated, self.by = dict(dominated), dict(by or {})
        self.metrics, self.count = metrics, count


def _points(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: point["values"] for name, point in study.get("points", {}).items()}


def _axes(study: Mapping[str, Any]) -> Sequence[str]:
    return list(study.get("axes", ()))
