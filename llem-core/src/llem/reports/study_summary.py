"""A study of more experiments than anybody reads line by line: outcomes, findings, the best, what each axis does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.collection import EFFECT_METRICS, effects_of
from llem.analysis.overview import Overview, state_of
from llem.metrics.directions import lower_is_better
from llem.reports.axis_table import render_effects
from llem.reports.figures import figure, plain, screen, settings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["MANY", "render_summary"]

#: More experiments than this are summarised where nothing else is asked for.
MANY = 200


def render_summary(rows: Sequence[Overview], study: Mapping[str, Any], axes: Sequence[str]) -> None:
    """Print the summary of overviews that have `EFFECT_METRICS`. `axes`: those that vary."""
    out = screen()
    states = Counter(map(state_of, rows)).most_common()
    out.print(plain(f"{len(rows):,} experiments: " + ", ".join(f"{count:,} {state}" for state, count in states)))
    for error, count in Counter(row.error for row in rows if row.error).most_common(5):
        out.print(plain(f"  {count:,} × {error}"))
    codes = Counter(code for row in rows for code in row.codes).most_common()
    if codes:
        out.print(plain("findings: " + ", ".join(f"{code} {count:,}" for code, count in codes)))
    for metric in EFFECT_METRICS:
        _best(rows, metric, study, out)
    for axis in axes:
        if effects := effects_of(study, rows, axis, EFFECT_METRICS):
            out.print()
            render_effects(effects, out)
    out.print(plain("every experiment in a line: `llem show DIR --all`; as a table: `llem export DIR`"), style="dim")


def _best(rows: Sequence[Overview], metric: str, study: Mapping[str, Any], out: Console) -> None:
    valued = [(value, row) for row in rows if row.valid and (value := row.value(metric)) is not None]
    if not valued:
        return
    choose = min if lower_is_better(metric) else max
    row = choose(valued, key=lambda one: one[0])[1]
    values = study.get("points", {}).get(row.id, {}).get("values", {})
    out.print(plain(f"best {metric}: {figure(row.metrics[metric])}  {row.id}  {settings(values)}".rstrip()))
