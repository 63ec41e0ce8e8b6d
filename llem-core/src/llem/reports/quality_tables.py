"""Tables of quality for a terminal: a study's configurations against its reference, and two experiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llem.analysis.quality_difference import QualityDifference
from llem.metrics.quality import SCORE
from llem.reports.figures import amount, grid, number, p_value, plain, put, screen, two
from llem.reports.quality import QualityColumn, QualityRow, QualityTable, difference_text, quality_notes, ratio_text
from llem.reports.tables import headings, prefixes
from llem.store.models import Quantity

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_quality", "render_quality_of_two"]


def render_quality(tables: Sequence[QualityTable], console: Console | None = None) -> None:
    """Print a table for each score, with notes below."""
    out = screen(console)
    for place, table in enumerate(tables):
        if place:
            out.print()
        better = "more" if table.rows[0].found.higher_is_better else "less"
        out.print(plain(f"{table.metric} ({table.score}), {better} is better"))
        put(out, _grid(table))
        out.print()
        for note in table.notes:
            out.print(plain(note), style="dim")


def _grid(table: QualityTable) -> object:
    axes = headings(table.axes) if table.axes != ("",) else ["configuration"]
    ratio = any(row.found.difference and row.found.difference.ratio is not None for row in table.rows)
    counts = any(row.found.difference and row.found.difference.lost is not None for row in table.rows)
    energies = [f"{one.heading} ({one.basis})" if one.basis else one.heading for one in table.columns]
    found = [
        *(["ratio, 95 %"] if ratio else []),
        "p (Holm)",
        *(["lost/gained"] if counts else []),
        "smallest loss",
        "items",
    ]
    heads = ["id", *axes, table.score, "difference, 95 %", *found, *energies, ""]
    grown = grid(*heads, words=[*range(1, len(axes) + 1)])
    shown = prefixes([row.found.experiments[0] for row in table.rows])
    for row in table.rows:
        one = row.found
        more = len(one.experiments) - 1
        name = shown[one.experiments[0]] + (f" +{more}" if more else "")
        cells = [name, *row.values.values(), _score(one), *_difference(one, ratio=ratio, counts=counts)]
        grown.add_row(*map(plain, (*cells, *(_energy(row, column) for column in table.columns), _said(one))))
    return grown


def _score(one: QualityDifference) -> str:
    return amount(Quantity(one.value, "", one.low, one.high), one.value)


def _difference(one: QualityDifference, *, ratio: bool, counts: bool) -> Iterator[str]:
    found = one.difference
    if found is None:
        yield from ("–", *([""] if ratio else []), "", *([""] if counts else []), "", str(one.n))
        return
    yield difference_text(found)
    if ratio:
        yield ratio_text(found)
    yield "–" if one.p_adjusted is None else p_value(one.p_adjusted)
    if counts:
        yield "–" if found.lost is None else f"{found.lost}/{found.gained}"
    yield "–" if found.smallest_loss is None else two(found.smallest_loss)
    yield str(found.n) if found.clusters == found.n else f"{found.n} ({found.clusters} clusters)"


def _energy(row: QualityRow, column: QualityColumn) -> str:
    found = row.energies[column.metric]
    values = [one.value for one in found if one.value is not None]
    if len(found) == 1 and found[0].value is not None:
        return amount(found[0], found[0].value)
    return f"{number(min(values))} to {number(max(values))}" if values else "–"


def _said(one: QualityDifference) -> str:
    if one.reason == "is_reference":
        return "reference"
    return one.verdict or ("not compared" if one.difference is None else "")


def render_quality_of_two(found: Sequence[QualityDifference], b: str, console: Console | None = None) -> None:
    """Print a line for each score that both have: B less A, item by item.

    Args:
        found: the rows of both, with A as the reference. b: id of B.
    """
    out = screen(console)
    compared = [one for one in found if b in one.experiments]
    values = {one.metric: one.value for one in found if one.reason == "is_reference"}
    table = grid("quality", "A", "B", "B - A, 95 %", "p (Holm)", "lost/gained", "smallest loss", "items", "B is")
    for one in compared:
        shared = one.reason == "is_reference"
        cells = ["same evaluation", "", "", "", str(one.n)] if shared else _difference(one, ratio=False, counts=True)
        name = f"{one.metric.removeprefix(SCORE)} ({one.score})"
        table.add_row(*map(plain, (name, number(values[one.metric]), number(one.value), *cells, one.verdict)))
    put(out, table)
    out.print()
    for note in dict.fromkeys(note for one in compared for note in _notes(one)):
        out.print(plain(note))


def _notes(one: QualityDifference) -> Iterator[str]:
    if one.reason == "is_reference":
        yield "A and B ran on one engine configuration, which was evaluated once"
    else:
        yield from (note for note in quality_notes([one]) if not note.startswith("differences are to"))
