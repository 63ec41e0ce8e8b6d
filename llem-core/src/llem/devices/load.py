"""How busy the host's processors were during a window: with us, with others, and with other virtual machines.

Processor time of all comes from /proc/stat, by processor, and that of our processes from /proc/<pid>/stat. Both count
in ticks of 10 ms (proc(5)), so a short window says nothing. Only the processors count on which our processes may run:
what others do elsewhere, as on a node that jobs share, takes nothing from us. Interrupts count as nobody's, for ours
are among them. In a container /proc/stat is the host's, as it should be. At the edges of a window the files are only
read, which takes 0.1 ms. All else is done before and after.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import attrs

__all__ = ["HostLoad", "HostWatch", "busy", "watched"]

#: Below this many seconds ticks say nothing: two of them on each side are then 8 % of a core.
LEAST_S = 0.5
#: Cores, and share of all cores, that others may use before anybody is told ahead of a measurement. Less than this is
#: what a system does by itself while a program starts; a window is judged more strictly (`llem.metrics.checks.host`).
BUSY_CORES, BUSY_SHARE = 0.25, 0.05
#: A processor whose times, idle included, add up to less than this share of the window is not being counted.
COUNTED = 0.5
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@attrs.frozen
class HostLoad:
    """Processor time during a window, in cores: seconds of processor time per second.

    Attributes:
        cores: logical processors on which the worker and its engine may run; the rest counts these alone.
        own_cores: used by the worker, the engine and the process that reads the meters.
        others_cores: used by all other processes. By the ticks of the clock it may be off by some hundredths, also
            below 0.
        steal_cores: taken by the hypervisor for other virtual machines while there was work to do.
        throttled: share of its periods in which a CPU quota (of a container, or a job) stopped the worker; None without
            a quota.
    """

    cores: int
    own_cores: float
    others_cores: float
    steal_cores: float
    throttled: float | None = None


@attrs.frozen
class _Reading:
    """What stood in the files at one moment; as bytes, because there is no time to look at it."""

    at_ns: int
    stat: bytes
    own: Mapping[int, bytes]
    quotas: tuple[bytes, ...]


@attrs.frozen
class _Process:
    """Of one process, in seconds: time of its own, and of its children that ended; and when it started, in ticks."""

    parent: int
    own_s: float
    ended_s: float
    started: int

    @classmethod
    def of(cls, stat: bytes) -> _Process:
        """From /proc/<pid>/stat; the name, in parentheses, may hold anything."""
        fields = stat[stat.rindex(b")") + 2 :].split()
        user, system, children_user, children_system = (int(field) * TICK_S for field in fields[11:15])
        return cls(int(fields[1]), user + system, children_user + children_system, int(fields[19]))


class HostWatch:
    """Watches the host around each window: `look`, then `begin` and `end` at its edges, then `load`.

    Args:
        proc, cgroup: where the kernel shows processes and control groups.
        root: the process whose descendants are ours.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        root: int | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._proc, self._clock_ns = proc, clock_ns
        self._roots = {os.getpid() if root is None else root}
        self._own: dict[int, int] = {}  # when each started: a number may come again
        self._there: dict[int, int] = {}  # the same of all processes, before the window
        self._cores: frozenset[int] = frozenset()
        self._quotas = _quotas(proc, cgroup)
        self._first: _Reading | None = None
        self._last: _Reading | None = None

    def own(self, pids: Iterable[int]) -> None:
        """These processes, with their descendants, are ours too: those of a server that was running already."""
        self._roots |= set(pids)

    def look(self) -> None:
        """Find our processes, and where they may run. Takes milliseconds: not at the edge of a window."""
        self._first = self._last = None
        self._there = {pid: one.started for pid, one in self._find().items()}
        self._cores = _allowed(self._proc, self._own)

    def _find(self) -> dict[int, _Process]:
        """All processes; ours are noted. Once ours, a process stays so, whoever its parent becomes."""
        everyone = _everyone(self._proc)
        known = {pid for pid, started in self._own.items() if pid in everyone and everyone[pid].started == started}
        ours = (self._roots & everyone.keys()) | known
        while more := {pid for pid, one in everyone.items() if one.parent in ours} - ours:
            ours |= more
        self._own = {pid: everyone[pid].started for pid in ours}
        return everyone

    def begin(self) -> None:
        """A window is about to open."""
        self._first, self._last = self._read(), None

    def end(self) -> None:
        """The window has closed."""
        self._last = self._read()

    def _read(self) -> _Reading | None:
        try:
            stat = (self._proc / "stat").read_bytes()
        except OSError:  # not Linux
            return None
        own = {pid: text for pid in self._own if (text := _bytes(self._proc / str(pid) / "stat"))}
        return _Reading(self._clock_ns(), stat, own, tuple(_bytes(path) for path in self._quotas))

    def load(self) -> HostLoad | None:
        """Of the last window. None where it was too short, or the system does not count."""
        first, last = self._first, self._last
        if first is None or last is None or last.at_ns - first.at_ns < LEAST_S * 1e9:
            return None
        seconds = (last.at_ns - first.at_ns) / 1e9
        before, after = _processors(first.stat), _processors(last.stat)
        counted = [number for number in before if number in after]
        cores = [number for number in counted if number in self._cores] or counted
        busy, steal, idle = (sum(after[n][i] - before[n][i] for n in cores) for i in range(3))
        if busy + steal + idle < COUNTED * seconds * len(cores) or not cores:
            return None
        own = _used(first.own, last.own) + self._late()
        return HostLoad(
            cores=len(cores),
            own_cores=own / seconds,
            others_cores=(busy - own) / seconds,
            steal_cores=steal / seconds,
            throttled=_throttled(first.quotas, last.quotas),
        )

    def _late(self) -> float:
        """Seconds of processes of ours that started since `look` and still run; with what they did after the window."""
        everyone, there = self._find(), self._there
        new = (everyone[pid] for pid, started in self._own.items() if there.get(pid) != started)
        return sum(one.own_s + one.ended_s for one in new)


