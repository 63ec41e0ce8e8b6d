"""Who used the processors during a window: arithmetic on files made for the test, and real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from llem.devices.load import HostLoad, HostWatch

S = 1_000_000_000
WORKER, ENGINE, STRANGER = 100, 101, 200


class Machine:
    """A /proc with two processors, a worker, its engine and a stranger; times in ticks of 10 ms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cpus = [[0] * 10, [0] * 10]  # user nice system idle iowait irq softirq steal guest guest_nice
        self.processes = {WORKER: [1, 0, 0, 0, 0, 7], ENGINE: [WORKER, 0, 0, 0, 0, 8], STRANGER: [1, 0, 0, 0, 0, 9]}
        self.now_ns = 0

    def write(self) -> None:
        """Everything as it is now."""
        lines = [f"cpu{n} {' '.join(map(str, one))}" for n, one in enumerate(self.cpus)]
        (self.folder / "stat").write_text("\n".join(["cpu 0 0 0 0", *lines, "intr 1 2 3", ""]))
        for old in self.folder.glob("[0-9]*/stat"):
            old.unlink()
        for pid, (parent, user, system, ended_user, ended_system, started) in self.processes.items():
            (self.folder / str(pid)).mkdir(exist_ok=True)
            times = f"{user} {system} {ended_user} {ended_system}"
            text = f"{pid} (a (name) 1) S {parent} 0 0 0 -1 0 0 0 0 0 {times} 20 0 1 0 {started} 0 0"
            (self.folder / str(pid) / "stat").write_text(text)

    def used(self, pid: int, user: int = 0, system: int = 0, ended: int = 0) -> None:
        """So many ticks more of a process, and of its children that ended."""
        parent, *times, started = self.processes[pid]
        more = (user, system, ended, 0)
        self.processes[pid] = [parent, *(a + b for a, b in zip(times, more, strict=True)), started]

    def passed(self, seconds: float, *busy: dict[str, int]) -> None:
        """Time passes; `busy` has each processor's ticks by kind, and the rest it is idle."""
        self.now_ns += round(seconds * S)
        for cpu, ticks in zip(self.cpus, busy, strict=True):
            for kind, count in ticks.items():
                cpu[("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal").index(kind)] += count
            cpu[3] += round(seconds * 100) - sum(ticks.values())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One whose processes may run anywhere."""
    made = Machine(tmp_path / "proc")
    made.folder.mkdir()
    made.write()
    return made


def watch(machine: Machine) -> HostWatch:
    """A watch of it that has looked, and begun a window."""
    found = HostWatch(machine.folder, machine.folder / "cgroup", WORKER, lambda: machine.now_ns)
    found.look()
    found.begin()
    return found


def ended(machine: Machine, watching: HostWatch) -> HostLoad | None:
    """The load of the window that ends now."""
    machine.write()
    watching.end()
    return watching.load()


def test_others_are_all_without_ours(machine: Machine) -> None:
    """In 2 s the processors worked 3.1 s, of which the worker and its engine 2.2 s; 0.1 s was stolen."""
    watching = watch(machine)
    machine.used(WORKER, user=10, system=10)
    machine.used(ENGINE, user=200)
    machine.used(STRANGER, user=90)
    machine.passed(2.0, {"user": 180, "system": 10, "irq": 4}, {"user": 100, "nice": 20, "steal": 10, "softirq": 6})

    assert ended(machine, watching) == HostLoad(2, pytest.approx(1.1), pytest.approx(0.45), pytest.approx(0.05), None)


def test_only_processors_that_we_may_use_count(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger on the other processor takes nothing from us; a thread of the engine bound elsewhere adds its own."""
    allowed = {WORKER: {1}, ENGINE: {1}}
    for pid in allowed:
        (machine.folder / str(pid) / "task" / str(pid)).mkdir(parents=True)
    monkeypatch.setattr(os, "sched_getaffinity", allowed.__getitem__)
    watching = watch(machine)
    machine.used(ENGINE, user=100)
    machine.used(STRANGER, user=100)
    machine.passed(1.0, {"user": 100}, {"user": 100})
    load = ended(machine, watching)
    assert load is not None
    assert (load.cores, load.own_cores, load.others_cores) == (1, pytest.approx(1.0), pytest.approx(0.0))

    allowed[ENGINE] = {0, 1}
    watching = watch(machine)
    machine.passed(1.0, {"user": 100}, {})
    load = ended(machine, watching)
    assert load is not None
    assert (load.cores, load.others_cores) == (2, pytest.approx(1.0))


@pytest.mark.parametrize("collected", [True, False])
def test_a_child_that_ends_within_the_window_is_ours(machine: Machine, collected: bool) -> None:
    """Its parent's count of it includes what it used before, which is not of this window."""
    machine.used(ENGINE, user=500)
    machine.write()
    watching = watch(machine)
    if collected:
        machine.used(WORKER, ended=500 + 80)
    del machine.processes[ENGINE]
    machine.passed(1.0, {"user": 80}, {})
    load = ended(machine, watching)

    assert load is not None
    assert load.own_cores == pytest.approx(0.8 if collected else 0.0)


