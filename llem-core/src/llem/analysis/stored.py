"""The results of a folder: a mapping that reads each when it is asked for, with what their comparisons need."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, SupportsIndex, TypeVar, overload

import attrs

from llem.analysis.background import Background
from llem.analysis.overview import Overview, overview_of, overviews
from llem.analysis.prices import Prices, gpus_in, priced, require_prices, with_parts
from llem.analysis.sides import Side, is_fake, is_shuffled, read_side
from llem.display import Displayed
from llem.errors import StoreError, one_of
from llem.metrics.catalogue import metric_of
from llem.metrics.cost import PARTS
from llem.metrics.metric import Metric
from llem.metrics.result import recompute
from llem.store.files import computed_from
from llem.store.models import Result
from llem.store.store import Store

__all__ = ["DAMAGED", "Stored"]

T = TypeVar("T")
#: Codes of files that cannot be read.
DAMAGED = ("store_corrupt", "store_too_old", "store_too_new")

#: Experiments whose trials are read at most for what a comparison takes from the rest of the study.
MOST_READ = 200


class Stored(Mapping[str, Result], Displayed):
    """Stored results by experiment id, in the study's order.

    `results["c1f3"]` takes the beginning of an id too, `results[0]` the position, `results[:3]` gives the first three.

    A Result is read when it is asked for and not kept, so that ten thousand need no more memory than one.

    Args:
        ids: of experiments that have a result.
        held: results that are at hand and need not be read.
        prices: with which every result has metrics of cost and carbon too.
        study: the store's study document, where it is at hand. That of ten thousand is large.

    Attributes:
        damaged: by id, why an experiment was left out of what is asked of all together. It fills as they are read.
    """

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        held: Mapping[str, Result] | None = None,
        prices: Prices | None = None,
        study: Mapping[str, Any] | None = None,
    ) -> None:
        self._study = study
        self._store, self._ids, self._held = store, tuple(ids), dict(held or {})
        self._known, self.prices = frozenset(self._ids), prices
        self.damaged: dict[str, StoreError] = {}

    @classmethod
    def open(cls, store: Store, prices: Prices | None = None) -> Self:
        """Every result of a store; experiments that have not ended have none."""
        study = store.study()
        named = [name for name in study.get("experiments", ()) if isinstance(name, str)]
        there = set(store.result_ids())
        first = [name for name in dict.fromkeys(named) if name in there]
        return cls(store, [*first, *sorted(there - set(first))], prices=prices, study=study)

    def with_prices(self, prices: Prices | None) -> Self:
        """The same results with metrics of cost and carbon; None: without."""
        made = copy.copy(self)
        made.prices = prices
        return made

    def metric_of(self, name: str) -> Metric:
        """The row of a metric, of a cost with its currency. Raises StoreError: no such metric, or no prices for it."""
        require_prices([name], self.prices)
        return metric_of(name) if self.prices is None else self.prices.metric(name)

    @overload
    def __getitem__(self, name: str | SupportsIndex) -> Result: ...
    @overload
    def __getitem__(self, name: slice) -> Self: ...
    def __getitem__(self, name: str | SupportsIndex | slice) -> Result | Self:
        """One result, or those of a slice.

        Raises UnknownName, a KeyError: there is no such id, or several begin so. IndexError: no such position.
        """
        if isinstance(name, slice):
            return self.of(self._ids[name])
        if isinstance(name, SupportsIndex):
            place = name.__index__()
            if not -len(self) <= place < len(self):
                raise IndexError(f"no result number {place}: there are {len(self)}")
            return self._read(self._ids[place])
        return self._read(name if name in self._known else one_of(self._ids, str(name), f"among {self!r}"))

    def of(self, ids: Sequence[str]) -> Self:
        """Some of these results, by their whole ids, in this order."""
        made = copy.copy(self)
        made._ids, made._known = tuple(ids), frozenset(ids)
        return made

    def _read(self, name: str) -> Result:
        found = self._held.get(name) or self._store.read_result(name) or recompute(self._store, name)
        if self.prices is None:
            return found
        with computed_from(self._store.folder(name)):
            gpus = gpus_in(self._store, name) if self.prices.counts_time else None
        return attrs.evolve(found, metrics=priced(found.metrics, self.prices, gpus))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __repr__(self) -> str:
        return f"<{len(self)} results in {self._store.path}>"

    def overviews(self, metrics: Collection[str] | None = None) -> Iterator[Overview]:
        """The outcome, the codes and the metrics of each; None takes all metrics. What has not ended is computed.

        One that cannot be read is left out, and told in `damaged`.

        Raises StoreError: a metric of cost or carbon, and no prices for it (no_prices); or none can be read.
        """
        if self.prices is None:
            require_prices(metrics or (), None)
        parts = None if metrics is None else with_parts(metrics)
        prices = self.prices if metrics is None or any(name in PARTS for name in metrics) else None
        return self.each(lambda name: [self._priced(row, prices, metrics) for row in self._overviews(name, parts)])

    def results(self) -> Iterator[Result]:
        """Each result; one that cannot be read is left out, and told in `damaged`. Raises StoreError: none can be."""
        return self.each(lambda name: [self[name]])

    def each(self, read: Callable[[str], Iterable[T]]) -> Iterator[T]:
        """What `read` gives for each experiment; one whose files it cannot read is left out, and told in `damaged`.

        Raises StoreError: none can be read.
        """
        failed: StoreError | None = None
        some = False
        for name in self._ids:
            try:
                with computed_from(self._store.folder(name)):
                    found = list(read(name))
            except StoreError as error:
                if error.code not in DAMAGED:
                    raise
                self.damaged[name] = failed = error
                continue
            some = True
            yield from found
        if failed is not None and not some:
            raise failed

    def without_damaged(self, rows: Sequence[Overview], work: Callable[[Sequence[Overview]], T]) -> T:
        """`work(rows)`, again without experiments whose trials, requests or scores turn out to be damaged."""
        while True:
            try:
                return work(rows)
            except StoreError as error:
                if error.code in DAMAGED and not any(row.id in self.damaged for row in rows):
                    self._look_for_damage(rows)
                left = [row for row in rows if row.id not in self.damaged]
                if not left or len(left) == len(rows):
                    raise
                rows = left

    def _look_for_damage(self, rows: Iterable[Overview]) -> None:
        """Tell of each experiment of which not all can be read; who met it did not say of which it is."""
        for row in rows:
            try:
                recompute(self._store, row.id)
            except StoreError as error:
                self.damaged[row.id] = error

    def _overviews(self, name: str, metrics: Collection[str] | None) -> Iterable[Overview]:
        if name in self._held:
            return [overview_of(self._held[name], metrics)]
        return list(overviews(self._store, [name], metrics)) or [overview_of(recompute(self._store, name), metrics)]

    def _priced(self, row: Overview, prices: Prices | None, metrics: Collection[str] | None) -> Overview:
        if prices is None:
            return row
        gpus = gpus_in(self._store, row.id) if prices.counts_time else None
        return attrs.evolve(row, metrics=priced(row.metrics, prices, gpus, metrics), gpus=gpus)

    @property
    def store(self) -> Store:
        """The folder that they are in."""
        return self._store

    @property
    def study(self) -> Mapping[str, Any]:
        """The study document as it was when these results were listed, or when it was first asked for."""
        if self._study is None:
            self._study = self._store.study()
        return self._study

    def sides(self, metrics: Sequence[str] | None) -> Callable[[str], Side]:
        """What reads an experiment's side of a comparison, and keeps many."""

        shuffled = is_shuffled(self.study)

        @functools.lru_cache(maxsize=1024)
        def side(name: str) -> Side:
            try:
                with computed_from(self._store.folder(name)):
                    return read_side(self._store, name, metrics, self.prices, shuffled=shuffled)
            except StoreError as error:
                if error.code in DAMAGED:
                    self.damaged[name] = error
                raise

        return side

    def background(
        self, sides: Callable[[str], Side], names: Sequence[str] = (), valid: Sequence[str] | None = None
    ) -> Background:
        """What the valid experiments say together (of very many, every so many), those of `names` in any case.

        Args:
            valid: ids of all that are valid and no fakes; None reads which are.
        """
        if valid is None:
            rows = (*self.overviews(()), *self._not_computed())
            valid = [row.id for row in rows if row.valid and not is_fake(row.backend)]
        step = -(-len(valid) // MOST_READ) or 1
        known = frozenset(valid)
        asked = [name for name in names if name in known]
        others = (name for name in valid[::step] if name not in asked and self._whole(sides, name))
        return Background(sides(name) for name in dict.fromkeys((*asked, *others)))

    def _not_computed(self) -> Iterable[Overview]:
        """Experiments whose trials are there and whose result is not yet, as while workers run side by side."""
        absent = set(self._store.experiment_ids()) - self._known - set(self._store.result_ids())
        begun = [name for name in sorted(absent) if self._store.trial_indices(name)]
        return type(self)(self._store, begun, study=self._study).overviews(()) if begun else ()

    def _whole(self, sides: Callable[[str], Side], name: str) -> bool:
        """Whether an experiment's trials can be read; if they cannot, `damaged` tells why."""
        try:
            sides(name)
        except StoreError:
            if name not in self.damaged:
                raise
            return False
        return True
