"""A Result, or several, as text for a terminal: the headline first, every number with its interval and its scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llem.analysis.overview import state_of
from llem.findings import FINDINGS, REASONS
from llem.reports.figures import bare, figure, grid, number, plain, put, screen, two
from llem.reports.serving import load_text, percentiles, render_curves
from llem.store.models import DomainMetrics, Quantity, Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_result", "render_results"]

#: What is printed, in this order; the rest is in `--json`.
ROWS: tuple[tuple[str, str], ...] = (
    ("energy_per_output_token_j", "energy per output token"),
    ("energy_per_token_j", "energy per token in + out"),
    ("energy_per_request_j", "energy per request"),
    ("energy_j", "window energy, gross"),
    ("energy_net_j", "window energy, net of idle"),
    ("power_w", "power"),
    ("output_tokens_per_s", "output tokens"),
    ("requests_per_s", "requests"),
    ("request_rate", "arrivals"),
    ("capacity_share", "share of capacity"),
    ("in_flight_mean", "requests in flight"),
    ("goodput_requests_per_s", "goodput"),
    ("slo_attainment", "share within limits"),
    ("energy_per_good_request_j", "energy per good request"),
    ("duration_s", "window duration"),
    ("ttft_s", "time to first token"),
    ("ttft_p99_s", "time to first token, p99"),
    ("tpot_s", "time per further token"),
    ("tpot_p99_s", "time per further token, p99"),
    ("itl_chunk_p99_s", "gap between tokens, p99"),
    ("e2el_s", "time per request"),
    ("e2el_p99_s", "time per request, p99"),
    ("mfu", "share of peak FLOP/s"),
    ("mbu", "share of peak bandwidth"),
    ("peak_memory_bytes", "peak memory"),
)
#: Reasons that need no line of their own: nobody expects the number.
QUIET = frozenset({"not_requested", "no_gpu", "offline_load", "closed_load"})
STYLES: Mapping[str, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}


def _basis(quantity: Quantity) -> str:
    """What the number covers and what its interval rests on, in few words."""
    if quantity.value is None:
        return REASONS.get(quantity.reason or "", "").rstrip(".")
    words = [word for word in (quantity.scope, quantity.kind) if word]
    method = {
        "student_t": f"n = {quantity.n}",
        "bootstrap": f"{quantity.n} batches",
        "block_bootstrap": f"{quantity.n} runs of requests",
        "instrument": "n = 1, instrument's bound",
        "single_trial": "n = 1",
        "exact": "exact",
    }
    return " · ".join([*words, method.get(quantity.method, "")]).strip(" ·")


def render_result(result: Result, console: Console | None = None) -> None:
    """Print one Result to `console` (standard output when None)."""
    out = screen(console)
    _head(result, out)
    if result.error:
        out.print(f"  {result.error}", style="red", markup=False)
    _metrics(result, out)
    if (table := percentiles(result)) is not None:
        out.print()
        put(out, table)
    if result.domains:
        out.print()
        _domains(result, out)
    _findings(result, out)


def _metrics(result: Result, out: Console) -> None:
    """The metrics as rows. A reason is told once: what is missing for the same reason is left to `--json`."""
    table = grid("", "", "", words=[2])
    told: set[str | None] = set(QUIET)
    for name, label in ROWS:
        quantity = result.metrics.get(name)
        if quantity is None or (quantity.value is None and quantity.reason in told):
            continue
        if quantity.value is None:
            told.add(quantity.reason)
        style = "bold" if name == ROWS[0][0] else ""
        table.add_row(label, plain(figure(quantity)), plain(_basis(quantity)), style=style)
    put(out, table)


def _head(result: Result, out: Console) -> None:
    from rich.text import Text

    config = result.config
    asked = [config.get("backend"), config.get("model"), config.get("dtype"), load_text(config)]
    out.print(Text(" · ".join(str(part) for part in asked if part), style="bold"))
    state = "publishable" if result.publishable else "valid, not publishable" if result.valid else "not valid"
    trials = f"{result.trials} trial{'' if result.trials == 1 else 's'}"
    style = "green" if result.publishable else "" if result.valid else "red"
    out.print(Text(f"{result.id} · {result.outcome} · {trials} · {result.weights} weights · {state}", style=style))
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
    return ", ".join(words) + " J" + (f"; counter/integrated {cross:.4f}" if cross is not None else "")


def _findings(result: Result, out: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    if not result.findings:
        return
    out.print()
    for found in result.findings:
        out.print(Text.assemble((f"{found.severity} ", STYLES[found.severity]), (found.code, "bold")))
        out.print(Padding(Text(found.message), (0, 0, 0, 2), expand=False))
        remedy = FINDINGS[found.code].remedy if found.code in FINDINGS else ""
        if remedy and found.severity != "info":
            out.print(Padding(Text(f"→ {remedy}", style="dim"), (0, 0, 0, 2), expand=False))


def render_results(results: Sequence[Result], console: Console | None = None) -> None:
    """Print several Results as a list: one row each, to choose one from."""
    out = screen(console)
    table = grid("id", "configuration", "J per output token", "output token/s", "outcome", words=[1, 4])
    for result in results:
        config = result.config
        figures = (result.metrics.get(name) for name in ("energy_per_output_token_j", "output_tokens_per_s"))
        table.add_row(
            plain(result.id),
            plain(f"{config.get('backend')} · {config.get('model')} · {config.get('dtype')} · {load_text(config)}"),
            *[plain(bare(quantity)) for quantity in figures],
            plain(state_of(result)),
        )
    put(out, table)
    render_curves(results, out)
