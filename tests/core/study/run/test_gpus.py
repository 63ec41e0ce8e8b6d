"""GPUs by UUID: locked across studies, and given to workers that run side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import llem
from llem.config.load import Layer, resolve
from llem.devices.locks import gpu_lock
from llem.errors import ConfigError, ExperimentFailed, MachineError
from llem.experiment.session import EngineProcess
from llem.launchers.base import Launcher
from llem.launchers.inline import InlineLauncher
from llem.plugins.registry import registry
from llem.protocol.events import Event, Failure, Outcome, Phase, silent
from llem.protocol.order import WorkOrder
from llem.protocol.study_events import Waited, Waiting
from llem.store.store import Store
from llem.study.plan.expand import load
from llem.study.plan.schedule import Job
from llem.study.run.gpus import Gpus, side_by_side
from llem.study.run.preflight import check_study
from llem.study.run.ran import Ran
from llem.study.run.study_run import run_all
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

STUDY = {
    "base": {"backend": "echo", "device": "cuda", "preset": "quick", "baseline": {"seconds": 0}},
    "axes": {"echo.token_seconds": [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]},
}


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, GPU-A and GPU-B, and a folder of locks of our own."""
    fake = FakeNvml(FakeClock(), [FakeGpu(Load([(1.0, 100.0)]), uuid=f"GPU-{name}") for name in "AB"])
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: fake)
    monkeypatch.setattr("llem.devices.locks.LOCKS", tmp_path / "locks")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more."""
    fake = FakeNvml(FakeClock(), [FakeGpu(Load([(1.0, 100.0)]), uuid=f"GPU-{name}") for name in "ABC"])
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: fake)


def experiment(**settings):
    """An experiment on a GPU."""
    return resolve([Layer("test", {**STUDY["base"], **settings})], registry()).experiment


class Recorder(Launcher):
    """A launcher whose workers do nothing for a while but hold their GPUs, and then say that they failed."""

    name = "recorder"
    now: set[str] = set()
    most = 0
    seen: list[tuple[str, ...]] = []
    killed: list[int] = []
    seconds = 0.2

    def __init__(self) -> None:
        super().__init__()
        self._told = threading.Event()

    @classmethod
    def reset(cls) -> None:
        cls.now, cls.most, cls.seen, cls.killed, cls.seconds = set(), 0, [], [], 0.2

    def launch(self, order, emit, stop):
        asked = WorkOrder.read(order)
        assert not Recorder.now & set(asked.gpus)
        Recorder.now |= set(asked.gpus)
        Recorder.most = max(Recorder.most, len(Recorder.now))
        Recorder.seen.append(asked.gpus)
        error = Failure("invalid", f"no {asked.worker}", "", f"x{asked.worker}", 2)
        emit(Phase(phase="trial", seconds=0.0, trial=0, id=asked.experiments[0]))
        self._told.wait(Recorder.seconds)
        Recorder.now -= set(asked.gpus)
        if self._told.is_set():
            return -9
        for name in asked.experiments:
            Store.open(asked.store).write_outcome(
                name, {"process": asked.process, "outcome": "invalid", "error": "no", "code": "no", "findings": []}
            )
            emit(Outcome(id=name, outcome="invalid", error=error))
        return 1

    def kill(self) -> None:
        Recorder.killed.append(1)
        self._told.set()


def run(out: Path, launcher: type[Launcher] = Recorder, emit=silent, stop=None, **more) -> Ran:
    """The study, with further parts."""
    Recorder.reset()
    loaded = load({**STUDY, **more}, (), registry())
    check_study(loaded, registry(), launcher())
    return run_all(loaded, out, launcher, registry(), emit=emit, stop=stop or threading.Event())


def test_workers_side_by_side_have_gpus_of_their_own(tmp_path: Path) -> None:
    """Two at a time, never two on one GPU, both GPUs in use, and every experiment has its turn."""
    ran = run(tmp_path / "out", parallel=2)
    orders = [WorkOrder.read(path) for path in (tmp_path / "out").glob("workers/*/order.json")]

    assert len(ran.results) == 6
    assert Recorder.most == 2
    assert set(Recorder.seen) == {("GPU-A",), ("GPU-B",)}
    assert sorted(order.worker for order in orders) == list(range(6))
    assert all(order.beside for order in orders)


def test_one_worker_at_a_time_keeps_to_the_first_gpu(tmp_path: Path) -> None:
    """As one experiment alone would."""
    run(tmp_path / "out")

    assert Recorder.most == 1
    assert set(Recorder.seen) == {("GPU-A",)}


def test_gpus_that_are_named_are_used_whoever_else_is_free(tmp_path: Path) -> None:
    """Workers that want the same GPU take turns."""
    run(tmp_path / "out", parallel=2, base={**STUDY["base"], "gpus": [1]})

    assert Recorder.most == 1
    assert set(Recorder.seen) == {("GPU-B",)}


def test_a_gpu_that_another_study_uses_is_not_touched(tmp_path: Path) -> None:
    """One worker goes on with the GPU that is left."""
    taken = gpu_lock("GPU-A")
    taken.take("another study")
    ran = run(tmp_path / "out", parallel=2)
    taken.let_go()

    assert len(ran.results) == 6
    assert set(Recorder.seen) == {("GPU-B",)}


def test_whom_one_waits_for_is_told(tmp_path: Path) -> None:
    """Once, by name; and when it is free the study begins."""
    taken = gpu_lock("GPU-A")
    taken.take("process 7, /results/other")
    told: list[Event] = []

    def emit(event) -> None:
        if isinstance(event, (Waiting, Waited)):
            told.append(event)
            taken.let_go()

    ran = run(tmp_path / "out", emit=emit)

    assert told == [
        Waiting(what="GPU-A (process 7, /results/other)", job=(0, 0)),
        Waited(job=(0, 0)),
    ]
    assert len(ran.results) == 6


def test_a_wait_has_an_end_where_one_is_set(tmp_path: Path) -> None:
    """The error names the holder and what to do; it is an outcome, and the machine's state."""
    taken = gpu_lock("GPU-A")
    taken.take("process 7, /results/other")
    ran = run(tmp_path / "out", limits={"gpu_wait_s": 0, "failures_in_a_row": 2})
    taken.let_go()
    error = next(iter(ran.errors.values()))

    assert isinstance(error, MachineError)
    assert error.message == "another study measures there: GPU-A (process 7, /results/other)"
    assert "limits.gpu_wait_s" in error.hint
    assert ran.stopped is not None
    assert Recorder.seen == []


