"""Tables of ratios for a terminal: the summary of a study, what its axes do, and two experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.compare import Comparison
from llem.analysis.differing import Differing, What
from llem.analysis.effects import Effect
from llem.analysis.overview import Overview, basis_of
from llem.analysis.pairs import PairEffect
from llem.analysis.variance import ASSUMED_SD
from llem.metrics.catalogue import metric_of
from llem.metrics.quality import family_of
from llem.reports.configurations import configuration
from llem.reports.figures import amount, figure, grid, number, p_value, plain, put, screen, setting, settings
from llem.reports.notes import findings_text
from llem.reports.ratios import Best, ComparisonView, RatioTable, SummaryView
from llem.reports.tables import prefixes
from llem.reports.views import rated

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_comparison", "render_ratios", "render_summary"]


# a summary


def render_summary(view: SummaryView) -> None:
    """Print outcomes, findings, the best, and what each axis does."""
    out = screen()
    states = ", ".join(f"{count:,} {state}" for state, count in view.states.items())
    out.print(plain(f"{view.count:,} experiments: {states}"))
    for error, count in view.errors.items():
        out.print(plain(f"  {count:,} × {error}"))
    out.print(plain(f"{view.publishable:,} publishable{findings_text(view.codes)}"))
    if view.same:
        out.print(plain(f"all: {view.same}"))
    for note in view.notes:
        out.print(plain(note))
    for one in view.best:
        for line in _best(one):
            out.print(plain(line))
    if view.tables:
        out.print()
        render_ratios(view.tables, out)
    out.print(plain("every experiment in a line: `llem show DIR --all`; as a table: `llem export DIR`"), style="dim")


#: So many ids of results that are not separated from the best are named.
NAMED = 3


def _best(one: Best) -> Iterator[str]:
    quantity = one.row.metrics[one.metric.name]
    basis = basis_of(quantity)
    told = f"{figure(quantity)}{f' ({basis})' if basis else ''}  {one.row.id}  {settings(one.values)}".rstrip()
    more = len(one.ties) - NAMED
    names = ", ".join(one.ties[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
    yield f"best {one.metric.name}: {told}"
    if names:
        yield f"  not separated from: {names}"


# what axes do


def render_ratios(tables: Sequence[RatioTable], console: Console | None = None) -> None:
    """Print a table for each metric: a line for each value of the axis, or for each pair."""
    out = screen(console)
    pairs = [one for view in tables for one in view.rows if isinstance(one, PairEffect)]
    ids = prefixes(sorted({name for one in pairs for name in (one.reference_id, one.value_id)})) if pairs else {}
    for view in tables:
        against = f"against {setting(view.reference)}, all else equal"
        if pairs:
            against = f"each experiment B against A with {setting(view.reference)}"
        basis = f" ({view.basis})" if view.basis else ""
        out.print(plain(f"{view.metric.name}{basis}, by {view.axis}: {against}"))
        put(out, _ratios(view, ids))
        out.print()
    for note in dict.fromkeys(note for view in tables for note in _ratio_notes(view.rows)):
        out.print(plain(note), style="dim")


def _ratios(view: RatioTable, ids: Mapping[str, str]) -> Any:
    sides = ["A", "B", "B / A"] if ids else ["ratio"]
    heads = [view.axis.rpartition(".")[2], *sides, "95 % interval", "p (Holm)", *([] if ids else ["pairs"])]
    energy = ["energy"] if view.mixed else []
    table = grid(*heads, *energy, "", words=[len(heads)] if energy else [])
    for one in view.rows:
        cells = [setting(one.value)]
        if isinstance(one, PairEffect):
            cells += [ids[one.reference_id], ids[one.value_id], *_ratio(one)]
        else:
            cells += [*_ratio(one), str(len(one.pairs))]
        cells += [" and ".join(map(str, one.bases))] if view.mixed else []
        table.add_row(*map(plain, (*cells, one.verdict)))
    return table


def _ratio(one: Effect | PairEffect) -> tuple[str, str, str]:
    if one.ratio is None:
        return "–", "", ""
    if one.low is None or one.high is None or one.p_adjusted is None:
        return number(one.ratio), "", ""
    half = (one.high - one.low) / 2
    return number(one.ratio, half), f"{number(one.low, half)} … {number(one.high, half)}", p_value(one.p_adjusted)


def _ratio_notes(rows: Sequence[Effect | PairEffect]) -> Iterator[str]:
    if any(len(one.bases) > 1 for one in rows):
        yield "energies differ in what they cover, or one is measured and one modelled: they have no ratio"
    yield from _assumptions({what for one in rows for what in one.assumed})
    if any(family_of(one.metric) for one in rows):
        yield "quality is evaluated once, whatever the trials: `llem show DIR --quality` pairs items, for intervals"
    measured = [one for one in rows if not family_of(one.metric)]
    if any(one.low is None and one.ratio is not None for one in measured if isinstance(one, PairEffect)):
        yield "no interval: fewer than two trials, or the metric has no value for each trial"
    effects = [one for one in rows if isinstance(one, Effect)]
    if any(one.between == "measured" for one in effects):
        yield "measured: what varies between engine processes, by the experiments with two or more of them"
    if any(len(one.pairs) > 1 for one in effects):
        yield "a ratio is the mean over these pairs, and no statement on other ones"
    if effects and effects[0].averaged:
        yield f"averaged over {', '.join(effects[0].averaged)}: only some values of this axis have that axis"
    if effects and not any(one.pairs for one in effects):
        yield "no two valid points differ in this axis alone"
    elif any(one.low is None and len(one.pairs) == 1 and not family_of(one.metric) for one in effects):
        yield "one pair without intervals of its own gives none; with several trials it does"


def _assumptions(what: set[str]) -> Iterator[str]:
    if "processes" in what:
        yield (
            f"assumed: a standard deviation of {ASSUMED_SD:.0%} between engine processes, which `processes: 2` or more "
            "measures"
        )
    if "drift" in what:
        yield (
            f"assumed: a standard deviation of {ASSUMED_SD:.0%} for drift, which the order does not separate; more "
            "over a longer distance where the order is not random"
        )
    if "boards" in what:
        yield "assumed: ± 5 % for the calibration of each board, where A and B ran on different ones"
    if "machines" in what:
        yield "assumed: ± 5 % for each machine, where A and B ran on different ones"


# two experiments


def render_comparison(view: ComparisonView) -> None:
    """What differs between A and B; a line per metric with the ratio B / A; memory and latencies; how it was found."""
    console = screen()
    for letter, row in (("A", view.a), ("B", view.b)):
        energy = f" · energy: {row.basis}" if row.basis else ""
        console.print(plain(f"{letter} = {row.id}  {configuration(row)}{energy}"))
    console.print()
    _differing(view.differs, console)
    table = grid("metric", "A", "B", "B / A, 95 %", "p", "P(B better)", "B is", words=[0])
    for one in view.rows:
        ratio, metric = one.ratio, metric_of(one.metric)
        low, high = number(ratio.low, ratio.half_width), number(ratio.high, ratio.half_width)
        a, b = (_side(row, one.metric, value) for row, value in ((view.a, one.a), (view.b, one.b)))
        cells = (
            f"{rated(metric)}, {one.unit}".removesuffix(f", {metric.unit if metric.unit.endswith('/s') else ''}"),
            a,
            b,
            f"{number(ratio.value, ratio.half_width)} [{low}, {high}]",
            p_value(one.p_adjusted),
            "–" if one.probability_better is None else _chance(one.probability_better),
            one.verdict,
        )
        table.add_row(*map(plain, cells))
    put(console, table)
    console.print()
    if view.further:
        _further(view, console)
    if view.prices:
        console.print(plain(view.prices))
    for line in _how(view.rows):
        console.print(plain(line))


def _chance(probability: float) -> str:
    """To three decimals; nothing is surely 0 or 1."""
    least = 0.001
    return "< 0.001" if probability < least else "> 0.999" if probability > 1 - least else f"{probability:.3f}"


def _side(row: Overview, metric: str, value: float) -> str:
    """The mean of one side, with its own interval where the result has one."""
    found = row.metrics.get(metric)
    return number(value) if found is None or found.value is None else amount(found, found.value, brief=True)


#: So many differences of each kind are shown.
DIFFERENCES = 8
#: What each kind of difference is of, in words.
KINDS: Mapping[What, str] = {
    "setting": "settings",
    "workload": "workload",
    "effective": "what the engine reports",
    "place": "GPUs",
    "software": "machine and software",
}


def _differing(differs: Sequence[Differing], console: Console) -> None:
    """A line for each difference, the settings first; what A and B have alike is named below."""
    table = grid("what differs", "A", "B", words=[0, 1, 2])
    more = []
    for kind, words in KINDS.items():
        found = [one for one in differs if one.what == kind]
        for one in found[:DIFFERENCES]:
            path = f"engine: {'.'.join(one.path.split('.')[-2:])}" if kind == "effective" else one.path
            table.add_row(plain(path), plain(one.a), plain(one.b))
        if len(found) > DIFFERENCES:
            more.append(f"{len(found) - DIFFERENCES:,} more of {words}")
    if differs:
        put(console, table)
    alike = [words for kind, words in KINDS.items() if not any(one.what == kind for one in differs)]
    told = [f"alike: {', '.join(alike)}"] if alike else []
    told += [f"{', '.join(more)}: `llem show DIR A --json` has all"] if more else []
    for line in told:
        console.print(plain(line), style="dim")
    console.print()


def _further(view: ComparisonView, console: Console) -> None:
    """Memory and latencies with their own intervals. Their ratio has none, and no test."""
    table = grid("not tested", "A", "B", "B / A")
    for metric, a, b in view.further:
        ratio = "–" if a is None or b is None or not a.value or b.value is None else f"{b.value / a.value:.2f}"
        name = metric.heading or metric.label
        table.add_row(*map(plain, (name, *("–" if one is None else figure(one) for one in (a, b)), ratio)))
    put(console, table)
    console.print()


#: How a ratio was found, by its method.
METHODS: Mapping[str, str] = {
    "paired_by_block": "{n} pairs of trials that took turns in the same engine {processes}",
    "processes": "means of engine processes; their variance is measured, over all experiments of this backend",
    "trials": "{n} trials of each, as independent samples",
}


def _how(rows: Sequence[Comparison]) -> Iterator[str]:
    """How the comparison was made, what its intervals cover, and what its figures mean."""
    first = rows[0]
    headline = next((one for one in rows if one.role == "headline"), first)
    processes = "processes" if first.covers.startswith("over") else "process"
    yield f"{METHODS[first.method].format(n=first.ratio.n, processes=processes)}; the intervals cover: {first.covers}"
    tested = metric_of(headline.metric).label
    yield f"tested: {tested}; all other metrics are secondary, and their p is corrected for their number (Holm)"
    yield from dict.fromkeys(f"assumed: {note}" for one in rows for note in one.notes)
    if first.probability_better is not None:
        yield f"P(B better) is with {headline.prior}"
    yield "B / A is the ratio of geometric means. If trials vary widely, it differs from the ratio of the means shown."
