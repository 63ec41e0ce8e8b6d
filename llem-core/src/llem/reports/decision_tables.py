"""A recommendation and a Pareto front for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llem.analysis.decision import Contender
from llem.reports.figures import chance, grid, number, plain, put, screen, setting
from llem.reports.recommendation import RecommendationView, limit_cells
from llem.reports.tables import headings
from llem.reports.verdict import estimated

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_recommendation"]

#: Where a contender stands, in the last column.
STANDINGS = {"choice": "take this", "tie": "not told from it", "worse": "worse", "out": "breaks a limit"}


def render_recommendation(view: RecommendationView, console: Console | None = None) -> None:
    """Print the verdict, the first contenders, why the others are not taken, and what all of it rests on."""
    out = screen(console)
    for line in view.verdict:
        out.print(plain(line))
    if view.rows:
        out.print()
        put(out, _table(view))
    if more := len(view.found.contenders) - len(view.rows):
        out.print(plain(f"{more:,} more contenders: `--top N` shows them"), style="dim")
    if view.others:
        out.print()
    for line in view.others:
        out.print(plain(line))
    if view.rests_on:
        out.print()
        out.print(plain("rests on:"))
    for line in view.rests_on:
        out.print(plain(f"  {line}"))
    kept = "; in brackets: the probability that the limit is kept" if view.found.limits else ""
    out.print(plain(f"±: 95 % of the posterior{kept}"), style="dim")


def _table(view: RecommendationView) -> Any:
    axes = list(headings(view.axes))
    words = not axes and any(view.names.words.values())
    axes += ["configuration"] if words else []
    limits = [limit.text for limit in view.found.limits]
    several = len(view.found.contenders) > 1 and view.found.choice is not None
    compared = ["worse by, %", "P"] if several else []
    table = grid("id", *axes, view.heading, *compared, *limits, "", words=[*range(1, len(axes) + 1)])
    for one in view.rows:
        cells = [view.names.short[one.id]]
        cells += [setting(one.values[path]) if path in one.values else "" for path in view.axes]
        cells += [view.names.words.get(one.id, "")] if words else []
        cells += [estimated(one.objective, view.found.unit, view.divisor)]
        cells += [_excess(one), chance(one.probability)] if compared else []
        table.add_row(*map(plain, (*cells, *limit_cells(one), STANDINGS[one.standing])))
    return table


def _excess(one: Contender) -> str:
    """By which share it is worse than the choice, with its interval."""
    if one.excess is None:
        return "–"
    low, value, high = (100 * part for part in (one.excess.low, one.excess.value, one.excess.high))
    half = (high - low) / 2
    return f"{number(value, half)} [{number(low, half)}, {number(high, half)}]" if half else number(value)
