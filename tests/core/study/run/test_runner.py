"""The study's side of a run: jobs of the trials, folders, the user's wish to stop, observers."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import attrs
import pytest

from llem.config.study.file import StudyFile
from llem.config.study.order import Limits
from llem.errors import ExperimentFailed, LlemError, MachineError, StoreError
from llem.experiment.worker import work
from llem.launchers.base import Launcher
from llem.launchers.inline import InlineLauncher
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.protocol.events import Ended, Event, Failure, Outcome, Phase, Warned, silent
from llem.protocol.lines import from_json
from llem.protocol.order import WorkOrder
from llem.protocol.study_events import Left, OutOfMemory, ResultComputed, WorkerLaunched
from llem.store.store import Store
from llem.study.plan.planned import PlannedExperiment
from llem.study.plan.schedule import schedule
from llem.study.plan.study import Study
from llem.study.run import stopping
from llem.study.run.folder import default_folder
from llem.study.run.stopping import SAME_REQUEST_S, Watchdog, stop_on_interrupt
from llem.study.run.study_run import Ran, run_all


@pytest.fixture
def plan(short, planned):
    """A short experiment with these further settings."""

    def _plan(**settings) -> PlannedExperiment:
        return planned(**{**short, **settings})

    return _plan


def run(planned: PlannedExperiment, out: Path, launcher: Launcher, stop: threading.Event | None = None, emit=silent):
    """The production path below the command line."""
    return run_several([planned], out, launcher, stop, emit).only()


class Silent(Launcher):
    """A worker that ends without a word, with this status; meanwhile the user may ask to stop."""

    name = "silent"

    def __init__(self, status: int, stops: bool = False) -> None:
        super().__init__()
        self.status, self.stops, self.launched = status, stops, 0

    def launch(self, order, emit, stop):
        self.launched += 1
        if self.stops:
            stop.set()
        return self.status


def test_a_worker_that_ends_without_a_word_is_a_crash(plan, tmp_path: Path) -> None:
    """Its status is in the error, the outcome in the store."""
    with pytest.raises(ExperimentFailed) as caught:
        run(plan(), tmp_path / "out", Silent(-11))
    [outcome] = Store.open(tmp_path / "out").outcomes(plan().id)

    assert caught.value.message == "the worker ended with status -11 and no outcome"
    assert (outcome["outcome"], outcome["error"]) == ("crash", caught.value.message)


class Leaves(Launcher):
    """A worker that leaves its experiment to another one, which is not there."""

    name = "leaves"

    def __init__(self) -> None:
        super().__init__()
        self.launched = 0

    def launch(self, order, emit, stop):
        self.launched += 1
        emit(Left(why="another worker has it"))
        emit(Ended())
        return 0


def test_workers_that_leave_all_to_others_in_vain_have_an_end(plan, tmp_path: Path) -> None:
    """One after the other would be launched for ever."""
    launcher = Leaves()
    with pytest.raises(ExperimentFailed, match="10 workers in a row left this to others") as caught:
        run(plan(), tmp_path / "out", launcher)
    [outcome] = Store.open(tmp_path / "out").outcomes(plan().id)

    assert launcher.launched == 10
    assert outcome["error"] == caught.value.message


def test_a_worker_that_was_told_to_stop_before_it_could_listen_was_interrupted(plan, tmp_path: Path) -> None:
    """SIGTERM ends an interpreter that is still importing; that is the user's wish and no crash."""
    with pytest.raises(ExperimentFailed) as caught:
        run(plan(), tmp_path / "out", Silent(-15, stops=True))
    [outcome] = Store.open(tmp_path / "out").outcomes(plan().id)

    assert (caught.value.code, outcome["outcome"]) == ("interrupted", "interrupted")


class Starved(Launcher):
    """A worker that ran out of memory, by the word of who ended it."""

    name = "starved"

    def launch(self, order, emit, stop):
        emit(OutOfMemory(why="slurm: job 7 ended as OUT_OF_MEMORY"))
        return -9


def test_a_worker_that_was_ended_for_want_of_memory_is_oom(plan, tmp_path: Path) -> None:
    """Not a crash; in the words of who ended it."""
    with pytest.raises(ExperimentFailed) as caught:
        run(plan(), tmp_path / "out", Starved())
    [outcome] = Store.open(tmp_path / "out").outcomes(plan().id)

    assert (caught.value.code, outcome["outcome"]) == ("oom", "oom")
    assert caught.value.message == "memory ran out: slurm: job 7 ended as OUT_OF_MEMORY"
    assert "smaller batch" in caught.value.hint


