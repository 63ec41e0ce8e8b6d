"""How the errors of a study's metrics go together: trials that were slow took more energy, too. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from llem.analysis.sides import Side
from llem.analysis.units import centred

__all__ = ["Correlation", "correlation_of"]

#: Common factors that correlations are made of, at most. Four hold those of four metrics exactly.
FACTORS = 4
#: Correlations are drawn to 0 as if so many more residuals without any had been seen.
UNSEEN = 2.0
#: The block of a two-way layout is removed from so many experiments on.
LEAST_LAYOUT = 3


@attrs.frozen(eq=False)
class Correlation:
    """Loadings of each metric on common factors; the rest of its unit variance is its own.

    Attributes:
        metrics: by name, the row of `loadings` (metrics, factors).
    """

    metrics: dict[str, int]
    loadings: Any

    def innovations(self, metric: str, factors: Iterable[Any], own: Any) -> Any:
        """Standard normal draws of a metric, from those of the factors and of its own, all of one shape."""
        import numpy as np

        row = self.loadings[self.metrics[metric]]
        rest = max(0.0, 1 - float(row @ row))
        found = np.sqrt(rest) * own
        for weight, factor in zip(row, factors, strict=True):
            found += weight * factor
        return found


def correlation_of(sides: Sequence[Side]) -> Correlation:
    """Correlation of the residuals of the metrics on the log scale, over process means where a side has several, else
    over trials; drawn to 0 by their degrees of freedom, and held by a few common factors."""
    import numpy as np

    names = sorted({name for side in sides for name in side.values})
    table, freedom = _residuals(sides, names)
    there = ~np.isnan(table)
    known = np.where(there, table, 0.0)
    products = known.T @ known
    squares = (known**2).T @ there
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(squares * squares.T > 0, products / np.sqrt(squares * squares.T), 0.0)
    found *= freedom / (freedom + UNSEEN)
    np.fill_diagonal(found, 1.0)
    sizes, vectors = np.linalg.eigh(found)
    loadings = (vectors * np.sqrt(np.maximum(sizes, 0.0)))[:, -FACTORS:]
    loadings /= np.maximum(1.0, np.linalg.norm(loadings, axis=1, keepdims=True))
    return Correlation({name: row for row, name in enumerate(names)}, loadings)


def _residuals(sides: Sequence[Side], names: Sequence[str]) -> tuple[Any, float]:
    """Residuals (rows, metrics), NaN where a side lacks a metric, and their degrees of freedom."""
    import numpy as np

    groups: dict[int, list[Any]] = {}
    for side in sides:
        rows = np.array([_deviations(side, name) for name in names], dtype=float).T
        if len(rows) > 1:
            groups.setdefault(len(rows), []).append(rows)
    tables, freedom = [np.full((0, len(names)), np.nan)], 0.0
    for count, members in groups.items():
        stack = np.stack(members)
        layout = len(members) >= LEAST_LAYOUT and not np.isnan(stack).any()
        if layout:
            stack = stack - stack.mean(axis=0)
        freedom += (len(members) - layout) * (count - 1)
        tables.append(stack.reshape(-1, len(names)))
    return np.concatenate(tables), freedom


def _deviations(side: Side, metric: str) -> list[float]:
    processes = len({run.process for run in side.runs})
    if metric not in side.values:
        return [float("nan")] * (processes if processes > 1 else len(side.runs))
    if processes > 1:
        return centred([one.mean for one in side.process_means(metric)])
    return centred(side.logs(metric))
