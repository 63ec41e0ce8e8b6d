"""How late an event loop was: a timer in every loop that sends requests, and what its ticks tell. Pure but the timer.

Whatever arrives while a loop is at work waits for its turn, and is stamped when it is read. A tick waits alike.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import attrs

from llem.devices.pulse import STILL, Waits

__all__ = ["STALL_NS", "TICK_S", "Ticker", "Ticks"]

#: Between two ticks.
TICK_S = 0.005
#: A selector waits for whole milliseconds and rounds up, so that a tick is that late in an idle loop. What arrives is
#: read at once.
GRAIN_NS = 1_000_000
#: A tick this late is told by itself.
STALL_NS = 20_000_000


@attrs.frozen
class Ticks:
    """Ticks of one event loop, in nanoseconds.

    Attributes:
        due_ns, late_ns: when each was due, and how late it came.
        cpu_ns: CPU time of the process by then.
        waited_ns: how long the thread had been ready by then and waited for a processor; 0 where nothing tells.
    """

    due_ns: Sequence[int]
    late_ns: Sequence[int]
    cpu_ns: Sequence[int]
    waited_ns: Sequence[int]

    def delays(self, begin: int, end: int) -> list[int]:
        """Nanoseconds that something arriving within [begin, end) had to wait, at every tick that should have been.

        In a loop that stands still ticks do not come. Each that should have come in the meantime waited less than the
        one before by the time between the two.
        """
        step = round(TICK_S * 1e9)
        return [
            late - passed
            for due, late in zip(self.due_ns, self.late_ns, strict=True)
            for passed in range(0, late + 1, step)
            if begin <= due + passed < end
        ]

    def stalls(self, begin: int, end: int, *, still: bool = False) -> Iterator[tuple[int, int]]:
        """Begin and end of each time within [begin, end) in which the loop stood still.

        Args:
            still: only those in which nothing of the process ran, though no other had the processor that it waited for.
        """
        for i, (due, late) in enumerate(zip(self.due_ns, self.late_ns, strict=True)):
            if late > STALL_NS and due < end and due + late > begin and not (still and self._was_held_up(i)):
                yield due, due + late

    def _was_held_up(self, i: int) -> bool:
        """Whether work of the process, or others on its processor, made a tick late; of the first nothing is known."""
        if not i:
            return True
        used, waited = (column[i] - column[i - 1] for column in (self.cpu_ns, self.waited_ns))
        return used >= STILL * self.late_ns[i] or waited > self.late_ns[i] / 2

    def busy_share(self, begin: int, end: int) -> float | None:
        """CPU time of the process within [begin, end), over that time; None where the ticks do not span it."""
        came = [due + late for due, late in zip(self.due_ns, self.late_ns, strict=True)]
        inside = [i for i, at in enumerate(came) if begin <= at < end]
        if len(inside) < 2:
            return None
        first, last = inside[0], inside[-1]
        return (self.cpu_ns[last] - self.cpu_ns[first]) / (came[last] - came[first])


class Ticker:
    """The timer, in the event loop that runs. Stop it in a `finally`."""

    def __init__(self) -> None:
        self._due, self._late, self._cpu, self._waited = array("q"), array("q"), array("q"), array("q")
        self._held = ExitStack()
        self._waits = self._held.enter_context(Waits())
        self._loop = asyncio.get_running_loop()
        self._next_ns = 0
        self._again()

    def _again(self) -> None:
        self._next_ns = time.monotonic_ns() + round(TICK_S * 1e9)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._due.append(self._next_ns)
        self._late.append(max(time.monotonic_ns() - self._next_ns - GRAIN_NS, 0))
        self._cpu.append(time.process_time_ns())
        self._waited.append(round((self._waits() or 0.0) * 1e9))
        self._again()

    def stop(self) -> Ticks:
        """The ticks until now."""
        self._timer.cancel()
        self._held.close()
        return Ticks(self._due, self._late, self._cpu, self._waited)
