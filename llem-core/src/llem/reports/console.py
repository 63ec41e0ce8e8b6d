"""A Result, or several, as text for a terminal: the headline first, every number with its interval and its scope."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.findings import FINDINGS, REASONS
from llem.results.models import DomainMetrics, Quantity, Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["figure", "render_result", "render_results"]

#: What is printed, in this order; the rest is in `--json`. Latencies only where they were measured.
ROWS: tuple[tuple[str, str], ...] = (
    ("energy_per_output_token_j", "energy per output token"),
    ("energy_per_token_j", "energy per token, in and out"),
    ("energy_per_request_j", "energy per request"),
    ("energy_j", "energy of a window, gross"),
    ("energy_net_j", "energy of a window, net of idle"),
    ("power_w", "power"),
    ("output_tokens_per_s", "output tokens"),
    ("requests_per_s", "requests"),
    ("duration_s", "duration of a window"),
    ("ttft_s", "time to first token"),
    ("ttft_p99_s", "time to first token, p99"),
    ("tpot_s", "time per further token"),
    ("itl_chunk_p99_s", "gap between tokens, p99"),
    ("e2el_s", "time per request"),
    ("e2el_p99_s", "time per request, p99"),
    ("mfu", "share of peak operations (MFU)"),
    ("mbu", "share of peak bandwidth (MBU)"),
    ("peak_memory_bytes", "peak memory"),
)
QUIET = frozenset({"not_requested", "no_gpu"})
STYLES: Mapping[str, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}
BYTES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def _digits(value: float, half: float | None) -> str:
    """`value` to the last digit that its half-width leaves meaning: two of the half-width's own, six at most."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    top = math.floor(math.log10(abs(value)))
    last = top - 3 if not half else math.floor(math.log10(half)) - 1
    last = min(max(last, top - 5), top)
    if not -5 <= top <= 6:
        return f"{value:.{top - last}e}"
    return f"{round(value, -last):,.{max(0, -last)}f}"


def figure(quantity: Quantity) -> str:
    """Value ± half-width and unit, or a dash with the reason."""
    if quantity.value is None:
        return f"– ({quantity.reason})"
    if quantity.unit == "B":
        name, size = next(((n, s) for n, s in BYTES if quantity.value >= s), ("B", 1))
        return f"{quantity.value / size:.4g} {name}"
    if quantity.low is None or quantity.high is None:
        return f"{_digits(quantity.value, None)} {quantity.unit}".rstrip()
    half = (quantity.high - quantity.low) / 2
    return f"{_digits(quantity.value, half)} ± {half:.2g} {quantity.unit}".rstrip()


def _basis(quantity: Quantity) -> str:
    """What the number covers and what its interval rests on, in few words."""
    if quantity.value is None:
        return REASONS.get(quantity.reason or "", "").rstrip(".")
    words = [word for word in (quantity.scope, quantity.kind) if word]
    method = {
        "student_t": f"n = {quantity.n}",
        "bootstrap": f"{quantity.n} batches",
        "instrument": "n = 1, instrument's bound",
        "single_trial": "n = 1",
        "exact": "exact",
    }
    return " · ".join([*words, method.get(quantity.method, "")]).strip(" ·")


def _grid(*headings: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def render_result(result: Result, console: Console | None = None) -> None:
    """Print one Result to `console` (standard output when None)."""
    from rich.console import Console as RichConsole

    out = console or RichConsole(highlight=False)
    _head(result, out)
    if result.error:
        out.print(f"  {result.error}", style="red", markup=False)
    table = _grid("", "", "")
    for name, label in ROWS:
        quantity = result.metrics.get(name)
        if quantity is not None and not (quantity.value is None and quantity.reason in QUIET):
            style = "bold" if name == ROWS[0][0] else ""
            table.add_row(label, _plain(figure(quantity)), _plain(_basis(quantity)), style=style)
    out.print(table)
    if result.domains:
        out.print()
        out.print(_domains(result.domains))
    _findings(result, out)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _head(result: Result, out: Console) -> None:
    from rich.text import Text

    config = result.config
    workload = config.get("load", {}).get("batch_size")
    asked = [config.get("backend"), config.get("model"), config.get("dtype")]
    asked += [f"batch {workload}"] if workload is not None else []
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


def _budget(domain: DomainMetrics) -> str:
    if domain.budget is None:
        return "no error bound stated"
    parts = {"tick": domain.budget.tick_j, "gap": domain.budget.gap_j, "repeat": domain.budget.repeat_j}
    text = "± J: " + " · ".join(f"{name} {joules:.2g}" for name, joules in parts.items())
    sensor = domain.budget.sensor_j
    return text + (" · sensor not stated" if sensor is None else f" · sensor {sensor:.2g}")


def _domains(domains: Sequence[DomainMetrics]) -> Any:
    table = _grid("domain", "gross J", "net J", "W", "idle W", "by")
    for domain in domains:
        quantities = (domain.energy_j, domain.energy_net_j, domain.power_w, domain.idle_power_w)
        table.add_row(
            _plain(_short(domain.domain)),
            *[_plain("–" if q.value is None else _digits(q.value, None)) for q in quantities],
            _plain(f"{domain.meter} ({domain.kind})"),
        )
        table.add_row("", _plain(_note(domain)), style="dim")
    return table


def _note(domain: DomainMetrics) -> str:
    cross = domain.cross_ratio.value
    return _budget(domain) + (f" · counter/integrated {cross:.4f}" if cross is not None else "")


def _findings(result: Result, out: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    if not result.findings:
        return
    out.print()
    for found in result.findings:
        out.print(Text.assemble((f"{found.severity} ", STYLES[found.severity]), (found.code, "bold")))
        out.print(Padding(Text(found.message), (0, 0, 0, 2)))
        remedy = FINDINGS[found.code].remedy if found.code in FINDINGS else ""
        if remedy and found.severity != "info":
            out.print(Padding(Text(f"→ {remedy}", style="dim"), (0, 0, 0, 2)))


def render_results(results: Sequence[Result], console: Console | None = None) -> None:
    """Print several Results as a list: one row each, to choose one from."""
    from rich.console import Console as RichConsole

    out = console or RichConsole(highlight=False)
    table = _grid("id", "configuration", "J per output token", "output token/s", "outcome")
    for result in results:
        config = result.config
        batch = config.get("load", {}).get("batch_size", "?")
        state = "" if result.valid else " (not valid)" if result.outcome == "done" else ""
        numbers = (result.metrics.get(name) for name in ("energy_per_output_token_j", "output_tokens_per_s"))
        table.add_row(
            _plain(result.id),
            _plain(f"{config.get('backend')} · {config.get('model')} · {config.get('dtype')} · batch {batch}"),
            *[_plain(_bare(number)) for number in numbers],
            _plain(result.outcome + state),
        )
    out.print(table)


def _bare(quantity: Quantity | None) -> str:
    """The figure without its unit, for a column that names it."""
    if quantity is None:
        return "–"
    return figure(quantity).removesuffix(f" {quantity.unit}") if quantity.unit else figure(quantity)