class Deaf(Launcher):
    """A worker that hangs in a library when the user asks to stop, in this phase."""

    name = "deaf"

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.phase, self.killed = phase, threading.Event()

    def launch(self, order, emit, stop):
        emit(attrs.evolve(self.phase, id=WorkOrder.read(order).experiment_id))
        stop.set()
        assert self.killed.wait(60)
        return -9

    def kill(self):
        self.killed.set()


@pytest.mark.parametrize(
    "phase",
    [
        Phase(phase="load"),
        Phase(phase="warm-up", seconds=900.0),
        Phase(phase="quality", task="a", done=3, total=9),
    ],
)
def test_a_worker_that_does_not_listen_is_ended(plan, tmp_path: Path, monkeypatch, phase: Phase) -> None:
    """Soon after the wish to stop, which is what its outcome says."""
    monkeypatch.setattr(stopping, "STOP_S", 0.1)
    with pytest.raises(ExperimentFailed) as caught:
        run(plan(), tmp_path / "out", Deaf(phase))
    [outcome] = Store.open(tmp_path / "out").outcomes(plan().id)
    assert (caught.value.code, outcome["outcome"]) == ("interrupted", "interrupted")


class Lingers(InlineLauncher):
    """A worker in which a plugin left a thread that is no daemon: its work is done, and its process goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.killed = threading.Event()

    def launch(self, order, emit, stop):
        super().launch(order, emit, stop)
        assert self.killed.wait(60)
        return -9

    def kill(self):
        self.killed.set()


@pytest.mark.process
def test_a_worker_that_does_not_leave_is_ended(plan, tmp_path: Path, monkeypatch) -> None:
    """Soon after it said that its work is done, which stands; whose thread it may be is told."""
    monkeypatch.setattr(stopping, "LEAVE_S", 0.2)
    seen: list[Event] = []
    result = run(plan(), tmp_path / "out", Lingers(), emit=seen.append)

    assert (result.outcome, result.valid) == ("done", True)
    assert [one.message for one in seen if isinstance(one, Warned)] == [
        "a worker of the backend 'echo' was done and did not leave, so it was ended: a plugin left a thread in it"
    ]


def test_a_trial_that_is_under_way_may_end(monkeypatch) -> None:
    """In twice the time that it should take."""
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    stop = threading.Event()
    watch = Watchdog(Limits(), print, stop, from_start=True, on_event=silent)
    watch(Phase(phase="trial", seconds=100.0, id="abc"))
    stop.set()
    seen = []
    for now[0] in (1.0, 150.0, 199.0, 230.0):
        seen.append(watch._is_deaf())
    assert seen == [False, False, False, True]


class StopsAfterwards(InlineLauncher):
    """The user asks to stop when the first engine process has just ended well."""

    def launch(self, order, emit, stop):
        status = super().launch(order, emit, stop)
        stop.set()
        return status


@pytest.mark.process
def test_no_further_engine_process_is_started_after_a_wish_to_stop(plan, tmp_path: Path) -> None:
    """What was measured is kept and computed; the result says that it was interrupted."""
    planned = plan(trials=2, max_trials=2, processes=2)
    with pytest.raises(ExperimentFailed) as caught:
        run(planned, tmp_path / "out", StopsAfterwards())
    store = Store.open(tmp_path / "out")
    result = store.read_result(planned.id)

    assert (caught.value.code, str(tmp_path / "out") in caught.value.hint) == ("interrupted", True)
    assert result is not None
    assert (result.outcome, result.trials, result.valid) == ("interrupted", 1, False)
    assert [document["outcome"] for document in store.outcomes(planned.id)] == ["done"]


class Interrupted(Launcher):
    """The user presses Ctrl-C a second time."""

    name = "interrupted"

    def launch(self, order, emit, stop):
        raise KeyboardInterrupt


def test_a_kill_by_the_user_is_recorded(plan, tmp_path: Path) -> None:
    """The result is written all the same."""
    with pytest.raises(ExperimentFailed) as caught:
        run(plan(), tmp_path / "out", Interrupted())
    result = Store.open(tmp_path / "out").read_result(plan().id)

    assert caught.value.code == "interrupted"
    assert result is not None
    assert (result.outcome, result.error) == ("interrupted", "killed by the user")


@pytest.mark.process
@pytest.mark.parametrize("when", ["load", "warm-up", "trial"])
def test_the_first_wish_to_stop_ends_the_run_at_the_next_step(plan, tmp_path: Path, when: str) -> None:
    """The step that runs is finished and its trial kept; the next does not begin."""
    stop = threading.Event()
    seen = []

    def emit(event) -> None:
        seen.append(event.phase if isinstance(event, Phase) else event.kind)
        if isinstance(event, Phase) and event.phase == when:
            stop.set()

    with pytest.raises(ExperimentFailed) as caught:
        run(plan(trials=3, max_trials=3), tmp_path / "out", InlineLauncher(), stop, emit)
    trials = Store.open(tmp_path / "out").trials(plan().id)
    told = [name for name in seen if name not in ("loaded", "ended", "worker ended", "result")]

    assert (caught.value.message, caught.value.code) == ("stopped by the user", "interrupted")
    assert len(trials) == (1 if when == "trial" else 0)
    assert told[-2:] == [when, "outcome"]


@pytest.mark.parametrize(
    ("code", "kind"), [(1, ExperimentFailed), (2, LlemError), (3, MachineError)], ids=["failed", "user", "machine"]
)
def test_the_workers_error_keeps_its_kind(plan, tmp_path: Path, code: int, kind: type[LlemError]) -> None:
    """Message, hint, code and exit code are those of the error in the worker."""

    class Refuses(Launcher):
        name = "refuses"

        def launch(self, order, emit, stop):
            emit(Outcome(id=plan().id, outcome="invalid", error=Failure("invalid", "no", "yes", "why", code)))
            return 1

    with pytest.raises(kind) as caught:
        run(plan(), tmp_path / "out", Refuses())

    assert (caught.value.message, caught.value.hint, caught.value.code) == ("no", "yes", "why")
    assert caught.value.exit_code == code


class Stranger(Launcher):
    """Its worker measures the first experiment, and then tells what this llem does not know."""

    name = "stranger"

    def launch(self, order, emit, stop):
        whole = WorkOrder.read(order)
        first = whole.experiments[:1]
        turns = tuple(turn for turn in whole.turns if turn[0] in first)
        work(attrs.evolve(whole, experiments=first, turns=turns), registry(), silent, stop)
        emit(from_json('{"event": "quality"}', order.parent / "log.txt"))


@pytest.mark.process
def test_a_worker_that_is_not_understood_costs_what_it_has_not_measured(plan, tmp_path: Path) -> None:
    """The error names the log; what is stored stays done, and the study goes on to its end."""
    several = [plan(load={"batch_size": size}) for size in (1, 2)]
    ran = run_several(several, tmp_path / "out", Stranger())
    [error] = ran.errors.values()

    assert [result.outcome for result in ran.results] == ["done", "invalid"]
    assert list(ran.errors) == [several[1].id]
    assert (error.code, error.exit_code) == ("event_unknown", 3)
    assert str(tmp_path / "out" / "workers" / "0" / "log.txt") in error.hint
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_folder_that_holds_something_is_left_alone(plan, tmp_path: Path) -> None:
    """Nobody's results are written over, and no worker is started."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    launcher = Silent(0)
    with pytest.raises(StoreError) as caught:
        run(plan(), tmp_path / "out", launcher)

    assert caught.value.code == "store_exists"
    assert launcher.launched == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("name", "begins"),
    [("mine", "mine-2"), ("../up/and away", "up-and-away-2"), ("...", "llem-2"), ("Größe", "Größe-2")],
)
def test_a_default_folder_lies_in_the_results_folder(tmp_path: Path, name: str, begins: str) -> None:
    """Whatever the study is called."""
    folder = default_folder(str(tmp_path), name)

    assert folder.parent == tmp_path
    assert folder.name.startswith(begins)


