"""Configurations in two metrics as plain data: what is drawn, and why the others are not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.collection import Results
from llem.analysis.decision import Recommendation
from llem.analysis.overview import Overview, basis_of
from llem.analysis.prices import Prices
from llem.analysis.ranking import only_fakes
from llem.errors import StoreError
from llem.findings import REASONS
from llem.metrics.catalogue import lower_is_better, metric_of
from llem.metrics.metric import Metric
from llem.reports.axis import Axis, Span, axis_of
from llem.reports.figures import setting
from llem.reports.notes import rests_on_text
from llem.reports.ratios import FAKE
from llem.reports.tables import headings, prefixes
from llem.reports.views import configuration, varied
from llem.store.models import Quantity

__all__ = ["METRICS_DRAWN", "Point", "TradeOff", "drawn_of", "trade_off"]

#: Metrics that are drawn if none are asked for: the first two that most results have, the first one upwards.
METRICS_DRAWN = ("energy_per_output_token_j", "ttft_p99_s", "output_tokens_per_s", "e2el_s", "peak_memory_bytes")

#: Where a configuration stands, in the order in which they are named.
PLACES = ("choice", "tie", "worse", "out", "")


@attrs.frozen
class Point:
    """A configuration.

    Attributes:
        name: the beginning of its id that is enough for `llem show`.
        words: what it sets, or its configuration where that says nothing.
        standing: as of a contender (choice, tie, worse, out); "" where nothing is recommended.
    """

    id: str
    name: str
    words: str
    x: Quantity
    y: Quantity
    standing: str = ""


@attrs.frozen
class TradeOff:
    """Points in two metrics, those first that are to be named first, and the limits that were asked for.

    Attributes:
        limits: of each axis the bounds, with their text.
        notes: which way is better, what the bars are, and what is not drawn.
    """

    x: Axis
    y: Axis
    points: tuple[Point, ...]
    limits: Mapping[str, Sequence[tuple[float, str]]]
    notes: tuple[str, ...]


def drawn_of(
    results: Results, metrics: tuple[str, str] | None = None, decision: Recommendation | None = None
) -> TradeOff | str:
    """As `trade_off`, of stored results.

    Raises:
        StoreError: as `trade_off`; or no prices for a metric of cost or carbon (no_prices), or a damaged file.
    """
    read = [*(metrics or METRICS_DRAWN), *_asked(decision)]
    rows = list(results.overviews(dict.fromkeys(read)))
    return trade_off(rows, results.study, metrics, decision, results.prices)


def trade_off(
    rows: Sequence[Overview],
    study: Mapping[str, Any],
    metrics: tuple[str, str] | None = None,
    decision: Recommendation | None = None,
    prices: Prices | None = None,
) -> TradeOff | str:
    """The valid results of these overviews in two metrics; or why there is nothing to draw.

    Energies of several kinds or scopes are never drawn together: those that most results have are.

    Args:
        study: the study document: what each configuration sets.
        metrics: along x and y; None takes two that most results have.
        decision: says where each stands, and gives the limits.

    Raises:
        StoreError: there is no such metric.
    """
    valid = [row for row in rows if row.valid]
    if not valid:
        return "nothing to draw: no result is valid" if rows else "nothing to draw: there is no result yet"
    names = metrics or _default(valid, decision)
    if names is None:
        return "nothing to draw: no two metrics have values in these results"
    x, y = (prices.metric(name) if prices is not None else metric_of(name) for name in names)
    both = [row for row in valid if None not in (row.value(x.name), row.value(y.name))]
    if not both:
        return (
            f"nothing to draw: no valid result has {x.name} and {y.name}: {' '.join(_reasons(valid, names))}".rstrip()
        )
    drawn = _of_one_basis(both, names)
    notes = [*_notes(drawn, (x, y)), *_left_out(rows, valid, both, drawn, names)]
    standings = {one.id: one.standing for one in decision.contenders} if decision else {}
    short, words = prefixes([row.id for row in rows]), _words(rows, study)
    points = [
        Point(row.id, short[row.id], words[row.id], row.metrics[x.name], row.metrics[y.name], standings.get(row.id, ""))
        for row in drawn
    ]
    lower = _lower(y, drawn) is not False
    points.sort(key=lambda one: (PLACES.index(one.standing), float(one.y) if lower else -float(one.y), one.id))
    limits = {
        metric.name: [(one.bound, one.text) for one in decision.limits if one.metric == metric.name and not one.against]
        if decision
        else []
        for metric in (x, y)
    }
    axes = [_axis(metric, [row.metrics[metric.name] for row in drawn], limits[metric.name]) for metric in (x, y)]
    return TradeOff(axes[0], axes[1], tuple(points), {"x": limits[x.name], "y": limits[y.name]}, tuple(notes))


def _default(valid: Sequence[Overview], decision: Recommendation | None) -> tuple[str, str] | None:
    """Names along x and y; of a decision the objective upwards, against what it limits first."""
    asked = _asked(decision)
    found = [
        name
        for name in dict.fromkeys((*asked, *METRICS_DRAWN))
        if name in asked or 2 * sum(row.value(name) is not None for row in valid) >= len(valid)
    ]
    return (found[1], found[0]) if len(found) > 1 else None


def _asked(decision: Recommendation | None) -> list[str]:
    return [] if decision is None else [decision.objective, *(one.metric for one in decision.limits if not one.against)]


def _words(rows: Sequence[Overview], study: Mapping[str, Any]) -> dict[str, str]:
    """What each configuration sets that not all set alike; else its configuration in words."""
    paths = varied(study, [row.id for row in rows])
    named = dict(zip(paths, headings(paths), strict=True))
    found = {}
    for row in rows:
        values = study.get("points", {}).get(row.id, {}).get("values", {})
        told = ", ".join(f"{head} {setting(values[path])}" for path, head in named.items() if path in values)
        found[row.id] = told or configuration(row)
    return found


def _of_one_basis(rows: Sequence[Overview], names: tuple[str, str]) -> list[Overview]:
    """Those whose energies are of the kind and scope that most have."""
    bases = {row.id: tuple(str(basis_of(row.metrics[name])) for name in names) for row in rows}
    [(first, _)] = Counter(bases.values()).most_common(1)
    return [row for row in rows if bases[row.id] == first]


def _axis(metric: Metric, found: Sequence[Quantity], limits: Sequence[tuple[float, str]]) -> Axis:
    basis = basis_of(found[0])
    of = f" ({basis})" if basis else ""
    spans: list[Span] = [(float(one), one.low, one.high) for one in found]
    named = metric.heading and metric.unit not in ("s", "B")  # the unit stands in it
    unit = "" if named else metric.unit
    rate = f"{metric.label}{of}"
    return axis_of(f"{metric.heading}{of}" if named else rate, unit, spans, [bound for bound, _ in limits])


# notes


def _notes(drawn: Sequence[Overview], metrics: tuple[Metric, Metric]) -> Iterator[str]:
    if only_fakes(drawn):
        yield FAKE
    else:
        yield from _better(drawn, metrics)
    told = rests_on_text(row.metrics[metric.name] for row in drawn for metric in metrics)
    bars = any(row.metrics[metric.name].low is not None for row in drawn for metric in metrics)
    yield f"bars: 95 % intervals ({told})" if bars else f"no intervals ({told})"


def _better(drawn: Sequence[Overview], metrics: tuple[Metric, Metric]) -> Iterator[str]:
    found = []
    for metric, low, high in zip(metrics, ("left", "down"), ("right", "up"), strict=True):
        lower = _lower(metric, drawn)
        found += [] if lower is None else [low if lower else high]
    if found:
        yield f"better: {' and '.join(found)}"


def _lower(metric: Metric, drawn: Sequence[Overview]) -> bool | None:
    """Whether less of a metric is better; None where neither way is."""
    try:
        return lower_is_better(metric.name, [row.metrics[metric.name] for row in drawn])
    except StoreError as error:
        if error.code != "no_direction":
            raise
        return None


def _left_out(
    rows: Sequence[Overview],
    valid: Sequence[Overview],
    both: Sequence[Overview],
    drawn: Sequence[Overview],
    names: tuple[str, str],
) -> Iterator[str]:
    if count := len(rows) - len(valid):
        yield f"not drawn, {count:,}: not valid"
    if count := len(valid) - len(both):
        yield f"not drawn, {count:,}: without a value. {' '.join(_reasons(valid, names))}".rstrip()
    kept = {row.id for row in drawn}
    others = [row for row in both if row.id not in kept]
    if others:
        of = "; ".join(sorted({str(basis_of(row.metrics[name])) for row in others for name in names} - {"None"}))
        yield f"not drawn, {len(others):,}: their energies cover something else ({of})"


def _reasons(rows: Sequence[Overview], names: Sequence[str]) -> list[str]:
    """Why values are missing, each reason once."""
    found = (row.metrics.get(name) for row in rows for name in names)
    codes = dict.fromkeys(one.reason for one in found if one is not None and one.value is None and one.reason)
    return [REASONS.get(code, code) for code in codes]