def test_a_wait_ends_with_the_wish_to_stop() -> None:
    """Without a GPU nothing is measured."""
    taken, stop = gpu_lock("GPU-A"), threading.Event()
    taken.take()
    stop.set()
    with pytest.raises(ExperimentFailed) as caught, Gpus("me", None).taken(experiment(), stop, silent):
        pass
    taken.let_go()

    assert caught.value.code == "interrupted"


def at_once(gpus: Gpus, wanted) -> tuple[str, ...] | None:
    """The GPUs that an experiment gets without waiting; None where too few are free."""
    try:
        with gpus.taken(wanted, threading.Event(), silent) as uuids:
            return uuids
    except MachineError:
        return None


def test_all_gpus_of_an_experiment_or_none() -> None:
    """Two studies that each hold one of two would wait for ever."""
    both, gpus = experiment(gpus=[0, 1]), Gpus("me", 0)
    second = gpu_lock("GPU-B")
    second.take()
    assert at_once(gpus, both) is None
    first = gpu_lock("GPU-A")
    assert first.take()
    for lock in (first, second):
        lock.let_go()
    with gpus.taken(both, threading.Event(), silent) as uuids:
        assert uuids == ("GPU-A", "GPU-B")


def test_a_number_takes_gpus_that_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever they are, so many of them, or none; one that is asked for by number need not be the first."""
    three_gpus(monkeypatch)
    gpus, second, other = Gpus("me", 0), Gpus("me too", 0), gpu_lock("GPU-A")
    other.take("process 7")
    with gpus.taken(experiment(gpus=2), threading.Event(), silent) as uuids:
        assert uuids == ("GPU-B", "GPU-C")
        assert at_once(second, experiment(gpus=1)) is None
        with pytest.raises(MachineError) as caught, second.taken(experiment(gpus=2), threading.Event(), silent):
            pass
    with gpus.taken(experiment(gpus=1), threading.Event(), silent) as uuids:
        assert uuids == ("GPU-B",)
    assert at_once(gpus, experiment(gpus=3)) is None
    assert gpu_lock("GPU-C").take(), "what was locked before the third was missing is not let go"
    other.let_go()

    assert caught.value.message == ("another study measures there: 2 of GPU-A (process 7), GPU-B (me), GPU-C (me)")


def test_a_study_whose_experiments_take_numbers_of_gpus(tmp_path: Path) -> None:
    """A worker's order names them by UUID; two workers that each need both take turns."""
    run(tmp_path / "out", parallel=2, base={**STUDY["base"], "gpus": 2})

    assert Recorder.most == 2
    assert set(Recorder.seen) == {("GPU-A", "GPU-B")}


