"""Windows are quiet: results are computed and observers called while no worker of this machine runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llem.launchers.base import Launcher
from llem.launchers.process import ProcessLauncher
from llem.metrics.result import recompute
from llem.plugins.registry import registry
from llem.protocol.order import WorkOrder
from llem.protocol.study_events import ResultComputed, WorkerEnded, WorkerLaunched
from llem.store.store import Store
from llem.study.plan.expand import load
from llem.study.run import study_run
from llem.study.run.quiet import Quiet, notify
from llem.study.run.ran import Ran
from llem.study.run.study_run import run_all
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

NVML = Path(__file__).parents[3] / "nvml"
BASE = {
    "backend": "echo",
    "device": "cuda",
    "meters": [],
    "preset": "quick",
    "window_s": 0.3,
    "warmup": {"batches": 1, "seconds": 0},
    "baseline": {"seconds": 0},
    "workload": {"output_tokens": 8, "input_tokens": 8},
}


def study(trials: list[int], **parts: Any):
    """Experiments with an engine each, and so many trials."""
    points = [
        {"echo.token_seconds": 0.001 + n / 1e4, "trials": count, "max_trials": count} for n, count in enumerate(trials)
    ]
    document = {"base": BASE, "experiments": points, "order": {"kind": "sequential"}, **parts}
    return load(document, (), registry())


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, which workers see too, and a folder of locks of our own."""
    fake = FakeNvml(FakeClock(), [FakeGpu(Load([(1.0, 100.0)]), uuid=f"GPU-{name}") for name in "AB"])
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: fake)
    monkeypatch.setattr("llem.devices.locks.LOCKS", tmp_path / "locks")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = [str(NVML), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))


Span = tuple[int, int]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    """When this process computed results and called observers, in monotonic ns; it takes half a second for each."""
    spans: list[Span] = []

    @contextmanager
    def timed() -> Iterator[None]:
        begin = time.monotonic_ns()
        time.sleep(0.5)
        yield
        spans.append((begin, time.monotonic_ns()))

    def slow_recompute(*args: Any) -> Any:
        with timed():
            return recompute(*args)

    def slow_notify(*args: Any, **arguments: Any) -> None:
        with timed():
            notify(*args, **arguments)

    monkeypatch.setattr(study_run, "recompute", slow_recompute)
    monkeypatch.setattr(study_run, "notify", slow_notify)
    return spans


def overlaps(spans: list[Span], others: list[Span]) -> list[tuple[Span, Span]]:
    """Pairs that have some time in common."""
    return [(one, other) for one in spans for other in others if one[0] < other[1] and other[0] < one[1]]


def windows(out: Path) -> list[Span]:
    """Every measured interval, in monotonic ns, which all processes of a machine share."""
    store = Store.open(out)
    return [(trial.t0_ns, trial.t1_ns) for name in store.experiment_ids() for trial in store.trials(name)]


@pytest.mark.process
@pytest.mark.parametrize("parallel", [1, 2])
def test_nothing_is_computed_while_a_window_is_open(tmp_path: Path, busy: list[Span], parallel: int) -> None:
    """Nor is an observer called: not in the window of the next job's worker, nor of one that runs beside."""
    workers: dict[int, list[int]] = {}

    def emit(event) -> None:
        if isinstance(event, (WorkerLaunched, WorkerEnded)):
            workers.setdefault(event.worker, []).append(time.monotonic_ns())

    out, planned = tmp_path / "out", study([1, 6, 1, 1], parallel=parallel)
    ran = run_all(planned, out, ProcessLauncher, registry(), emit=emit, stop=threading.Event())
    lives = [(begin, end) for begin, end in workers.values()]
    beside = [pair for pair in overlaps(lives, lives) if pair[0] != pair[1]]

    assert [result.outcome for result in ran.results] == ["done"] * 4
    assert [result.trials for result in ran.results] == [1, 6, 1, 1]
    assert bool(beside) == (parallel == 2), "else there is nothing to see"
    assert len(busy) == 3 * 4, "a result and two calls of observers for each experiment"
    assert overlaps(busy, windows(out)) == []


class Elsewhere(Launcher):
    """Workers on machines of their own; the second one waits for the result of the first."""

    name = "elsewhere"
    same_machine = False
    first = threading.Event()

    def launch(self, order, emit, stop):
        asked = WorkOrder.read(order)
        if asked.worker:
            assert Elsewhere.first.wait(20)
        return 1


def test_workers_elsewhere_keep_nothing_waiting(tmp_path: Path) -> None:
    """What this process does disturbs no window on another machine: results come as experiments end."""
    Elsewhere.first.clear()

    def emit(event) -> None:
        if isinstance(event, ResultComputed):
            Elsewhere.first.set()

    ran: Ran = run_all(
        study([1, 1], parallel=2), tmp_path / "out", Elsewhere, registry(), emit=emit, stop=threading.Event()
    )

    assert len(ran.results) == 2
    assert {error.message for error in ran.errors.values()} == {"the worker ended with status 1 and no outcome"}


def test_tasks_wait_for_workers_and_workers_for_tasks() -> None:
    """In order, each to its end, before the next worker starts."""
    quiet, told = Quiet(), list[str]()
    begun, go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go.wait(20)
        told.append("slow")

    def work() -> None:
        with quiet.worker():
            told.append("worker")

    with quiet.worker(), quiet.worker():
        quiet.later(slow)
        quiet.later(lambda: told.append("quick"))
        quiet.settle()
        assert told == []
    tasks = threading.Thread(target=quiet.settle)
    tasks.start()
    assert begun.wait(20)
    worker = threading.Thread(target=work)
    worker.start()
    go.set()
    for thread in (tasks, worker):
        thread.join(20)

    assert told == ["slow", "quick", "worker"]


def test_a_task_that_fails_leaves_the_others_for_later() -> None:
    """Its error is raised; what was queued after it is done when it is asked for again."""
    quiet, told = Quiet(), list[str]()

    def fails() -> None:
        raise OSError("disk full")

    quiet.later(fails)
    quiet.later(lambda: told.append("after"))
    with pytest.raises(OSError, match="disk full"):
        quiet.settle()
    assert told == []
    quiet.settle()

    assert told == ["after"]