def watched(seconds: float = 1.0, sleep: Callable[[float], None] = time.sleep) -> HostLoad | None:
    """The load of the host during some seconds from now; None as of `HostWatch.load`."""
    watch = HostWatch()
    watch.look()
    watch.begin()
    sleep(seconds)
    watch.end()
    return watch.load()


def busy(load: HostLoad | None) -> str | None:
    """In words, what others take of a host that is too busy to measure on; None if it is quiet, or not known."""
    if load is None or load.others_cores + load.steal_cores <= max(BUSY_CORES, BUSY_SHARE * load.cores):
        return None
    stolen = f", and other virtual machines {load.steal_cores:.1f}" if load.steal_cores >= 0.05 else ""
    return f"other processes use {max(load.others_cores, 0.0):.1f} of {load.cores} cores{stolen}"


def _bytes(path: Path) -> bytes:
    """Empty where the file is not there any more, or not for us."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _everyone(proc: Path) -> dict[int, _Process]:
    found = {}
    for name in os.listdir(proc) if proc.is_dir() else ():
        if name.isdigit() and (text := _bytes(proc / name / "stat")):
            found[int(name)] = _Process.of(text)
    return found


def _allowed(proc: Path, pids: Collection[int]) -> frozenset[int]:
    """Processors that any thread of these processes may use: a library may bind each thread to one."""
    found: set[int] = set()
    for pid in pids:
        try:
            for thread in os.listdir(proc / str(pid) / "task"):
                found |= os.sched_getaffinity(int(thread))
        except OSError:  # it has ended, or belongs to another user
            continue
    return frozenset(found)


def _processors(stat: bytes) -> dict[int, tuple[float, float, float]]:
    """Seconds of each processor by its number: of processes, stolen, idle or in interrupts.

    Guests' time is part of the user's (proc(5)).
    """
    found = {}
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith(b"cpu") and name[3:].isdigit():
            user, nice, system, idle, iowait, irq, softirq, steal = (int(field) * TICK_S for field in fields[:8])
            found[int(name[3:])] = (user + nice + system, steal, idle + iowait + irq + softirq)
    return found


def _used(first: Mapping[int, bytes], last: Mapping[int, bytes]) -> float:
    """Seconds that these processes, and their children that ended meanwhile, used between two readings.

    A parent that collects a child counts all that the child ever used, so what that one had used before is taken off.
    """
    before = {pid: _Process.of(text) for pid, text in first.items()}
    after = {pid: _Process.of(text) for pid, text in last.items()}
    alive = [pid for pid in before if pid in after and before[pid].started == after[pid].started]
    gone = [one for pid, one in before.items() if pid not in alive]
    used = sum(after[pid].own_s - before[pid].own_s for pid in alive)
    ended = sum(after[pid].ended_s - before[pid].ended_s for pid in alive)
    return used + max(ended - sum(one.own_s + one.ended_s for one in gone), 0.0)


def _quotas(proc: Path, cgroup: Path) -> tuple[Path, ...]:
    """`cpu.stat` of each control group above us that has a quota (versions 1 and 2 of control groups)."""
    found = []
    for line in _bytes(proc / "self/cgroup").decode(errors="replace").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = cgroup / controllers if controllers else cgroup
        folder = base / name.lstrip("/")
        for group in (folder, *folder.parents):
            limit = _bytes(group / "cpu.max") or _bytes(group / "cpu.cfs_quota_us")
            if limit and not limit.startswith((b"max", b"-1")):
                found.append(group / "cpu.stat")
            if group == base:
                break
    return tuple(found)


def _throttled(first: Iterable[bytes], last: Iterable[bytes]) -> float | None:
    """The greatest share of periods in which a quota stopped its group, of all quotas that had periods."""
    shares = []
    for before, after in zip(map(_pairs, first), map(_pairs, last), strict=True):
        periods = after.get(b"nr_periods", 0) - before.get(b"nr_periods", 0)
        if periods > 0:
            shares.append((after.get(b"nr_throttled", 0) - before.get(b"nr_throttled", 0)) / periods)
    return max(shares, default=None)


def _pairs(text: bytes) -> dict[bytes, int]:
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}