def test_processes_that_start_within_the_window_are_ours(machine: Machine) -> None:
    """A child of the engine; a stranger's child is not, nor is a stranger that got the number of a process of ours."""
    watching = watch(machine)
    machine.processes[102] = [ENGINE, 30, 10, 0, 0, 50]
    machine.processes[201] = [STRANGER, 20, 0, 0, 0, 51]
    machine.processes[ENGINE] = [1, 900, 0, 0, 0, 60]  # the engine ended, and its number came again
    machine.passed(1.0, {"user": 60}, {})
    load = ended(machine, watching)
    assert load is not None
    assert (load.own_cores, load.others_cores) == (pytest.approx(0.0), pytest.approx(0.6))

    machine.processes[ENGINE] = [WORKER, 0, 0, 0, 0, 70]
    machine.processes[104] = [1, 500, 0, 0, 0, 71]
    machine.write()
    watching = watch(machine)
    machine.processes[103] = [ENGINE, 30, 10, 0, 0, 80]
    machine.processes[104][0] = ENGINE  # older than the window: what it did before is not of it
    machine.passed(1.0, {"user": 60}, {})
    load = ended(machine, watching)
    assert load is not None
    assert (load.own_cores, load.others_cores) == (pytest.approx(0.4), pytest.approx(0.2))


def test_a_process_stays_ours_when_its_parent_ends(machine: Machine) -> None:
    """Its parent is then the first process of the system."""
    watching = watch(machine)
    machine.processes[ENGINE][0] = 1
    machine.write()
    watching.look()
    watching.begin()
    machine.used(ENGINE, user=100)
    machine.passed(1.0, {"user": 100}, {})
    load = ended(machine, watching)

    assert load is not None
    assert load.own_cores == pytest.approx(1.0)


def test_a_server_that_was_running_is_ours(machine: Machine) -> None:
    """With what it started: its work is the work that is measured."""
    machine.processes[201] = [STRANGER, 0, 0, 0, 0, 10]
    machine.write()
    watching = watch(machine)
    watching.own([STRANGER])
    watching.look()
    watching.begin()
    machine.used(201, user=70)
    machine.passed(1.0, {"user": 70}, {})
    load = ended(machine, watching)

    assert load is not None
    assert (load.own_cores, load.others_cores) == (pytest.approx(0.7), pytest.approx(0.0))


def test_what_cannot_be_told_is_none(machine: Machine, tmp_path: Path) -> None:
    """A window below half a second, a system that does not count, one without /proc, and no window at all."""
    watching = watch(machine)
    machine.passed(0.49, {}, {})
    assert ended(machine, watching) is None

    watching = watch(machine)
    machine.now_ns += 2 * S
    assert ended(machine, watching) is None

    nowhere = HostWatch(tmp_path / "nowhere", tmp_path / "nowhere", WORKER, lambda: machine.now_ns)
    nowhere.look()
    nowhere.begin()
    machine.now_ns += 2 * S
    nowhere.end()
    assert nowhere.load() is None
    nowhere.look()
    assert nowhere.load() is None


@pytest.mark.parametrize(
    ("told", "base", "limit", "content"),
    [
        ("0::/pod/worker\n", "", "cpu.max", "200000 100000"),
        ("5:cpu,cpuacct:/pod/worker\n1:memory:/x\n", "cpu,cpuacct", "cpu.cfs_quota_us", "200000"),
    ],
)
def test_a_quota_of_any_group_above_us_is_watched(machine: Machine, told, base, limit, content) -> None:
    """In 3 of 10 periods the outer group was stopped; the inner one has no quota. Both versions of control groups."""
    (machine.folder / "self").mkdir()
    (machine.folder / "self" / "cgroup").write_text(told)
    outer = machine.folder / "cgroup" / base / "pod"
    (outer / "worker").mkdir(parents=True)
    (outer / limit).write_text(content)
    (outer / "worker" / limit).write_text("max 100000" if limit == "cpu.max" else "-1")
    (outer / "cpu.stat").write_text("nr_periods 100\nnr_throttled 7\n")
    watching = watch(machine)
    (outer / "cpu.stat").write_text("nr_periods 110\nnr_throttled 10\n")
    machine.passed(1.0, {}, {})
    load = ended(machine, watching)

    assert load is not None
    assert load.throttled == pytest.approx(0.3)


SPIN = "while True: pass"


@pytest.fixture
def spinner() -> Iterator[subprocess.Popen]:
    """A process that does nothing but work."""
    with subprocess.Popen([sys.executable, "-S", "-c", SPIN]) as process:
        yield process
        process.kill()


@pytest.mark.process
def test_a_busy_process_is_seen_from_inside_and_from_outside(spinner: subprocess.Popen) -> None:
    """As part of the tree of its parent, and as a stranger to another process; by its own count of its time."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        inside, outside = HostWatch(), HostWatch(root=sleeper.pid)
        for one in (inside, outside):
            one.look()
        before = sum(psutil.Process(spinner.pid).cpu_times()[:2])
        for one in (inside, outside):
            one.begin()
        began = time.monotonic()
        time.sleep(1.5)
        for one in (outside, inside):
            one.end()
        seconds = time.monotonic() - began
        used = (sum(psutil.Process(spinner.pid).cpu_times()[:2]) - before) / seconds
        sleeper.kill()
    ours, theirs = inside.load(), outside.load()

    assert ours is not None
    assert theirs is not None
    assert ours.own_cores >= used - 0.05
    assert theirs.own_cores == pytest.approx(0.0, abs=0.01)
    assert theirs.others_cores >= used - 0.15
    assert theirs.others_cores - ours.others_cores == pytest.approx(ours.own_cores, abs=0.1)


@pytest.mark.process
def test_reading_costs_less_than_a_millisecond() -> None:
    """At the edge of a window; the median, for this machine may be busy."""
    watching, costs = HostWatch(), []
    watching.look()
    for _ in range(50):
        began = time.perf_counter()
        watching.begin()
        costs.append(time.perf_counter() - began)

    assert sorted(costs)[25] < 0.001
