"""Power traces of trials, thinned so that no peak is lost. Pure.

A counter of energy gives the mean power between two of its ticks: a step. A reading of power gives a point. Times are
seconds from the window's beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from llem.reports.page.gather import significant
from llem.store.models import Trial

__all__ = ["POINTS", "thinned", "traces_of"]

#: Points of one trace at most.
POINTS = 400
#: Readings that a trace shows, the one that is shown first before.
SHOWN = ("counter_j", "power_w")


def thinned(values: Any, most: int = POINTS) -> Any:
    """Indices of at most so many values: of each bucket the lowest and the highest, so that every peak is kept.

    Args:
        values: an array, in time. most: 4 or more.
    """
    import numpy as np

    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(1, len(values) - 1, (most - 2) // 2 + 1).astype(int)
    kept = {0, len(values) - 1}
    for begin, end in pairwise(edges):
        part = values[begin:end]
        kept |= {begin + int(part.argmin()), begin + int(part.argmax())}
    return np.array(sorted(kept))


def traces_of(trial: Trial, columns: Mapping[tuple[str, str, str], Any], most: int = POINTS) -> list[dict[str, Any]]:
    """The traces of one trial: one for each domain, meter and reading of energy or power.

    Args:
        columns: as `llem.store.tables.power_columns` gives them.
        most: points of each at most.
    """
    order = {reading: number for number, reading in enumerate(SHOWN)}
    keys = sorted((order[key[2]], key) for key in columns if key[2] in order)
    made = (_trace(trial, key, columns[key], most) for _, key in keys)
    return [one for one in made if one is not None]


def _trace(trial: Trial, key: tuple[str, str, str], rows: Any, most: int) -> dict[str, Any] | None:
    import numpy as np

    meter, domain, reading = key
    counter = reading == "counter_j"
    at = (rows[:, :2].mean(axis=1) - trial.t0_ns) / 1e9
    order = np.argsort(at, kind="stable")
    at, values, ticks = at[order], rows[order, 2], at[order]
    if counter:
        apart = np.diff(at) > 0
        values, at = (np.diff(values)[apart] / np.diff(at)[apart]), at[1:][apart]
    if not len(at):
        return None
    kept = thinned(values, most)
    told = next((one for one in trial.energies if (one.domain, one.meter) == (domain, meter)), None)
    parts = _parts(trial)
    end = trial.duration_s
    first = max([float(ticks[0]), *(t1 for _, _, t1 in parts if t1 <= 0)])
    last = min([float(ticks[-1]), *(t0 for _, t0, _ in parts if t0 >= end)])
    return {
        "trial": trial.index,
        "process": trial.process,
        "domain": domain,
        "meter": meter,
        "reading": "counter" if counter else "power",
        "step": counter,
        "kind": None if told is None else told.kind,
        "t": [round(float(one), 4) for one in at[kept]],
        "w": [significant(float(one)) for one in values[kept]],
        "window": [0, round(end, 6)],
        "lead": [round(first, 4), 0] if first < 0 else None,
        "after": [round(end, 6), round(last, 4)] if last > end else None,
        "ticks": [round(float(one), 3) for one in ticks] if counter and len(ticks) <= most else [],
        "points": len(at),
        **({"parts": parts} if parts else {}),
    }


def _parts(trial: Trial) -> list[tuple[str, float, float]]:
    """The other windows of a trial: name, begin and end in seconds from the beginning of the whole one."""
    spans = ((part.name, part.t0_ns - trial.t0_ns, part.t1_ns - trial.t0_ns) for part in trial.parts)
    return [(name, round(t0 / 1e9, 4), round(t1 / 1e9, 4)) for name, t0, t1 in spans]
