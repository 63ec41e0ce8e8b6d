"""Two experiments side by side, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from llem.reports.figures import grid, number, two
from llem.results.compare import Comparison

__all__ = ["render_comparison"]


def render_comparison(names: tuple[str, str], found: Sequence[Comparison]) -> None:
    """A: and B: by id, then one line per metric with the ratio B / A and its interval."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"A = {names[0]}\nB = {names[1]}\n")
    table = grid("metric", "A", "B", "unit", "B / A", "95 % interval", "p (Holm)", "P(B better)")
    for one in found:
        ratio = one.ratio
        table.add_row(
            one.metric,
            number(one.a),
            number(one.b),
            one.unit,
            number(ratio.value, ratio.half_width),
            f"{number(ratio.low, ratio.half_width)} … {number(ratio.high, ratio.half_width)}",
            two(one.p_adjusted),
            f"{one.probability_better:.3f}",
        )
    console.print(table)
    paired = found[0].method == "paired_by_block"
    how = "pair by pair, as they took turns" if paired else "as independent samples (Welch)"
    console.print(f"\n{found[0].ratio.n} trials of each, compared {how}")
