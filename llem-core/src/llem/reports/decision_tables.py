"""A recommendation, a Pareto front and fleets for a load, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llem.analysis.decision import Contender, told
from llem.reports.configurations import headings, own_columns, point_text
from llem.reports.figures import PERSONS, amount, figure, grid, plain, put, screen, setting
from llem.reports.front import FrontView
from llem.reports.recommendation import RecommendationView, limit_cells
from llem.reports.serving import ServingView, serving_cells, serving_headings
from llem.reports.tables import prefixes
from llem.reports.verdict import estimated
from llem.reports.views import Column
from llem.store.models import Quantity

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_front", "render_recommendation", "render_serving"]

#: Differences below this share are not told in figures.
LEAST = 1e-4
#: Where a contender stands, in the last column.
STANDINGS = {"choice": "take", "tie": "tied", "worse": "worse", "out": "out"}


def render_recommendation(view: RecommendationView, console: Console | None = None) -> None:
    """Print the verdict, the first contenders, why the others are not taken, and what all of it rests on."""
    out = screen(console)
    for line in view.verdict:
        _say(out, line)
    if view.rows:
        out.print()
        put(out, _table(view), PERSONS)
    if more := len(view.found.contenders) - len(view.rows):
        out.print(plain(f"{more:,} more contenders: `--top N` shows them"), style="dim")
    if view.others:
        out.print()
    for line in view.others:
        _say(out, line)
    if view.rests_on:
        out.print()
        out.print(plain("rests on:"))
    for line in view.rests_on:
        _say(out, f"  {line}")
    kept = "; in brackets: the probability that the limit is kept" if view.found.limits else ""
    out.print(plain(f"±: 95 % of the posterior{kept}"), style="dim")


def _say(out: Console, line: str) -> None:
    """Print a line; if it is too long for the terminal, what follows begins two columns further in."""
    inner = line.lstrip(" ")
    indent = line[: len(line) - len(inner)]
    for number, part in enumerate(plain(inner).wrap(out, max(1, out.width - len(indent) - 2))):
        part.rstrip()
        out.print(plain(indent + ("  " if number else "")) + part)


def _table(view: RecommendationView) -> Any:
    own = own_columns(view.axes)
    words = bool(view.axes and not own) or (not view.axes and len(view.rows) > 1 and any(view.names.words.values()))
    axes = [*headings(own), *(["configuration"] if words else [])]
    limits = [limit.text for limit in view.found.limits]
    several = len(view.found.contenders) > 1 and view.found.choice is not None
    compared = ["worse by, %", "P"] if several else []
    table = grid("id", *axes, view.heading, *compared, *limits, "", words=[*range(1, len(axes) + 1)])
    for one in view.rows:
        cells = [view.names.short[one.id]]
        cells += [setting(one.values[path]) if path in one.values else "" for path in own]
        if words:
            cells.append(point_text(one.values, view.axes) if view.axes else view.names.words.get(one.id, ""))
        cells += [estimated(one.objective, view.found.unit, view.divisor)]
        cells += [_excess(one), told(one.probability)] if compared else []
        table.add_row(*map(plain, (*cells, *limit_cells(one), STANDINGS[one.standing])))
    return table


def _excess(one: Contender) -> str:
    """By how many percent it is worse than the choice."""
    found = one.excess
    if found is None:
        return "–"
    return estimated(found, "", 0.01) if max(map(abs, (found.low, found.high))) >= LEAST else "< 0.01"


# a front


def render_front(view: FrontView, top: int, console: Console | None = None) -> None:
    """Print a line for each configuration that nothing dominates, the first `top` of them, with notes below."""
    out = screen(console)
    if view.same:
        out.print(plain(f"all: {view.same}"), style="dim")
        out.print()
    axes = headings(view.axes) or ["configuration"]
    figures = [column.heading for column in view.columns]
    table = grid("id", *axes, *figures, "P(dominated)", "by", words=[*range(1, len(axes) + 1)])
    shown = prefixes([*(row.overview.id for row in view.rows), *(row.by for row in view.rows if row.by)])
    for row in view.rows[:top]:
        cells = [setting(row.values[path]) if path in row.values else "" for path in view.axes] or [row.words]
        cells += [_figure(column, row.overview.metrics[column.metric.name]) for column in view.columns]
        cells += [told(row.dominated), shown[row.by] if row.by else ""]
        table.add_row(*map(plain, (shown[row.overview.id], *cells)))
    put(out, table, PERSONS)
    out.print()
    if (more := len(view.rows) - top) > 0:
        out.print(plain(f"{more:,} more: `--top N` shows them"), style="dim")
    for note in view.notes:
        out.print(plain(note), style="dim")


def _figure(column: Column, quantity: Quantity) -> str:
    """With its unit, unless that stands in the heading."""
    named = (column.unit or column.metric.says_unit) and quantity.value is not None
    return amount(quantity, quantity.value or 0.0, column.divisor, brief=True) if named else figure(quantity)


# a load to serve


def render_serving(view: ServingView, console: Console | None = None) -> None:
    """Print the cheapest fleet, a line for each that can serve the load, and below who cannot, break-even and notes."""
    out = screen(console)
    for line in view.verdict:
        _say(out, line)
    if view.rows:
        out.print()
        own = own_columns(view.axes)
        axes = headings(own) if own or not view.axes else ["configuration"]
        table = grid("id", *axes, *serving_headings(view), words=[*range(1, len(axes) + 1)])
        for row in view.rows:
            cells = [setting(row.values[path]) if path in row.values else "" for path in own]
            cells += [point_text(row.values, view.axes)] if view.axes and not own else []
            table.add_row(*map(plain, (view.names.short[row.id], *cells, *serving_cells(view, row))))
        put(out, table)
    if view.below:
        out.print()
    for line in view.below:
        _say(out, line)
