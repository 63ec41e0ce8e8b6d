"""What a notebook shows of results: HTML made from the views that the console has too.

All text is escaped. Styles stand at their elements and take the page's colours, so they fit a dark and a light
notebook, and nothing is loaded. Of many results the first are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from llem.analysis.collection import Front, Results
from llem.analysis.compare import Compared
from llem.analysis.decision import Recommendation
from llem.errors import LlemError
from llem.findings import FINDINGS, REASONS
from llem.foreign.shown import visible
from llem.reports.console import figures_table, head_lines, latencies_table
from llem.reports.decision_tables import STANDINGS, front_table, recommendation_table
from llem.reports.front import front_view
from llem.reports.ratio_tables import comparison_notes, comparison_table
from llem.reports.ratios import comparison_view
from llem.reports.recommendation import metrics_read, recommendation_view
from llem.reports.svg import COLOURS, tradeoff_svg
from llem.reports.tables import study_table
from llem.reports.tradeoff import TradeOff, drawn_of
from llem.reports.views import metrics_shown, result_view, study_view
from llem.store.models import Quantity, Result

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["html"]

#: Results in a table at most, and contenders of a recommendation.
ROWS, CONTENDERS = 50, 10
CELL = "padding:2px 12px 2px 0;text-align:left;vertical-align:top;background:transparent"
HEAD = f"{CELL};border-bottom:1px solid rgba(128,128,128,.5);font-weight:600"
FAINT = "opacity:.7"
SEVERITIES = {"error": "#d0453f", "warning": "#d28a12", "info": "inherit"}


def html(shown: Any) -> str:
    """An object of llem as HTML. An error that a user can cause is told in its place."""
    try:
        inner = "\n".join(_part(shown))
    except LlemError as error:
        inner = _line(f"llem cannot show this: {error}", f"color:{COLOURS['tie']}")
    return f'<div style="font-size:13px;line-height:1.45;overflow-x:auto">\n{inner}\n</div>'


def _part(shown: Any) -> Iterator[str]:
    for kind, draw in DRAWN:
        if isinstance(shown, kind):
            yield from draw(shown)
            return
    yield _line(repr(shown))


# pieces


def _text(text: str) -> str:
    return escape(visible(text), quote=True)


def _line(text: str, style: str = "") -> str:
    return f'<div style="white-space:pre-wrap;{style}">{_text(text)}</div>'


def _small(lines: Iterable[str]) -> Iterator[str]:
    return (_line(line, f"{FAINT};font-size:12px") for line in lines if line)


def _table(made: Table) -> str:
    """A table of `llem.reports.figures.grid`, with its bold rows."""
    heads = [str(column.header) for column in made.columns]
    whole = [f"{CELL};white-space:nowrap" if column.no_wrap else CELL for column in made.columns]
    lines = [f"<thead>{_row('th', [HEAD] * len(heads), heads)}</thead>"] if any(heads) else []
    lines.append("<tbody>")
    for row, cells in zip(made.rows, zip(*(column.cells for column in made.columns), strict=True), strict=True):
        bold = ";font-weight:600" if row.style == "bold" else ""
        lines.append(_row("td", [style + bold for style in whole], map(str, cells)))
    return "\n".join(
        [
            '<table style="border-collapse:collapse;margin:6px 0;border:0;font-size:inherit;color:inherit">',
            *lines,
            "</tbody></table>",
        ]
    )


def _row(kind: str, styles: Iterable[str], cells: Iterable[str]) -> str:
    scope = 'scope="col" ' if kind == "th" else ""
    made = "".join(
        f'<{kind} {scope}style="{style}">{_text(one)}</{kind}>' for style, one in zip(styles, cells, strict=True)
    )
    return f'<tr style="background:transparent">{made}</tr>'


# what is shown


def _quantity(one: Quantity) -> Iterator[str]:
    yield _line(str(one), "font-weight:600")
    if one.value is None:
        yield from _small([REASONS.get(one.reason or "", "")])


def _result(result: Result) -> Iterator[str]:
    view = result_view(result)
    first, second = head_lines(view)
    yield _line(first, "font-weight:600")
    colour = "" if result.valid else f"color:{SEVERITIES['error']}"
    yield _line(second, colour)
    if result.error:
        yield _line(result.error, f"color:{SEVERITIES['error']}")
    yield _table(figures_table(view))
    if view.latencies:
        yield _table(latencies_table(view))
        yield from _small([f"latencies: {view.latencies_rest_on}" if view.latencies_rest_on else ""])
    for found in result.findings:
        yield _line(f"{found.severity} {found.code}: {found.message}", f"color:{SEVERITIES[found.severity]}")
        if found.severity != "info" and found.code in FINDINGS:
            yield from _small([f"→ {FINDINGS[found.code].remedy}"])


def _results(results: Results) -> Iterator[str]:
    if not results:
        yield _line(f"{results!r}: there is no result yet")
        return
    first = results[:ROWS]
    rows = first.overviews(metrics_shown("study", "effects", "curve", "commands", prices=results.prices))
    more = len(results) - len(first)
    further = [f"the first {len(first)} of {len(results):,}; all are in `results.frame()`"] if more else []
    view = study_view(rows, results.study, further, results.prices)
    yield _table(study_table(view))
    yield from _small(view.notes)


def _front(front: Front) -> Iterator[str]:
    x, y = front.metrics
    view = front_view(front, x, y, count=front.count)
    yield _table(front_table(view, ROWS))
    yield from _small(view.notes)
    yield from _plot(drawn_of(front, (x, y)))


def _compared(found: Compared) -> Iterator[str]:
    rows = {row.id: row for row in found.results.of([found.a, found.b]).overviews(metrics_shown("compare"))}
    view = comparison_view(rows[found.a], rows[found.b], found, found.results.prices)
    for letter, row in (("A", view.a), ("B", view.b)):
        yield _line(f"{letter} = {row.id}")
    yield _table(comparison_table(view))
    for warning in view.warnings:
        yield _line(f"warning: {warning}", f"color:{SEVERITIES['warning']}")
    yield from _small([view.prices, *comparison_notes(view.rows)])


def _recommendation(found: Recommendation) -> Iterator[str]:
    """The verdict, the first contenders, a plot, why the others are out, and what all of it rests on."""
    results: Results | None = found.results
    if results is None:
        yield _line(str(found))
        return
    rows = {row.id: row for row in results.of([one.id for one in found.contenders]).overviews(metrics_read(found))}
    metric = results.metric_of(found.objective)
    view = recommendation_view(found, rows.__getitem__, metric=metric, top=CONTENDERS, folder=str(results.store.path))
    yield _line(view.verdict[0], "font-weight:600;font-size:14px")
    yield from map(_line, view.verdict[1:])
    for warning in view.warnings:
        yield _line(f"warning: {warning}", f"color:{SEVERITIES['warning']}")
    if view.rows:
        yield _table(recommendation_table(view))
    more = len(found.contenders) - len(view.rows)
    kept = "; in brackets: the probability that the limit is kept" if found.limits else ""
    yield from _small([f"{more:,} more contenders: `.contenders`" if more else "", f"±: 95 % of the posterior{kept}"])
    ranked = results.of([one.id for one in found.contenders])
    yield from _plot(drawn_of(ranked, decision=found), {one.standing for one in found.contenders})
    yield from map(_line, view.others)
    yield from _small([f"rests on: {'; '.join(view.rests_on)}" if view.rests_on else ""])


def _plot(drawn: TradeOff | str, standings: Collection[str] = ()) -> Iterator[str]:
    """The plot with its notes and what its colours say; or why there is none."""
    if isinstance(drawn, str):
        yield from _small([drawn])
        return
    yield f'<div style="margin:8px 0">\n{tradeoff_svg(drawn)}\n</div>'
    names = [(COLOURS[one], STANDINGS[one]) for one in STANDINGS if one in standings]
    if names:
        marks = " &nbsp; ".join(f'<span style="color:{colour}">●</span> {_text(name)}' for colour, name in names)
        yield f'<div style="font-size:12px">{marks}</div>'
    yield from _small(drawn.notes)


#: What draws each class; a class stands before the one that it derives from.
DRAWN: tuple[tuple[type, Callable[[Any], Iterator[str]]], ...] = (
    (Quantity, _quantity),
    (Result, _result),
    (Front, _front),
    (Results, _results),
    (Compared, _compared),
    (Recommendation, _recommendation),
)
