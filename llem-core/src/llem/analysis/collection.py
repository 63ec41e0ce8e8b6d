"""The results of a folder: a mapping that reads each when it is asked for, and what can be asked of all together."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from llem.analysis.compare import Comparison, Side, compare, side_of
from llem.analysis.effects import Effect, PairEffect, Sample, axis_effects, find_axis, pair_effects
from llem.analysis.frame import columns, pandas_frame, polars_frame
from llem.analysis.overview import Overview, basis_of, overview_of, overviews
from llem.analysis.pareto import Candidate, non_dominated
from llem.analysis.reference import ReferenceRuns, reference_of
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better, shown
from llem.metrics.metric import Measured
from llem.metrics.result import recompute
from llem.store.models import Result
from llem.store.store import Store

__all__ = ["Results", "effects_of"]


class Results(Mapping[str, Result]):
    """Stored results by experiment id, in the study's order.

    A Result is read when it is asked for and not kept, so that ten thousand need no more memory than one.

    Args:
        ids: of experiments that have a result.
        held: results that are at hand and need not be read.
    """

    def __init__(self, store: Store, ids: Sequence[str], held: Mapping[str, Result] | None = None) -> None:
        self._store, self._ids, self._held = store, tuple(ids), dict(held or {})
        self._known = frozenset(self._ids)

    @classmethod
    def open(cls, store: Store) -> Results:
        """Every result of a store; experiments that have not ended have none."""
        named = [name for name in store.study().get("experiments", ()) if isinstance(name, str)]
        there = set(store.result_ids())
        first = [name for name in dict.fromkeys(named) if name in there]
        return cls(store, [*first, *sorted(there - set(first))])

    def __getitem__(self, name: str) -> Result:
        if name not in self._known:
            raise KeyError(name)
        if name in self._held:
            return self._held[name]
        return self._store.read_result(name) or recompute(self._store, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __repr__(self) -> str:
        return f"<{len(self)} results in {self._store.path}>"

    def overviews(self, metrics: Collection[str] | None = None) -> Iterator[Overview]:
        """The outcome, the codes and the metrics of each; None takes all metrics."""
        for name in self._ids:
            if name in self._held:
                yield overview_of(self._held[name], metrics)
            else:
                yield from overviews(self._store, [name], metrics)

    def columns(self, *, everything: bool = False) -> dict[str, list[Any]]:
        """As `frame`, as lists by name of the column: needs no table library."""
        study = self._store.study()
        return columns(self.overviews(), _points(study), _axes(study), everything=everything)

    def frame(self, *, everything: bool = False) -> Any:
        """A `polars.DataFrame`, one row per experiment: `id`, the axes, `outcome`, `trials`, `valid`, `publishable`,
        `findings` (codes), `error`, `backend`, `model`, `dtype`, and for each metric its value, `_low`, `_high`, `_n`,
        `_processes`, `_covers` and `_reason`; of energies `_scope` and `_kind`. Columns that are empty are left out;
        `everything` keeps them (see `llem.analysis.frame.columns`).

        Raises MachineError (requirement_missing) without polars: `pip install 'llem-core[frames]'`.
        """
        return polars_frame(self.columns(everything=everything))

    def to_pandas(self, *, everything: bool = False) -> Any:
        """The same as a `pandas.DataFrame`."""
        return pandas_frame(self.columns(everything=everything))

    def reference(self) -> ReferenceRuns | None:
        """How much the engine processes of the study's reference differ, and whether they drift; None without one."""
        return reference_of(self._store)

    def compare(self, a: str, b: str, metrics: Sequence[str] | None = None) -> list[Comparison]:
        """Experiment `b` over `a` from their trials, metric by metric; the beginning of an id is enough.

        Args:
            metrics: any that trials have by themselves; None takes energies per token and request, power and speeds.

        Raises StoreError: no such id or metric, or too few trials (see `llem.analysis.compare.compare`).
        """
        first, second = (side_of(Measured.read(self._store, self._store.find(name)), metrics) for name in (a, b))
        return compare(first, second)

    def best(self, metric: str) -> Result:
        """The valid result with the best value. Raises StoreError: none has one, or nothing is better than else."""
        lower = lower_is_better(metric)
        found = [(one.value(metric), one.id) for one in self.overviews((metric,)) if one.valid]
        valued = [(value if lower else -value, name) for value, name in found if value is not None]
        if not valued:
            raise StoreError(f"no valid result has {metric}", "see `llem show`", "nothing_to_compare")
        return self[min(valued)[1]]

    def pareto(self, x: str, y: str) -> Results:
        """The valid results that no other one dominates in both metrics, best `x` first.

        Dominated is one that another is no worse than in both values and beyond doubt better in one of them: their
        intervals do not overlap. What cannot be told apart stays.

        Raises StoreError: a metric of which neither less nor more is better (no_direction).
        """
        lower = (lower_is_better(x), lower_is_better(y))
        found = []
        for one in self.overviews((x, y)):
            if one.valid and one.value(x) is not None and one.value(y) is not None:
                found.append(Candidate(one.id, one.metrics[x], one.metrics[y], lower))
        return Results(self._store, non_dominated(found), self._held)

    def by_axis(self, axis: str, metrics: Sequence[str] | None = None, reference: Any = None) -> list[Effect]:
        """What each value of an axis does to each metric, all else equal; see `llem.analysis.effects.axis_effects`.

        Only valid results count. `metrics`: None takes energy per output token and output tokens per second.

        Raises StoreError: no such axis, no point with that reference value, or a score that no result has.
        """
        names = [metric.name for metric in shown("effects")] if metrics is None else metrics
        rows = list(self.overviews(names))
        for name in names:
            if name.startswith("quality.") and not any(name in row.metrics for row in rows):
                raise self._no_score(name)
        return effects_of(self._store.study(), rows, axis, names, reference)

    def _no_score(self, name: str) -> StoreError:
        """The error for a score that no result has. It names the scores that some result has."""
        found = {metric for row in self.overviews() for metric in row.metrics if metric.startswith("quality.")}
        there = f"scores in this folder: {', '.join(sorted(found))}" if found else "no result here has any score"
        return StoreError(f"no result has the metric {name!r}", there, "metric_unknown")

    def by_pair(self, axis: str, metrics: Sequence[str] | None = None, reference: Any = None) -> list[PairEffect]:
        """The pairs that `by_axis` pools, one by one, each with the interval that its trials give."""
        found = self.by_axis(axis, metrics, reference)
        names = tuple(dict.fromkeys(effect.metric for effect in found))

        @functools.lru_cache(maxsize=1024)
        def side(name: str) -> Side:
            return side_of(Measured.read(self._store, name), names)

        return pair_effects(found, side)


def _points(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: point["values"] for name, point in study.get("points", {}).items()}


def _axes(study: Mapping[str, Any]) -> Sequence[str]:
    return list(study.get("axes", ()))


def effects_of(
    study: Mapping[str, Any], rows: Sequence[Overview], axis: str, metrics: Sequence[str], reference: Any = None
) -> list[Effect]:
    """As `Results.by_axis`, from what was read already: study.json and overviews."""
    path = find_axis(_axes(study), axis)
    points = study.get("points", {})
    placed = sorted(  # the file's order, so that the reference is the first value that the file gives
        ((points[row.id]["number"], row) for row in rows if row.valid and row.id in points),
        key=lambda pair: pair[0],
    )
    found = []
    for metric in metrics:
        valued = ((row, row.value(metric)) for _, row in placed)
        samples = [
            Sample(row.id, points[row.id]["values"], value, basis_of(row.metrics[metric]))
            for row, value in valued
            if value is not None and value > 0
        ]
        found += axis_effects(samples, path, metric, reference)
    return found