def boards_of(jobs: Sequence[Job], gpus: Gpus, seconds) -> dict[int, list[str]]:
    """Boards that each group ran on, in order, with two workers; a job holds its board for `seconds(job)`."""
    found: dict[int, list[str]] = {}
    wanted = experiment()

    def carry_out(job: Job) -> None:
        with gpus.taken(wanted, threading.Event(), silent, job) as uuids:
            found.setdefault(job.group, []).append(*uuids)
            time.sleep(seconds(job))

    side_by_side(jobs, 2, carry_out, gpus, lambda: None, threading.Event())
    return found


@pytest.mark.parametrize("kind", ["blocks", "reverse", "sequential"])
def test_engine_processes_of_a_group_get_the_board_that_it_had(kind: str) -> None:
    """Whichever worker was free first, in whatever order they are taken."""
    axes = {"echo.token_seconds": [0.001, 0.002, 0.003, 0.004]}
    more = {"axes": axes, "order": {"kind": kind, "seed": 3}}
    jobs = load({"base": {**STUDY["base"], "processes": 3}, **more}, (), registry()).jobs
    found = boards_of(jobs, Gpus("me", None, several=True), lambda job: 0.2 + 0.1 * (job.process % 2))

    assert [len(boards) for boards in found.values()] == [3] * 4
    assert [len(set(boards)) for boards in found.values()] == [1] * 4
    assert {boards[0] for boards in found.values()} == {"GPU-A", "GPU-B"}


def test_a_board_is_not_left_idle_for_a_group_that_waits_for_another() -> None:
    """Everything ran on one of two: the second worker takes some of it to the other board."""
    gpus = Gpus("me", None, several=True)
    jobs = [Job(group, 1, (f"e{group}",), ((f"e{group}", 1),)) for group in range(4)]
    for job in jobs:
        gpus.remember(job.group, ["GPU-B"])
    found = boards_of(jobs, gpus, lambda _: 0.1)

    assert sorted(board for boards in found.values() for board in boards) == ["GPU-A"] * 2 + ["GPU-B"] * 2


def test_a_group_does_not_leave_its_board_for_one_that_another_study_has() -> None:
    """While another study has the board of one group, the groups of the other board have their turns there."""
    gpus, other = Gpus("me", None, several=True), gpu_lock("GPU-A")
    jobs = [Job(group, 1, (f"e{group}",), ((f"e{group}", 1),)) for group in range(2)]
    for group, board in enumerate(["GPU-A", "GPU-B"]):
        gpus.remember(group, [board])
    other.take("another study")
    first = gpus.choose(jobs)
    other.let_go()
    gpus.over(first)

    assert first.group == 1
    assert gpus.choose(jobs).group == 0, "the board is free again"
    assert other.take("another study"), "looking at a board does not keep it"
    other.let_go()


def test_a_wait_for_the_studys_own_worker_has_no_limit(tmp_path: Path) -> None:
    """Another study has one of two boards: the second worker waits for the first, however long it takes."""
    other = gpu_lock("GPU-A")
    other.take("another study")
    ran = run(tmp_path / "out", parallel=2, limits={"gpu_wait_s": 0})
    other.let_go()

    assert len(Recorder.seen) == 6
    assert set(Recorder.seen) == {("GPU-B",)}
    assert "gpu_busy" not in {error.code for error in ran.errors.values()}


class Elsewhere(InlineLauncher):
    """A launcher whose workers choose their GPUs themselves: it knows nothing of the machine they run on."""

    name = "moved_boards"
    same_machine = False


@pytest.fixture
def gpus_for_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that samples power sees such GPUs too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3] / "nvml"))


WHOLE = {
    "base": {**STUDY["base"], "meters": [], "window_s": 0.1, "warmup": {"batches": 1, "seconds": 0}},
    "axes": {"echo.token_seconds": [0.001]},
}


def used(folder: Path) -> tuple[str, str, list[str]]:
    """The one experiment's id, how it ended and on which GPUs."""
    store = Store.open(folder)
    [name] = store.experiment_ids()
    engines = store.engines(name)
    return name, store.read_result(name).outcome, [gpu for engine in engines for gpu in engine["device"]["gpus"]]


