"""Whether this process ran all the time: a thread that sleeps and notes when it was not woken for much too long.

A process that is stopped, frozen or starved notices nothing of it: the monotonic clock goes on, and its work takes
longer. The thread wakes every 50 ms. A gap between its beats has one of several causes, told apart by what is noted:

    stopped        SIGCONT came at its end
    starved        the thread was ready and got no processor (`/proc/thread-self/schedstat`, in nanoseconds)
    held up        other threads of the process computed, and one of them held the interpreter's lock
    stood still    nothing of the process ran: it was frozen, or the whole machine was

The machine's suspension, and steps of the wall clock, are read off the clocks at the window's edges: CLOCK_BOOTTIME
goes on where CLOCK_MONOTONIC rests (clock_gettime(2)). Slewing a clock takes CLOCK_REALTIME and CLOCK_MONOTONIC along
alike, so that their difference changes by steps alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

__all__ = ["BEAT_S", "KEPT", "LEAST_S", "STILL", "Beats", "Clocks", "Gap", "Pulse", "Waits"]

#: Time between two beats, in seconds.
BEAT_S = 0.05
#: Beats that are further apart are a gap.
LEAST_S = 0.08
#: So many gaps of a window are kept, the longest.
KEPT = 64
#: A gap in which the process used less of a processor than this share of the time had nothing running.
STILL = 0.2


@attrs.frozen
class Gap:
    """A time from one beat to the next, far longer than it should be; monotonic ns.

    Attributes:
        cpu_s: processor time of the whole process within it.
        waited_s: how long the thread that beats was ready and waited for a processor; None if the system does not tell.
        stopped: SIGCONT came, so the process had been stopped by a signal.
    """

    t0_ns: int
    t1_ns: int
    cpu_s: float
    waited_s: float | None = None
    stopped: bool = False

    @property
    def seconds(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9

    @property
    def still(self) -> bool:
        """Whether nothing of the process ran, although nobody else had the processor that it waited for."""
        starved = (self.waited_s or 0.0) > self.seconds / 2
        return self.cpu_s < STILL * self.seconds and not starved


@attrs.frozen
class Beats:
    """How steadily the worker ran during a window.

    Attributes:
        beat_s: time between two beats, in seconds.
        gaps: times without a beat that touch the window, the longest ones, in order.
        meter_gaps: times in which the process that reads the meters was not woken; begin and end, monotonic ns.
        suspended_s: how long the machine was suspended between the window's edges.
        clock_step_s: by how much the wall clock was set between them.
        slew: by what share the monotonic clock ran faster than the hardware's (CLOCK_MONOTONIC_RAW).
        own_s: processor time of the thread that beats.
        unseen_stops: how often SIGCONT came within the window and no gap ended then: each stop was shorter than
            `LEAST_S`, or the process had not been stopped.
    """

    beat_s: float
    gaps: tuple[Gap, ...] = ()
    meter_gaps: tuple[tuple[int, int], ...] = ()
    suspended_s: float | None = None
    clock_step_s: float | None = None
    slew: float | None = None
    own_s: float = 0.0
    unseen_stops: int = attrs.field(default=0, metadata={"spare": True})


@attrs.frozen
class Clocks:
    """The clocks of the system at one moment, in nanoseconds; None where the system has no such clock."""

    monotonic: int
    wall: int
    boot: int | None
    raw: int | None

    @classmethod
    def now(cls) -> Clocks:
        """Read one after the other: of three tries the closest, lest what comes between them passes for a step."""
        return min((cls._read() for _ in range(3)), key=lambda pair: pair[0])[1]

    @classmethod
    def _read(cls) -> tuple[int, Clocks]:
        before = time.monotonic_ns()
        wall, boot, raw = time.time_ns(), _clock("CLOCK_BOOTTIME"), _clock("CLOCK_MONOTONIC_RAW")
        after = time.monotonic_ns()
        return after - before, cls((before + after) // 2, wall, boot, raw)


def _clock(name: str) -> int | None:
    number = getattr(time, name, None)
    return None if number is None else time.clock_gettime_ns(number)


class Pulse:
    """Beats from `begin` to `end`; `window_begin` and `window_end` at the edges of what is measured.

    Args:
        clocks: reads the clocks of the system; a test gives its own.
    """

    def __init__(self, clocks: Callable[[], Clocks] = Clocks.now) -> None:
        self._clocks = clocks
        self._edges: list[Clocks] = []
        self._costs: list[float] = []
        self._gaps: list[Gap] = []
        self._continued: list[int] = []
        self._cost_s = 0.0
        self._over = False
        self._thread: threading.Thread | None = None
        self._before: Any = None

    def begin(self) -> None:
        """Start to beat; what was noted before is forgotten. SIGCONT is heard where this is the main thread."""
        self.end()
        self._edges, self._costs, self._gaps, self._continued = [], [], [], []
        self._cost_s = 0.0
        self._over = False
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGCONT, self._hear)
        self._thread = threading.Thread(target=self._beat, name="llem-pulse", daemon=True)
        self._thread.start()

    def __enter__(self) -> Pulse:
        self.begin()
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def window_begin(self) -> None:
        """A window is about to open."""
        self._edges, self._costs = [self._clocks()], [self._cost_s]

    def window_end(self) -> None:
        """The window has closed."""
        self._edges.append(self._clocks())
        self._costs.append(self._cost_s)

    def end(self) -> None:
        """Stop beating. Safe to call twice."""
        if self._thread is not None:
            self._over = True
            self._thread.join()
            self._thread = None
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCONT, self._before)
            self._before = None

    def _hear(self, number: int, frame: Any) -> None:
        self._continued.append(time.monotonic_ns())
        if callable(self._before):
            self._before(number, frame)

    def _beat(self) -> None:
        with Waits() as waits:
            at, cpu, waited = time.monotonic_ns(), time.process_time(), waits()
            while not self._over:
                time.sleep(BEAT_S)  # a lock with a timeout, as of an event, costs half as much again
                last, last_cpu, last_waited = at, cpu, waited
                at, cpu, waited = time.monotonic_ns(), time.process_time(), waits()
                self._cost_s = time.thread_time()
                if at - last > LEAST_S * 1e9:
                    late = None if waited is None or last_waited is None else waited - last_waited
                    self._gaps.append(Gap(last, at, cpu - last_cpu, late))

    def beats(self, t0_ns: int, t1_ns: int, meter_gaps: Iterable[tuple[int, int]] = ()) -> Beats:
        """What was noted of a window, or of a batch. Call it after `end`."""
        told, unseen = self._told()
        touching = [gap for gap in told if gap.t0_ns < t1_ns and gap.t1_ns > t0_ns]
        longest = sorted(touching, key=lambda gap: -gap.seconds)[:KEPT]
        edges = self._edges if len(self._edges) == 2 else None
        return Beats(
            beat_s=BEAT_S,
            gaps=tuple(sorted(longest, key=lambda gap: gap.t0_ns)),
            meter_gaps=tuple((begin, end) for begin, end in meter_gaps if begin < t1_ns and end > t0_ns),
            suspended_s=None if edges is None else _drift(edges, "boot"),
            clock_step_s=None if edges is None else _drift(edges, "wall"),
            slew=None if edges is None else _slew(edges),
            own_s=self._costs[1] - self._costs[0] if len(self._costs) == 2 else 0.0,
            unseen_stops=sum(1 for at_ns in unseen if t0_ns <= at_ns < t1_ns),
        )

    def _told(self) -> tuple[list[Gap], list[int]]:
        """The gaps, those marked that SIGCONT ended; and when it was heard without a gap of its own."""
        gaps, unseen = list(self._gaps), []
        for at_ns in self._continued:
            number = _ended_by(gaps, at_ns)
            if number is None or gaps[number].stopped:
                unseen.append(at_ns)
            else:
                gaps[number] = attrs.evolve(gaps[number], stopped=True)
        return gaps, unseen


def _ended_by(gaps: Sequence[Gap], at_ns: int) -> int | None:
    """The gap that a SIGCONT ended; None where it came to a process that was not stopped.

    The one around it, or one just before; or the last one before in which nothing ran, for Python hears a signal
    between two steps of the main thread alone, which may be long.
    """
    near_ns = round(2 * BEAT_S * 1e9)
    around = [number for number, gap in enumerate(gaps) if gap.t0_ns <= at_ns <= gap.t1_ns + near_ns]
    before = [number for number, gap in enumerate(gaps) if gap.t1_ns < at_ns and gap.still]
    return next(iter([*reversed(around), *reversed(before)]), None)


def _drift(edges: Sequence[Clocks], name: str) -> float | None:
    """By how many seconds a clock went ahead of the monotonic one between two moments."""
    first, last = edges
    begin, end = getattr(first, name), getattr(last, name)
    if begin is None or end is None:
        return None
    return float((end - begin) - (last.monotonic - first.monotonic)) / 1e9


def _slew(edges: Sequence[Clocks]) -> float | None:
    first, last = edges
    if (ahead := _drift(edges, "raw")) is None or last.monotonic <= first.monotonic:
        return None
    return -ahead / (last.monotonic - first.monotonic) * 1e9


class Waits:
    """Seconds that the thread was ready to run and waited for a processor; None where the kernel does not say."""

    def __enter__(self) -> Callable[[], float | None]:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self._file = -1
        return self._read

    def _read(self) -> float | None:
        if self._file < 0:
            return None
        fields = os.pread(self._file, 64, 0).split()
        return int(fields[1]) / 1e9 if len(fields) > 1 else None

    def __exit__(self, *raised: object) -> None:
        if self._file >= 0:
            os.close(self._file)
