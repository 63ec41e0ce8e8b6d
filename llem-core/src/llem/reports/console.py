"""A Result as text for a terminal: the headline first, every number with its interval and its scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llem.analysis.prices import Prices
from llem.findings import FINDINGS, REASONS
from llem.metrics.catalogue import shown
from llem.reports.figures import figure, grid, number, plain, put, screen, short, two
from llem.reports.notes import stated_notes
from llem.reports.views import ResultView, result_view
from llem.store.models import DomainMetrics, Quantity, Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_result"]

STYLES: Mapping[str, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}


def _basis(quantity: Quantity) -> str:
    """What the number covers and what its interval rests on, in few words."""
    if quantity.value is None:
        return REASONS.get(quantity.reason or "", "").rstrip(".")
    lower = "lower is better" if quantity.better == "lower" else ""
    return " · ".join(filter(None, (quantity.scope, quantity.kind, quantity.score, quantity.rests_on, lower)))


def render_result(
    result: Result, console: Console | None = None, prices: Prices | None = None, gpus: int | None = None
) -> None:
    """Print one Result to `console` (standard output when None). For `prices` and `gpus` see `result_view`."""
    out, view = screen(console), result_view(result, prices, gpus)
    _head(view, out)
    if result.error:
        out.print(plain(f"  {result.error}"), style="red")
    _metrics(view, out)
    if view.prices:
        out.print(plain(view.prices), style="dim")
    if view.latencies:
        out.print()
        put(out, _latencies(view))
        if view.latencies_rest_on:
            out.print(plain(f"latencies: {view.latencies_rest_on}; intervals are in --json"), style="dim")
    for note in stated_notes(result.effective):
        out.print(plain(note), style="dim")
    if result.domains:
        out.print()
        _domains(result, out)
    _findings(result, out)


def _metrics(view: ResultView, out: Console) -> None:
    """The metrics as rows; the rest is in `--json`."""
    table = grid("", "", "", words=[2])
    headline = shown("result")[0]
    for metric, quantity in view.figures:
        style = "bold" if metric is headline else ""
        table.add_row(plain(metric.label), plain(figure(quantity)), plain(_basis(quantity)), style=style)
    put(out, table)


def _latencies(view: ResultView) -> Any:
    """Latencies by percentile, without their intervals."""
    parts = list(dict.fromkeys(part for parts in view.latencies.values() for part in parts))
    table = grid("latency", *parts)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, found in view.latencies.items():
        table.add_row(plain(label), *[plain(short(found.get(part))) for part in parts])
    return table


def _head(view: ResultView, out: Console) -> None:
    result = view.result
    out.print(plain(view.configuration), style="bold")
    trials = f"{result.trials} trial{'' if result.trials == 1 else 's'}"
    style = "green" if result.publishable else "" if result.valid else "red"
    out.print(
        plain(f"{result.id} · {result.outcome} · {trials} · {result.weights} weights · {view.state}"), style=style
    )
    out.print()


def _short(domain: str) -> str:
    """`gpu:GPU-1234abcd-…` to its first twelve characters."""
    scope, _, rest = domain.partition(":")
    return f"{scope}:{rest[:12]}" if rest else scope


def _domains(result: Result, out: Console) -> None:
    table = grid("domain", "gross J", "net J", "W", "idle W", "by")
    for domain in result.domains:
        quantities = (domain.energy_j, domain.energy_net_j, domain.power_w, domain.idle_power_w)
        table.add_row(
            plain(_short(domain.domain)),
            *[plain("–" if q.value is None else number(q.value)) for q in quantities],
            plain(f"{domain.meter} ({domain.kind})"),
        )
    put(out, table)
    for domain in result.domains:
        if 0 < domain.energy_j.n < result.trials:
            out.print(plain(f"{_short(domain.domain)}: {domain.energy_j.n} of {result.trials} trials ran there"))
    for domain in result.domains:
        if domain.budget is not None:
            out.print(plain(f"{_short(domain.domain)} gross, error: {_note(domain)}"), style="dim")


def _note(domain: DomainMetrics) -> str:
    """The error budget in joules, and how the two instruments compare."""
    budget = domain.budget
    if budget is None:
        return "not stated"
    parts = {"tick": budget.tick_j, "gap": budget.gap_j, "repeat": budget.repeat_j, "sensor": budget.sensor_j}
    words = [f"{name} {'not stated' if joules is None else two(joules)}" for name, joules in parts.items()]
    cross = domain.cross_ratio.value
    if budget.baseline_j is not None:
        words.append(f"of net also baseline {two(budget.baseline_j)}")
    return ", ".join(words) + " J" + (f"; counter/integrated {cross:.4f}" if cross is not None else "")


def _findings(result: Result, out: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    if not result.findings:
        return
    out.print()
    for found in result.findings:
        out.print(Text.assemble((f"{found.severity} ", STYLES[found.severity]), (found.code, "bold")))
        out.print(Padding(plain(found.message), (0, 0, 0, 2), expand=False))
        remedy = FINDINGS[found.code].remedy if found.code in FINDINGS else ""
        if remedy and found.severity != "info":
            out.print(Padding(Text(f"→ {remedy}", style="dim"), (0, 0, 0, 2), expand=False))