@pytest.mark.process
@pytest.mark.usefixtures("gpus_for_children")
def test_a_worker_elsewhere_takes_what_was_assigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, of the visible ones, recorded by UUID; the id depends on the number, not on which they were."""
    three_gpus(monkeypatch)
    found = []
    for number, (visible, gpus) in enumerate([("0,1", 2), ("GPU-C,GPU-B", 2), ("0,2", [0, 2]), ("1", 1)]):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        out = tmp_path / str(number)
        run(out, Elsewhere, axes=WHOLE["axes"], base={**WHOLE["base"], "gpus": gpus})
        found.append(used(out))

    names, outcomes, uuids = zip(*found, strict=True)
    assert outcomes == ("done",) * 4
    assert uuids == (["GPU-A", "GPU-B"], ["GPU-C", "GPU-B"], ["GPU-A", "GPU-C"], ["GPU-B"])
    assert names[0] == names[1] == names[2] != names[3]


class Apart(Launcher):
    """A launcher of many machines, whose workers end without a word."""

    name = "apart"
    same_machine = False

    def launch(self, order, emit, stop):
        return 1


def test_workers_on_machines_of_their_own_are_not_beside_each_other(tmp_path: Path) -> None:
    """They share no processor whose energy would include the others' (the finding `shared_host`)."""
    run(tmp_path / "out", Apart, parallel=2)
    orders = [WorkOrder.read(path) for path in (tmp_path / "out").glob("workers/*/order.json")]

    assert len(orders) == 6
    assert not any(order.beside for order in orders)


@pytest.mark.process
@pytest.mark.usefixtures("gpus_for_children")
@pytest.mark.parametrize("gpus", [None, 1])
def test_a_worker_elsewhere_locks_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus) -> None:
    """Another study's GPUs are left alone, its own are let go when it ends, and none that is free is an error."""
    first, second = gpu_lock("GPU-A"), gpu_lock("GPU-B")
    first.take("process 7")
    monkeypatch.setattr(EngineProcess, "phase", lambda *_, **__: taken.append(second.take()))
    taken: list[bool] = []
    run(tmp_path / "one", Elsewhere, axes=WHOLE["axes"], base={**WHOLE["base"], "gpus": gpus})
    assert used(tmp_path / "one")[1:] == ("done", ["GPU-B"])
    assert taken
    assert not any(taken)
    assert second.take("process 8")

    ran = run(tmp_path / "two", Elsewhere, axes=WHOLE["axes"], base={**WHOLE["base"], "gpus": gpus})
    for lock in (first, second):
        lock.let_go()
    [result] = ran.results
    assert result.outcome != "done"
    assert "another study measures there: GPU-A (process 7), GPU-B (process 8)" in result.error


def test_the_second_interrupt_kills_every_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what they were at is recorded."""
    from llem.study.run import gpus

    wait, calls = gpus._wait, []

    def pressed(threads) -> None:
        calls.append(1)
        if len(calls) == 1:
            until = time.monotonic() + 20
            while Recorder.most < 2 and time.monotonic() < until:
                time.sleep(0.01)
            raise KeyboardInterrupt
        wait(threads)

    monkeypatch.setattr(gpus, "_wait", pressed)
    monkeypatch.setattr(Recorder, "reset", classmethod(lambda cls: setattr(cls, "seconds", 30.0)))
    Recorder.now, Recorder.most, Recorder.seen, Recorder.killed = set(), 0, [], []
    ran = run(tmp_path / "out", parallel=2)

    assert Recorder.killed == [1, 1]
    assert ran.interrupted is not None
    assert [(result.outcome, result.error) for result in ran.results] == [("interrupted", "killed by the user")] * 2


def test_more_workers_than_can_be(tmp_path: Path) -> None:
    """Side by side on the CPU they would disturb each other; a launcher may have room for one only."""
    cpu = load({**STUDY, "parallel": 2, "base": {**STUDY["base"], "device": "cpu"}}, (), registry())
    with pytest.raises(MachineError, match="needs a GPU for each worker"):
        check_study(cpu, registry(), Recorder())
    with pytest.raises(ConfigError, match="runs one worker at a time"):
        check_study(load({**STUDY, "parallel": 2}, (), registry()), registry(), InlineLauncher())
    with pytest.raises(llem.ConfigError, match="parallel: must be a whole number"):
        load({**STUDY, "parallel": 0}, (), registry())
