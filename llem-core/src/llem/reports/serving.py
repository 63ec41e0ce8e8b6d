"""Serving loads as text: how requests arrive, their latencies by percentile, and curves over the rate of arrivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.curves import CurvePoint, comparable, latency_energy_curve
from llem.reports.figures import grid, number, plain, put, scaled
from llem.store.models import Quantity, Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["load_text", "percentiles", "render_curves"]

LATENCIES: Mapping[str, str] = {
    "ttft": "time to first token",
    "tpot": "time per further token",
    "itl_chunk": "gap between chunks",
    "e2el": "time per request",
}
ENDS = ("", "_p50", "_p90", "_p95", "_p99")


def load_text(config: Mapping[str, Any]) -> str:
    """How requests arrive, in few words."""
    load = config.get("load", {})
    kind = load.get("kind", "offline")
    if kind == "closed":
        return f"{load.get('concurrency', '?')} clients"
    if kind == "open":
        share = load.get("capacity_share")
        return f"{load['request_rate']:g} requests/s" if share is None else f"{share:.0%} of capacity"
    if kind == "replay":
        return "trace" + ("" if load["speed"] == 1 else f" × {load['speed']:g}")
    return f"batch {load.get('batch_size', '?')}"


def percentiles(result: Result) -> Any:
    """Table of latencies by percentile; None for an offline load. Intervals are in the metrics and in `--json`."""
    if result.config.get("load", {}).get("kind", "offline") == "offline" or not result.trials:
        return None
    table = grid("latency", "mean", "p50", "p90", "p95", "p99")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, label in LATENCIES.items():
        quantities = [result.metrics.get(f"{name}{end}_s") for end in ENDS]
        table.add_row(label, *[plain(_short(quantity)) for quantity in quantities])
    return table


def _short(quantity: Quantity | None) -> str:
    """Value and unit, without the interval."""
    if quantity is None or quantity.value is None:
        return "–"
    unit, divisor = scaled(quantity.value, quantity.unit)
    return f"{number(quantity.value / divisor)} {unit}"


def render_curves(results: Sequence[Result], out: Console) -> None:
    """One table for every group of results that differ in the rate of arrivals alone."""
    for group in comparable(results):
        points = latency_energy_curve(group)
        if len(points) > 1:
            config = group[0].config
            out.print()
            out.print(plain(f"{config.get('backend')} · {config.get('model')} · {config.get('dtype')}, by arrivals"))
            put(out, _curve(points))


def _curve(points: Sequence[CurvePoint]) -> Any:
    headings = ["arrivals/s", "of capacity", "TTFT p99", "TPOT p99", "J per output token", "J per request", "goodput/s"]
    notes = ["over-saturated" if point.saturated else "" if point.valid else "not valid" for point in points]
    table = grid(*headings, *([""] if any(notes) else []))
    for column in table.columns[: len(headings)]:
        column.justify = "right"
    for point, note in zip(points, notes, strict=True):
        metrics = point.metrics
        table.add_row(
            _value(metrics["request_rate"]),
            "–" if metrics["capacity_share"].value is None else f"{metrics['capacity_share'].value:.0%}",
            plain(_short(metrics["ttft_p99_s"])),
            plain(_short(metrics["tpot_p99_s"])),
            _value(metrics["energy_per_output_token_j"]),
            _value(metrics["energy_per_request_j"]),
            _value(metrics["goodput_requests_per_s"]),
            *([note] if any(notes) else []),
        )
    return table


def _value(quantity: Quantity) -> Any:
    return plain("–" if quantity.value is None else number(quantity.value))
