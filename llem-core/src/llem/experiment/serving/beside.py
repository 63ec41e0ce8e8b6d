"""What an engine counts by itself, read right before and right after a window: facts beside llem's own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llem.backends.base import Observed
from llem.experiment.serving.traffic import Flight
from llem.experiment.serving.window import arrived_tokens

__all__ = ["beside"]


def beside(before: Observed | None, after: Observed | None, flights: Iterable[Flight]) -> Mapping[str, float]:
    """The fields of `ServingFacts.server`; empty where one of the readings is missing.

    A counter that has become smaller is left out: the engine began anew.

    Args:
        flights: every request that llem sent around the window.
    """
    if before is None or after is None:
        return {}
    told = {f"{name}_start": value for name, value in before.levels.items()}
    told |= {f"{name}_end": value for name, value in after.levels.items()}
    for name, value in after.counters.items():
        if name in before.counters and value >= before.counters[name]:
            told[name] = value - before.counters[name]
    received = arrived_tokens(flights, before.time_ns, after.time_ns)
    return {**told, "received_tokens": float(received), "seconds": (after.time_ns - before.time_ns) / 1e9}
