"""Tables for a terminal: a study, and where its wall clock went. Those of ratios are in `ratio_tables`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.overview import Overview, state_of
from llem.analysis.wall_clock import PARTS, TimeSpent
from llem.metrics.metric import Metric
from llem.reports.configurations import headings
from llem.reports.figures import PERSONS, amount, grid, number, plain, put, screen, setting, short
from llem.reports.views import Column, CurveView, StudyView
from llem.store.models import Quantity

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "headings",
    "prefixes",
    "render_study",
    "render_time",
]


# a study


def render_study(view: StudyView, console: Console | None = None) -> None:
    """Print a line for each experiment: what varies, the figures, the outcome; below, notes and curves."""
    out = screen(console)
    if view.same:
        out.print(plain(f"all: {view.same}"), style="dim")
        out.print()
    axes = [*headings(view.axes), *(["configuration"] if view.configurations else [])]
    columns = [column.heading for column in view.columns]
    told = [*(["energy"] if view.mixed else []), *(["n"] if _differ(view.rests_on) else [])]
    words = [*range(1, len(axes) + 1), *range(len(axes) + len(columns) + 1, len(axes) + len(columns) + len(told) + 2)]
    table = grid("id", *axes, *columns, *told, "outcome", words=words)
    shown = prefixes([row.id for row in view.rows])
    for row in view.rows:
        values = view.values[row.id]
        cells = [setting(values[path]) if path in values else "" for path in view.axes]
        cells += [view.configurations[row.id]] if view.configurations else []
        cells += [_cell(column, row, view.unlike) for column in view.columns]
        table.add_row(*map(plain, (shown[row.id], *cells, *_told(view, row), _outcome(row))))
    put(out, table, PERSONS)
    out.print()
    for line in view.notes:
        out.print(plain(line), style="dim")
    for curve in view.curves:
        out.print()
        same = "" if _differ(curve.rests_on) else "; ".join(dict.fromkeys(filter(None, curve.rests_on.values())))
        out.print(plain(f"{curve.configuration}, by arrivals" + (f" ({same})" if same else "")))
        put(out, _curve(curve))


def _differ(rests_on: Mapping[str, str]) -> bool:
    """Whether rows rest on different numbers of trials and processes, so that each has to say its own."""
    return len(set(filter(None, rests_on.values()))) > 1


def _told(view: StudyView | CurveView, row: Overview) -> list[str]:
    """What each row says of its numbers, where rows differ in it: what energies cover, trials and processes."""
    basis = [str(row.basis or "–")] if view.mixed else []
    return basis + ([view.rests_on[row.id].removeprefix("n = ") or "–"] if _differ(view.rests_on) else [])


def _cell(column: Column, row: Overview, unlike: Collection[str]) -> str:
    quantity = row.metrics.get(column.metric.name)
    if quantity is not None and quantity.value is not None:
        return amount(quantity, quantity.value, column.divisor, brief=True)
    return f"– ({quantity.reason})" if quantity is not None and column.metric.name in unlike else "–"


def _outcome(row: Overview) -> str:
    """How it ended, and what makes it not valid; a note below says why it failed."""
    return f"{state_of(row)}: {', '.join(row.errors)}" if row.errors and not row.error else state_of(row)


def prefixes(ids: Sequence[str]) -> dict[str, str]:
    """The beginning of each id that is enough for `llem show`."""
    length = next(n for n in range(8, 65) if len({one[:n] for one in ids}) == len(set(ids)))
    return {one: one[:length] for one in ids}


def _curve(view: CurveView) -> Any:
    notes = [_note(row) for row in view.rows]
    told = [*(["energy"] if view.mixed else []), *(["n"] if _differ(view.rests_on) else [])]
    table = grid(*(column.heading for column in view.columns), *told, *([""] if any(notes) else []))
    for column in table.columns[: len(view.columns)]:
        column.justify = "right"
    for row, note in zip(view.rows, notes, strict=True):
        cells = [_point(column.metric, row.metrics.get(column.metric.name)) for column in view.columns]
        table.add_row(*map(plain, (*cells, *_told(view, row), *([note] if any(notes) else []))))
    return table


def _note(row: Overview) -> str:
    return "over-saturated" if "over_saturated" in row.codes else "" if row.valid else "not valid"


def _point(metric: Metric, quantity: Quantity | None) -> str:
    """A share in percent, a time with its unit, all else without: the heading names it."""
    if quantity is None or quantity.value is None:
        return "–"
    if not metric.unit:
        return f"{quantity.value:.0%}"
    return short(quantity) if metric.unit == "s" else number(quantity.value)


# where the wall clock went

#: Seconds from which time of several workers at once is one of workers side by side, and no matter of two clocks.
OVERLAP_S = 0.1


def render_time(spent: TimeSpent) -> None:
    """Print the parts with their share of the sum, and what the sum leaves out."""
    out = screen()
    if spent.parts:
        shared = any(part.shared_by > 1 for part in spent.parts)
        table = grid("part", "time", "share", *(["shared by"] if shared else []), "")
        for part in spent.parts:
            cells = [
                part.part,
                f"{part.seconds:.3f} s",
                f"{part.seconds / spent.whole_s:.1%}" if spent.whole_s else "–",
            ]
            cells += [f"{part.shared_by} experiments" if part.shared_by > 1 else ""] if shared else []
            table.add_row(*map(plain, [*cells, PARTS.get(part.part, "")]))
        put(out, table)
        out.print(plain(f"\n{_whole(spent)}"))
    if spent.untold:
        what = f"{_engines(spent.untold)} ran of which it does not tell"
        out.print(plain(f"events.jsonl in the folder of the study is missing or damaged: {what}"))
    if spent.untimed:
        what = "has" if spent.untimed == 1 else "have"
        why = "an earlier version of llem measured, whose events had none"
        out.print(plain(f"{_engines(spent.untimed)} {what} no times: {why}"))
    if not (spent.parts or spent.untold or spent.untimed):
        out.print(plain("no times yet: no worker was launched"))


def _engines(number: int) -> str:
    return f"{number} engine process{'' if number == 1 else 'es'}"


def _whole(spent: TimeSpent) -> str:
    whole = f"in all {spent.whole_s:.3f} s, {_engines(spent.workers)}"
    if (spent.overlap_s or 0.0) > OVERLAP_S:
        return f"{whole} side by side within {spent.wall_s:.3f} s"
    if any(part.shared_by > 1 for part in spent.parts):
        return f"{whole}; what several experiments share is counted whole for each of them"
    return whole