def test_default_folders_are_new(tmp_path: Path) -> None:
    """Also when several are made within a second."""
    made = []
    for _ in range(4):
        made.append(default_folder(str(tmp_path), "mine"))
        made[-1].mkdir()

    assert len(set(made)) == 4


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("number", "again"), [(signal.SIGINT, "press Ctrl-C again"), (signal.SIGTERM, "send SIGTERM again")]
)
def test_the_first_interrupt_asks_and_the_second_insists(capsys, number: signal.Signals, again: str) -> None:
    """An event, then KeyboardInterrupt; afterwards the handler is what it was."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before = signal.getsignal(number)
    with stop_on_interrupt() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        if number == signal.SIGTERM:
            signal.raise_signal(number)  # as `timeout` does, at once: no second request
            time.sleep(SAME_REQUEST_S)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)

    assert again in capsys.readouterr().err
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("own_signals")
def test_a_program_keeps_its_own_handler_of_sigterm() -> None:
    """It may have more to end than llem."""
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    with stop_on_interrupt() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert not stop.is_set()

    assert seen == [signal.SIGTERM]


def test_in_another_thread_signals_are_left_alone() -> None:
    """A program may call llem from a thread, where Python allows no handlers."""
    found = []

    def call() -> None:
        with stop_on_interrupt() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert found == [False]


# several experiments


def run_several(planned: list[PlannedExperiment], out: Path, launcher: Launcher, stop=None, emit=silent) -> Ran:
    """As a study runs them."""
    file = StudyFile("test", ())
    study = Study(file, tuple(planned), tuple(schedule(planned, file.order)))
    return run_all(study, out, lambda: launcher, registry(), emit=emit, stop=stop or threading.Event())


@pytest.mark.process
def test_experiments_that_share_an_engine_share_workers(plan, tmp_path: Path) -> None:
    """One worker for each engine process; each experiment's engine processes are numbered from 0."""
    several = [plan(trials=2, max_trials=2, processes=2, sampling={"seed": seed}) for seed in (1, 2)]
    events: list[Event] = []
    ran = run_several(several, tmp_path / "out", InlineLauncher(), emit=events.append)
    store = Store.open(tmp_path / "out")

    assert [result.id for result in ran.results] == [one.id for one in several]
    assert (ran.errors, ran.interrupted) == ({}, None)
    assert sorted(path.name for path in (tmp_path / "out" / "workers").iterdir()) == ["0", "1"]
    assert [[trial.process for trial in store.trials(one.id)] for one in several] == [[0, 1], [0, 1]]
    assert [len(event.experiments) for event in events if isinstance(event, WorkerLaunched)] == [2, 2]
    assert sorted(event.id for event in events if isinstance(event, ResultComputed)) == sorted(
        one.id for one in several
    )


