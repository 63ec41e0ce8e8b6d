"""Two experiments side by side, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from llem.analysis.compare import Comparison
from llem.reports.figures import grid, number, p_value, put, screen

__all__ = ["render_comparison"]


def render_comparison(names: tuple[str, str], found: Sequence[Comparison]) -> None:
    """A: and B: by id, then one line per metric with the ratio B / A and its interval."""
    console = screen()
    console.print(f"A = {names[0]}\nB = {names[1]}\n")
    table = grid("metric", "A", "B", "B / A, 95 %", "p", "P(B better)")
    for one in found:
        ratio = one.ratio
        low, high = number(ratio.low, ratio.half_width), number(ratio.high, ratio.half_width)
        table.add_row(
            one.metric.removesuffix("_j").removesuffix("_w").replace("_per_s", "/s").replace("_", " "),
            _with_unit(one.a, one.unit),
            _with_unit(one.b, one.unit),
            f"{number(ratio.value, ratio.half_width)} [{low}, {high}]",
            p_value(one.p_adjusted),
            f"{one.probability_better:.3f}",
        )
    put(console, table)
    paired = found[0].method == "paired_by_block"
    how = "pair by pair, as they took turns" if paired else "as independent samples (Welch)"
    console.print(
        f"\n{found[0].ratio.n} trials of each, compared {how}; p is corrected for the number of metrics (Holm)\n"
        "B / A is of geometric means; where trials scatter widely it is not that of the means beside it"
    )


def _with_unit(value: float, unit: str) -> str:
    """A rate's unit stands in the metric's name already."""
    return number(value) if unit.endswith("/s") else f"{number(value)} {unit}"
