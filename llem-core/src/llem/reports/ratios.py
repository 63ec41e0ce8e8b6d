"""Views of ratios as plain data: what the values of axes do, pairs one by one, two experiments, the summary. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.compare import Comparison
from llem.analysis.differing import Differing
from llem.analysis.effects import Effect, effects_of
from llem.analysis.overview import Overview, state_of
from llem.analysis.pairs import PairEffect
from llem.analysis.prices import Prices
from llem.analysis.ranking import best_of, only_fakes
from llem.errors import StoreError
from llem.metrics.catalogue import metric_of, shown
from llem.metrics.metric import Basis, Metric
from llem.reports.configurations import in_common, varied
from llem.reports.notes import price_note
from llem.reports.views import counts
from llem.store.models import Quantity

__all__ = [
    "FAKE",
    "Best",
    "ComparisonView",
    "RatioTable",
    "SummaryView",
    "comparison_view",
    "ratio_tables",
    "summary_view",
]


#: Where all results are of the fake backend.
FAKE = "all results are of echo, a fake: its figures mean nothing, and nothing is ranked"


@attrs.frozen
class RatioTable:
    """What the values of an axis do to one metric.

    Attributes:
        basis: what all its energies cover; None where they differ, which `mixed` says.
    """

    metric: Metric
    axis: str
    reference: Any
    basis: Basis | None
    mixed: bool
    rows: tuple[Effect | PairEffect, ...]


def ratio_tables(found: Sequence[Effect | PairEffect]) -> list[RatioTable]:
    """A table for each axis and metric of effects, or of their pairs."""
    tables = []
    for (_, name), group in itertools.groupby(found, key=_of):
        listed = list(group)
        bases = {basis for one in listed for basis in one.bases}
        shared = next(iter(bases)) if len(bases) == 1 else None
        first, mixed = listed[0], len(bases) > 1
        tables.append(RatioTable(metric_of(name), first.axis, first.reference, shared, mixed, tuple(listed)))
    return tables


def _of(one: Effect | PairEffect) -> tuple[str, str]:
    return one.axis, one.metric


@attrs.frozen
class Best:
    """The best result in one metric: what it sets, and the ids of those that are not separated from it."""

    metric: Metric
    row: Overview
    values: Mapping[str, Any]
    ties: tuple[str, ...]


@attrs.frozen
class SummaryView:
    """A study with too many experiments for a table.

    Attributes:
        states, errors, codes: number of experiments by how they ended, by error, and by finding.
        best: of each metric.
        tables: what each axis does.
        notes: why a metric is not ranked.
    """

    count: int
    publishable: int
    same: str
    states: Mapping[str, int]
    errors: Mapping[str, int]
    codes: Mapping[str, int]
    best: tuple[Best, ...]
    tables: tuple[RatioTable, ...]
    notes: tuple[str, ...]


def summary_view(
    rows: Sequence[Overview],
    study: Mapping[str, Any],
    workers: Callable[[str], frozenset[int]],
    prices: Prices | None = None,
) -> SummaryView:
    """The summary of overviews that have the metrics of "effects"; of study.json.

    Args:
        workers: of an experiment (see `llem.analysis.sides.workers_of`).
        prices: that rows have metrics of cost and carbon by. Of these the best is named; effects are without them.
    """
    names = [metric.name for metric in shown("effects")]
    axes = varied(study, [row.id for row in rows])
    effects = [one for one in effects_of(study, rows, names, workers) if one.axis in axes]
    further = [metric.name for metric in prices.shown("effects")] if prices else []
    found = list(_bests(rows, study, [*names, *further]))
    notes = [one for one in found if isinstance(one, str)]
    if only_fakes(rows):
        notes = [FAKE]
    notes += [price_note(prices, rows)] if prices else []
    return SummaryView(
        count=len(rows),
        publishable=sum(row.publishable for row in rows),
        same=in_common(rows),
        states=counts(map(state_of, rows)),
        errors=counts((row.error for row in rows if row.error), 5),
        codes=counts(code for row in rows for code in row.codes),
        best=tuple(one for one in found if isinstance(one, Best)),
        tables=tuple(ratio_tables(effects)),
        notes=tuple(notes),
    )


def _bests(rows: Sequence[Overview], study: Mapping[str, Any], names: Sequence[str]) -> Iterator[Best | str]:
    """Of each metric the best, or why there is none."""
    points = study.get("points", {})
    for name in names:
        try:
            best = best_of(rows, name)
        except StoreError as error:
            if error.code == "energies_differ":
                yield error.message
        else:
            values = points.get(best.row.id, {}).get("values", {})
            yield Best(metric_of(name), best.row, values, best.ties)


@attrs.frozen
class ComparisonView:
    """Two experiments side by side.

    Attributes:
        warnings: why the comparison may mislead.
        differs: what A and B do not have alike beside their figures.
        further: memory and latencies of both, which are shown and not tested; None where one has no value.
        prices: what amounts were computed with, in words; "" where there are none.
    """

    a: Overview
    b: Overview
    rows: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    differs: tuple[Differing, ...] = ()
    further: tuple[tuple[Metric, Quantity | None, Quantity | None], ...] = ()
    prices: str = ""


def comparison_view(
    a: Overview,
    b: Overview,
    found: Sequence[Comparison],
    prices: Prices | None = None,
    differs: Sequence[Differing] = (),
) -> ComparisonView:
    """The view of a comparison, and of the overviews of both experiments.

    Args:
        prices: that it has metrics of cost and carbon by.
        differs: what A and B do not have alike.
    """
    warnings = [
        f"{letter} is not valid: {', '.join(one.errors) or one.outcome}; `llem show` says why"
        for letter, one in (("A", a), ("B", b))
        if not one.valid
    ]
    warnings += dict.fromkeys(note for one in found for note in one.warnings)
    note = price_note(prices, (a, b)) if prices else ""
    further = tuple(_further(a, b, {one.metric for one in found}))
    return ComparisonView(a, b, tuple(found), tuple(warnings), tuple(differs), further, note)


#: Percentiles of latencies that a comparison shows.
PERCENTILES = ("p50", "p90", "p99")


def _further(
    a: Overview, b: Overview, tested: Container[str]
) -> Iterator[tuple[Metric, Quantity | None, Quantity | None]]:
    """Memory, and of serving loads percentiles of each latency, where A or B has a value; but what is tested."""
    served = any(one.load.get("kind", "offline") != "offline" for one in (a, b))
    latencies = [metric for metric in shown("latencies") if metric.part[1] in PERCENTILES] if served else []
    for metric in (metric_of("peak_memory_bytes"), *latencies):
        sides = [one.metrics.get(metric.name) for one in (a, b)]
        known = [None if one is None or one.value is None else one for one in sides]
        if any(known) and metric.name not in tested:
            yield metric, known[0], known[1]
