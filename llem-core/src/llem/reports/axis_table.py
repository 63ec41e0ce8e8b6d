"""What the values of an axis do to the metrics, as text for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llem.analysis.effects import Effect
from llem.analysis.pairs import PairEffect
from llem.metrics.directions import lower_is_better
from llem.reports.figures import grid, number, p_value, plain, put, screen, setting
from llem.reports.study_table import prefixes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_effects", "render_pairs"]


def render_effects(effects: Sequence[Effect], console: Console | None = None) -> None:
    """Print the effects of one axis: a table for each metric, a line for each value. Nothing for no effects."""
    out = screen(console)
    for metric, group in itertools.groupby(effects, key=lambda effect: effect.metric):
        rows = list(group)
        out.print(plain(f"{metric}, by {rows[0].axis}: against {setting(rows[0].reference)}, all else equal"))
        table = grid(rows[0].axis.rpartition(".")[2], "ratio", "95 % interval", "p (Holm)", "pairs", "")
        for effect in rows:
            verdict = _verdict(metric, effect.low, effect.high)
            cells = (setting(effect.value), *_cells(effect), str(len(effect.pairs)), verdict)
            table.add_row(*map(plain, cells))
        put(out, table)
        out.print()
    if effects:
        _notes(effects, out)


def render_pairs(pairs: Sequence[PairEffect]) -> None:
    """Print each pair of experiments by itself: a table for each metric."""
    out = screen()
    short = prefixes(sorted({name for pair in pairs for name in (pair.reference_id, pair.value_id)}))
    for metric, group in itertools.groupby(pairs, key=lambda pair: pair.metric):
        rows = list(group)
        out.print(plain(f"{metric}, by {rows[0].axis}: each experiment B against A with {setting(rows[0].reference)}"))
        table = grid(rows[0].axis.rpartition(".")[2], "A", "B", "B / A", "95 % interval", "p (Holm)", "")
        for pair in rows:
            verdict = _verdict(metric, pair.low, pair.high)
            cells = (setting(pair.value), short[pair.reference_id], short[pair.value_id], *_cells(pair), verdict)
            table.add_row(*map(plain, cells))
        put(out, table)
        out.print()
    if any(pair.low is None for pair in pairs):
        out.print(plain("no interval: fewer than two trials, or a metric that trials do not have"), style="dim")


def _cells(found: Effect | PairEffect) -> tuple[str, str, str]:
    if found.ratio is None:
        return "–", "", ""
    if found.low is None or found.high is None or found.p_adjusted is None:
        return number(found.ratio), "", ""
    half = (found.high - found.low) / 2
    span = f"{number(found.low, half)} … {number(found.high, half)}"
    return number(found.ratio, half), span, p_value(found.p_adjusted)


def _verdict(metric: str, low: float | None, high: float | None) -> str:
    """Better or worse than the reference where the interval says so, else nothing."""
    if low is None or high is None or low <= 1 <= high:
        return ""
    return "better" if (high < 1) == lower_is_better(metric) else "worse"


def _notes(effects: Sequence[Effect], out: Console) -> None:
    if averaged := effects[0].averaged:
        out.print(plain(f"averaged over {', '.join(averaged)}, which only some values have"), style="dim")
    if not any(effect.pairs for effect in effects):
        out.print(plain("no two valid points differ in this axis alone"), style="dim")
    elif any(len(effect.pairs) == 1 for effect in effects):
        out.print(plain("one pair gives no interval here; --pairs has that of its trials"), style="dim")
