"""The experiments of a report and their metrics, as plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

from llem.analysis.overview import Overview, state_of
from llem.config.load import COMMAND
from llem.findings import FINDINGS, REASONS
from llem.metrics.metric import Metric, Place
from llem.reports.figures import scaled, setting
from llem.reports.notes import rests_on_text
from llem.reports.page.gather import Gathered, significant
from llem.reports.views import configuration, metrics_shown
from llem.store.models import Quantity

__all__ = ["MANY", "columns_of", "experiments_of", "findings_of", "metrics_of", "plot_of", "reasons_of"]

#: With more experiments than this a report has fewer metrics of each, and less of each trial.
MANY = 50
#: What the trade-off shows across by default, the first that any experiment has.
ACROSS = ("ttft_p99_s", "e2el_p99_s", "output_tokens_per_s")


def metrics_of(found: Gathered, needed: Iterable[str]) -> dict[str, Metric]:
    """The metrics of a report by name: those that any experiment has a value of, in the catalogue's order.

    Of many experiments only those that a view of llem shows by default, and those that are needed.
    """
    have = dict.fromkeys(name for row in found.rows for name, one in row.metrics.items() if one.value is not None)
    default = metrics_shown(*get_args(Place), prices=found.results.prices)
    if len(found.rows) > MANY:
        kept = {*default, *needed, *(name for name in have if name.startswith("quality."))}
        have = {name: None for name in have if name in kept}
    order = {name: number for number, name in enumerate(default)}
    return {name: found.results.metric_of(name) for name in sorted(have, key=lambda name: order.get(name, len(order)))}


def described(metrics: Mapping[str, Metric], rows: Sequence[Overview]) -> dict[str, Any]:
    """What is said of each metric; all its values are shown in one unit, divided by `divisor`."""
    bases = {str(row.basis) for row in rows if row.basis is not None}
    shared = next(iter(bases)) if len(bases) == 1 else None
    return {name: _described(metric, rows, shared) for name, metric in metrics.items()}


def _described(metric: Metric, rows: Sequence[Overview], shared: str | None) -> dict[str, Any]:
    values = sorted(abs(value) for row in rows if (value := row.value(metric.name)) is not None)
    unit, divisor = scaled(values[len(values) // 2], metric.unit) if values else (metric.unit, 1.0)
    better = {"lower": "less", "higher": "more"}
    told = next((one.better for row in rows if (one := row.metrics.get(metric.name)) and one.better), "")
    return {
        "label": metric.label,
        "heading": metric.heading or metric.label,
        "unit": metric.unit,
        "better": better.get(told or metric.direction or ""),
        "group": metric.group,
        "doc": metric.doc,
        "scoped": metric.scoped,
        "basis": shared if metric.scoped else None,
        "divisor": divisor,
        "scaledUnit": unit,
    }


def experiments_of(found: Gathered, names: Collection[str]) -> list[dict[str, Any]]:
    """Every experiment, in the study's order; of a damaged one, what is wrong."""
    rows = {row.id: row for row in found.rows}
    return [_row(found, rows[one], names) if one in rows else _damaged(found, one) for one in found.results]


def _row(found: Gathered, row: Overview, names: Collection[str]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": found.short[row.id],
        "label": found.label(row),
        "configuration": configuration(row),
        "values": _values(found, row.id),
        "state": row.outcome if row.outcome in ("done", "interrupted") else f"failed: {row.outcome}",
        "stateText": state_of(row),
        "valid": row.valid,
        "publishable": row.publishable,
        "error": row.error,
        "codes": list(row.codes),
        "trials": row.trials,
        "restsOn": rests_on_text(row.metrics.get(name) for name in metrics_shown("study")),
        "basis": None if row.basis is None else str(row.basis),
        "m": {name: cell(row.metrics[name]) for name in names if name in row.metrics},
    }


def _damaged(found: Gathered, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": found.short[name],
        "label": ", ".join(f"{path} {text}" for path, text in _values(found, name).items()) or found.short[name],
        "configuration": "",
        "values": _values(found, name),
        "state": "damaged",
        "stateText": "damaged: what is stored cannot be read",
        "valid": False,
        "publishable": False,
        "error": found.damaged[name],
        "codes": [],
        "trials": 0,
        "restsOn": "",
        "basis": None,
        "m": {},
    }


def _values(found: Gathered, name: str) -> dict[str, str]:
    return {path: setting(value) for path, value in found.values(name).items() if path in found.axes}


def cell(one: Quantity) -> list[float | None] | str:
    """Value and ends of the interval, or the code of the reason why there is none."""
    if one.value is None:
        return one.reason or ""
    return [significant(one.value), significant(one.low), significant(one.high)]


def columns_of(found: Gathered, names: Collection[str], needed: Iterable[str]) -> list[str]:
    """Metrics that the table shows by default: the objective, what limits bound, and those of a study's table."""
    metered = bool(found.rows) and all(row.load.get("kind") == COMMAND for row in found.rows)
    places: tuple[Place, ...] = ("commands", "study") if metered else ("study",)
    usual = metrics_shown(*places, prices=found.results.prices)
    first = dict.fromkeys((*needed, *usual, "peak_memory_bytes"))
    scores = [name for name in names if name.startswith("quality.") and name.count(".") == 1]
    return [name for name in (*first, *scores) if name in names]


def plot_of(names: Collection[str], objective: str, limited: Sequence[str]) -> dict[str, str | None]:
    """The trade-off that is shown first: the objective against what is limited, else against latency or speed."""
    y = objective if objective in names else next(iter(names), None)
    x = next((name for name in (*limited, *ACROSS, *names) if name in names and name != y), None)
    return {"x": x, "y": y}


def reasons_of(rows: Iterable[Mapping[str, Any]], more: Iterable[str] = ()) -> dict[str, str]:
    """What codes in place of values mean, of those that occur."""
    codes = {one for row in rows for one in row["m"].values() if isinstance(one, str)} | set(more)
    return {code: REASONS.get(code, code) for code in sorted(codes) if code}


def findings_of(rows: Iterable[Overview]) -> dict[str, Any]:
    """What codes of findings mean, of those that occur."""
    told = {code: code in row.errors for row in rows for code in row.codes}
    return {
        code: {"severity": kind.severity, "title": code.replace("_", " "), "meaning": kind.meaning}
        if (kind := FINDINGS.get(code)) is not None
        else {"severity": "error" if wrong else "warning", "title": code.replace("_", " "), "meaning": ""}
        for code, wrong in sorted(told.items())
    }
