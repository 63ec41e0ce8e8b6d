"""How the load generator fared while a trial was measured."""

from __future__ import annotations

import attrs

__all__ = ["ClientFacts"]


@attrs.frozen
class ClientFacts:
    """How the load generator itself fared, from the first of the measured requests to the window's end.

    A timer in the event loop of every client ticks; how late it rings is how long whatever arrives waits for its turn.

    Attributes:
        processes: client processes; 0 where the clients share the worker's process with the engine.
        delay_p50_s, delay_p99_s, delay_max_s: how late the ticks were; of several processes, of the one with the worst.
        stalls: begin and end, monotonic ns, of times in which no tick came for much longer than it should: the longest.
        busy_share: CPU time of the busiest client process within the window, over the window; None without processes.
        stalled_s: how long all such times lasted together, kept or not. None: an older llem stored it, which kept all.
        still: such times in which nothing of the process ran that sends the requests, the longest.
    """

    processes: int
    delay_p50_s: float
    delay_p99_s: float
    delay_max_s: float
    stalls: tuple[tuple[int, int], ...] = ()
    busy_share: float | None = None
    stalled_s: float | None = None
    still: tuple[tuple[int, int], ...] = ()
