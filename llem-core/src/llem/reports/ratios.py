"""Views of ratios as plain data: what the values of axes do, pairs one by one, two experiments, the summary. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.collection import effects_of
from llem.analysis.compare import Comparison
from llem.analysis.effects import Effect, PairEffect
from llem.analysis.overview import Overview, state_of
from llem.metrics.catalogue import lower_is_better, metric_of, shown
from llem.metrics.metric import Basis, Metric
from llem.reports.views import counts, in_common, varied

__all__ = [
    "ComparisonView",
    "RatioTable",
    "SummaryView",
    "comparison_view",
    "ratio_tables",
    "summary_view",
]


@attrs.frozen
class RatioTable:
    """What the values of an axis do to one metric.

    Attributes:
        basis: what all its energies cover; None where they differ, which `mixed` says.
        rows: each with its verdict: "better" or "worse" where the interval says so, else "".
    """

    metric: Metric
    axis: str
    reference: Any
    basis: Basis | None
    mixed: bool
    rows: tuple[tuple[Effect | PairEffect, str], ...]


def ratio_tables(found: Sequence[Effect | PairEffect]) -> list[RatioTable]:
    """A table for each metric of the effects of one axis, or of their pairs."""
    tables = []
    for name, group in itertools.groupby(found, key=_metric):
        listed = list(group)
        bases = {basis for one in listed for basis in one.bases}
        shared = next(iter(bases)) if len(bases) == 1 else None
        rows = tuple((one, _verdict(one)) for one in listed)
        tables.append(RatioTable(metric_of(name), listed[0].axis, listed[0].reference, shared, len(bases) > 1, rows))
    return tables


def _metric(one: Effect | PairEffect) -> str:
    return one.metric


def _verdict(one: Effect | PairEffect) -> str:
    if one.low is None or one.high is None or one.low <= 1 <= one.high or len(one.bases) > 1:
        return ""
    return "better" if (one.high < 1) == lower_is_better(one.metric) else "worse"


@attrs.frozen
class SummaryView:
    """A study with too many experiments for a table.

    Attributes:
        states, errors, codes: number of experiments by how they ended, by error, and by finding.
        best: the valid experiment with the best value of each metric, and what it sets.
        tables: what each axis does.
    """

    count: int
    publishable: int
    same: str
    states: Mapping[str, int]
    errors: Mapping[str, int]
    codes: Mapping[str, int]
    best: tuple[tuple[Metric, Overview, Mapping[str, Any]], ...]
    tables: tuple[RatioTable, ...]


def summary_view(rows: Sequence[Overview], study: Mapping[str, Any]) -> SummaryView:
    """The summary of overviews that have the metrics of "effects"; of study.json."""
    metrics = shown("effects")
    names = [metric.name for metric in metrics]
    points = study.get("points", {})
    axes = varied(study, [row.id for row in rows])
    best = [(metric, row) for metric in metrics if (row := _best(rows, metric)) is not None]
    effects = [effects_of(study, rows, axis, names) for axis in axes]
    return SummaryView(
        count=len(rows),
        publishable=sum(row.publishable for row in rows),
        same=in_common(rows),
        states=counts(map(state_of, rows)),
        errors=counts((row.error for row in rows if row.error), 5),
        codes=counts(code for row in rows for code in row.codes),
        best=tuple((metric, row, points.get(row.id, {}).get("values", {})) for metric, row in best),
        tables=tuple(table for one in effects for table in ratio_tables(one)),
    )


def _best(rows: Sequence[Overview], metric: Metric) -> Overview | None:
    valued = [(value, row) for row in rows if row.valid and (value := row.value(metric.name)) is not None]
    choose = min if lower_is_better(metric.name) else max
    return choose(valued, key=lambda one: one[0])[1] if valued else None


@attrs.frozen
class ComparisonView:
    """Two experiments side by side. `warnings`: why the comparison may mislead."""

    a: Overview
    b: Overview
    rows: tuple[Comparison, ...]
    warnings: tuple[str, ...]


def comparison_view(a: Overview, b: Overview, found: Sequence[Comparison]) -> ComparisonView:
    """The view of a comparison, and of the overviews of both experiments."""
    warnings = [
        f"{letter} is not valid: {', '.join(one.errors) or one.outcome}; `llem show` says why"
        for letter, one in (("A", a), ("B", b))
        if not one.valid
    ]
    different = [one for one in found if not one.same_basis]
    if different:
        first, names = different[0], ", ".join(one.metric for one in different)
        warnings.append(
            f"energies of A and B differ in what they cover (A: {first.basis_a}, B: {first.basis_b}); "
            f"the ratio of {names} does not say which is better"
        )
    return ComparisonView(a, b, tuple(found), tuple(warnings))
