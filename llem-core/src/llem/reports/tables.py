"""Views of several experiments as text for a terminal: a study, its summary, what axes do, a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.overview import Overview, basis_of, state_of
from llem.findings import REASONS
from llem.metrics.catalogue import metric_of
from llem.metrics.metric import Metric
from llem.reports.figures import amount, figure, grid, number, p_value, plain, put, screen, setting, settings, short
from llem.reports.ratios import ComparisonView, RatioRow, RatioTable, SummaryView
from llem.reports.views import CurveView, StudyView, configuration
from llem.store.models import Quantity

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["headings", "prefixes", "render_comparison", "render_ratios", "render_study", "render_summary"]


# a study


def render_study(view: StudyView, console: Console | None = None) -> None:
    """Print a line for each experiment: what varies, the figures, the outcome; below, notes and curves."""
    out = screen(console)
    axes = headings(view.axes) if view.axes else ["configuration"]
    columns = [column.heading for column in view.columns]
    energy = ["energy of"] if view.mixed else []
    words = [*range(1, len(axes) + 1), len(axes) + len(columns) + len(energy) + 1]
    table = grid("id", *axes, *columns, *energy, "outcome", words=words)
    shown = prefixes([row.id for row in view.rows])
    for row in view.rows:
        values = view.values[row.id]
        cells = [setting(values[path]) if path in values else "" for path in view.axes] or [configuration(row)]
        figures = [_bare(row.metrics.get(column.metric.name)) for column in view.columns]
        basis = [str(row.basis or "–")] if view.mixed else []
        table.add_row(*(plain(cell) for cell in (shown[row.id], *cells, *figures, *basis, _outcome(row))))
    put(out, table)
    out.print()
    for line in _notes(view):
        out.print(plain(line), style="dim")
    for curve in view.curves:
        out.print()
        out.print(plain(f"{curve.configuration}, by arrivals"))
        put(out, _curve(curve))


def _bare(quantity: Quantity | None) -> str:
    return "–" if quantity is None or quantity.value is None else amount(quantity, quantity.value)


def _outcome(row: Overview) -> str:
    if row.error:
        return f"{row.outcome}: {row.error}"
    return f"{state_of(row)}: {', '.join(row.errors)}" if row.errors else state_of(row)


def _notes(view: StudyView) -> Iterator[str]:
    """What all rows share, why figures are missing (each reason once), how many are valid and what stands against."""
    if view.axes and view.same:
        yield f"all: {view.same}"
    for reason, names in view.missing.items():
        yield f"– in {', '.join(names)}: {REASONS.get(reason, reason)}"
    valid, publishable = (sum(getattr(row, name) for row in view.rows) for name in ("valid", "publishable"))
    yield f"{valid} of {len(view.rows)} valid, {publishable} publishable{_findings(view.codes)}"


def _findings(codes: Mapping[str, int]) -> str:
    return "; findings: " + ", ".join(f"{code} {count:,}" for code, count in codes.items()) if codes else ""


def prefixes(ids: Sequence[str]) -> dict[str, str]:
    """The beginning of each id that is enough for `llem show`."""
    length = next(n for n in range(8, 65) if len({one[:n] for one in ids}) == len(set(ids)))
    return {one: one[:length] for one in ids}


def headings(paths: Sequence[str]) -> list[str]:
    """Each path by its shortest ending that no other path has."""
    found = []
    for path in paths:
        steps = path.split(".")
        endings = [".".join(steps[-count:]) for count in range(1, len(steps) + 1)]
        alone = (end for end in endings if sum(other == end or other.endswith(f".{end}") for other in paths) == 1)
        found.append(next(alone, path))
    return found


def _curve(view: CurveView) -> Any:
    notes = [_note(row) for row in view.rows]
    extra = (["energy of"] if view.mixed else []) + ([""] if any(notes) else [])
    table = grid(*(column.heading for column in view.columns), *extra)
    for column in table.columns[: len(view.columns)]:
        column.justify = "right"
    for row, note in zip(view.rows, notes, strict=True):
        cells = [_point(column.metric, row.metrics.get(column.metric.name)) for column in view.columns]
        more = ([str(row.basis or "–")] if view.mixed else []) + ([note] if any(notes) else [])
        table.add_row(*map(plain, (*cells, *more)))
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


# a summary


def render_summary(view: SummaryView) -> None:
    """Print outcomes, findings, the best, and what each axis does."""
    out = screen()
    states = ", ".join(f"{count:,} {state}" for state, count in view.states.items())
    out.print(plain(f"{view.count:,} experiments: {states}"))
    for error, count in view.errors.items():
        out.print(plain(f"  {count:,} × {error}"))
    out.print(plain(f"{view.publishable:,} publishable{_findings(view.codes)}"))
    if view.same:
        out.print(plain(f"all: {view.same}"))
    for metric, row, values in view.best:
        quantity = row.metrics[metric.name]
        basis = basis_of(quantity)
        told = f"{figure(quantity)}{f' ({basis})' if basis else ''}  {row.id}  {settings(values)}"
        out.print(plain(f"best {metric.name}: {told}".rstrip()))
    for table in view.tables:
        out.print()
        render_ratios([table], out)
    out.print(plain("every experiment in a line: `llem show DIR --all`; as a table: `llem export DIR`"), style="dim")


# what axes do


def render_ratios(tables: Sequence[RatioTable], console: Console | None = None) -> None:
    """Print a table for each metric: a line for each value of the axis, or for each pair."""
    out = screen(console)
    ids = {name for table in tables for row in table.rows if row.pair for name in row.pair}
    known = prefixes(sorted(ids)) if ids else {}
    for view in tables:
        against = f"against {setting(view.reference)}, all else equal"
        if known:
            against = f"each experiment B against A with {setting(view.reference)}"
        basis = f" ({view.basis})" if view.basis else ""
        out.print(plain(f"{view.metric.name}{basis}, by {view.axis}: {against}"))
        put(out, _ratios(view, known))
        out.print()
    for note in dict.fromkeys(note for view in tables for note in _ratio_notes(view)):
        out.print(plain(note), style="dim")


def _ratios(view: RatioTable, known: Mapping[str, str]) -> Any:
    axis = view.axis.rpartition(".")[2]
    energy = ["energy of"] if view.mixed else []
    if known:
        table = grid(axis, "A", "B", "B / A", "95 % interval", "p (Holm)", *energy, "")
    else:
        table = grid(axis, "ratio", "95 % interval", "p (Holm)", "pairs", *energy, "")
    for row in view.rows:
        ids = [known[name] for name in row.pair] if row.pair else []
        count = [] if row.pair else [str(row.pairs)]
        bases = [" and ".join(map(str, row.bases))] if view.mixed else []
        table.add_row(*map(plain, (setting(row.value), *ids, *_ratio(row), *count, *bases, row.verdict)))
    return table


def _ratio(row: RatioRow) -> tuple[str, str, str]:
    if row.ratio is None:
        return "–", "", ""
    if row.low is None or row.high is None or row.p_adjusted is None:
        return number(row.ratio), "", ""
    half = (row.high - row.low) / 2
    return number(row.ratio, half), f"{number(row.low, half)} … {number(row.high, half)}", p_value(row.p_adjusted)


def _ratio_notes(view: RatioTable) -> Iterator[str]:
    if any(len(row.bases) > 1 for row in view.rows):
        yield "energies of different things, or measured against modelled: their ratio does not say which is better"
    if view.averaged:
        yield f"averaged over {', '.join(view.averaged)}, which only some values have"
    if any(row.pair for row in view.rows):
        if any(row.low is None for row in view.rows):
            yield "no interval: fewer than two trials, or a metric that trials do not have"
    elif not any(row.pairs for row in view.rows):
        yield "no two valid points differ in this axis alone"
    elif any(row.pairs == 1 for row in view.rows):
        yield "one pair gives no interval here; --pairs has that of its trials"


# two experiments


def render_comparison(view: ComparisonView) -> None:
    """A: and B: by id, configuration and what their energies cover; then one line per metric with the ratio B / A."""
    console = screen()
    for letter, row in (("A", view.a), ("B", view.b)):
        energy = f" · energy of {row.basis}" if row.basis else ""
        console.print(plain(f"{letter} = {row.id}  {configuration(row)}{energy}"))
    console.print()
    table = grid("metric", "A", "B", "B / A, 95 %", "p", "P(B better)")
    for one in view.rows:
        ratio = one.ratio
        low, high = number(ratio.low, ratio.half_width), number(ratio.high, ratio.half_width)
        table.add_row(
            _rated(metric_of(one.metric)),
            _with_unit(one.a, one.unit),
            _with_unit(one.b, one.unit),
            f"{number(ratio.value, ratio.half_width)} [{low}, {high}]",
            p_value(one.p_adjusted),
            f"{one.probability_better:.3f}" if one.same_basis else "–",
        )
    put(console, table)
    first = view.rows[0]
    paired = first.method == "paired_by_block"
    how = "pair by pair, as they took turns" if paired else "as independent samples (Welch)"
    console.print(
        f"\n{first.ratio.n} trials of each, compared {how}; p is corrected for the number of metrics (Holm)\n"
        "B / A is of geometric means; where trials scatter widely it is not that of the means beside it"
    )


def _rated(metric: Metric) -> str:
    return f"{metric.label}/s" if metric.unit.endswith("/s") else metric.label


def _with_unit(value: float, unit: str) -> str:
    """A rate's unit stands in the metric's name already."""
    return number(value) if unit.endswith("/s") else f"{number(value)} {unit}"