def apart(plan, count: int, **settings) -> list[PlannedExperiment]:
    """Experiments each of which needs an engine of its own."""
    return [plan(echo={"token_seconds": 0.001 + n / 1e5}, **settings) for n in range(count)]


def test_a_study_goes_on_after_a_worker_that_failed(plan, tmp_path: Path) -> None:
    """Each failure is an outcome and an error by id."""
    several = apart(plan, 2)
    ran = run_several(several, tmp_path / "out", Silent(-11))

    assert [result.outcome for result in ran.results] == ["crash", "crash"]
    assert set(ran.errors) == {one.id for one in several}


@pytest.mark.process
@pytest.mark.parametrize(
    "launcher", [StopsAfterwards(), Silent(-15, stops=True), Interrupted()], ids=lambda one: one.name
)
def test_a_wish_to_stop_leaves_the_rest_of_a_study_undone(plan, tmp_path: Path, launcher: Launcher) -> None:
    """After the first experiment, whether it ended or not; what did not begin has no folder."""
    ran = run_several(apart(plan, 3), tmp_path / "out", launcher)

    [result] = ran.results
    assert ran.interrupted is not None
    assert ran.interrupted.code == "interrupted"
    assert Store.open(tmp_path / "out").experiment_ids() == (result.id,)


def test_a_store_that_cannot_be_written_ends_the_study(plan, tmp_path: Path) -> None:
    """There is no sense in measuring what cannot be kept."""

    several = apart(plan, 2)
    began: list[str] = []

    class Occupies(Silent):
        def launch(self, order, emit, stop):
            [name] = Store.open(tmp_path / "out").experiment_ids()
            began.append(name)
            [other] = [one.id for one in several if one.id != name]
            (tmp_path / "out" / "experiments" / other).write_text("in the way")
            return super().launch(order, emit, stop)

    with pytest.raises(LlemError):
        run_several(several, tmp_path / "out", Occupies(0))

    assert Store.open(tmp_path / "out").experiment_ids() == tuple(began)
