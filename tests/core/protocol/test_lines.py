"""Events on the wire and in files: exact, timed, and refused with the log's name where they are not known."""

from __future__ import annotations

import errno
import io
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from llem.errors import MachineError, StoreError
from llem.foreign import files
from llem.protocol.events import (
    BaselineMeasured,
    Calibrated,
    Ended,
    Event,
    Failure,
    Loaded,
    Outcome,
    Phase,
    Power,
    RateTried,
    Started,
    TrialEnded,
    Warned,
    silent,
)
from llem.protocol.lines import EVENTS, from_json, kept, stored_events, to_json
from llem.protocol.order import WorkOrder
from llem.protocol.study_events import (
    ExperimentPlan,
    JobPlan,
    Left,
    OutOfMemory,
    ResultComputed,
    StudyBegan,
    Waited,
    Waiting,
    WorkerEnded,
    WorkerLaunched,
)

LOG = Path("workers/0/log.txt")
PLAN = JobPlan((1, 0), {"a": ExperimentPlan(3, 10.5, 30.0)}, 30.0, 20.0)
SAMPLES: tuple[Event, ...] = (
    StudyBegan(
        experiments=2, done=1, processes=1, parallel=1, gap_s=0.5, points={"a": {"load.batch_size": 4}}, jobs=(PLAN,)
    ),
    Waiting(what="GPU-1 (process 7)", job=(1, 0)),
    Waiting(what="Slurm, job 7: Priority", worker=3),
    Waited(),
    WorkerLaunched(worker=3, job=(1, 0), process=2, experiments=("a", "b"), gpus=("GPU-1",), log="log.txt"),
    Started(pid=7),
    Phase(phase="load"),
    Phase(phase="trial", seconds=12.5, id="a", trial=0),
    Loaded(load_s=1.5),
    BaselineMeasured(phase="after", t0_ns=1, t1_ns=2),
    Calibrated(id="a", trial_s=12.5, settle_s=0.1, after_s=20.0, batch_s=0.1, batches=100),
    RateTried(id="a", request_rate=5.5, judged=30, kept=29, steady=True, on_time=False),
    TrialEnded(id="a", trial=0, t0_ns=1, t1_ns=2**62, duration_s=0.1, output_tokens_per_s=1 / 3),
    Outcome(id="a", outcome="oom", error=Failure("oom", "no memory", "a smaller batch", "oom", 1)),
    Outcome(id="a", outcome="done"),
    Warned(message="é"),
    Power(watts={"gpu:A": 650.25}),
    Ended(),
    Left(why="job 7 ended as PREEMPTED", gone=False),
    OutOfMemory(why="job 7 ended as OUT_OF_MEMORY"),
    WorkerEnded(worker=3),
    ResultComputed(id="a", outcome="done", valid=True, seconds=0.25),
)


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.kind)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Every field and the time, exactly; one line of JSON."""
    line = to_json(event)
    back = from_json(line, LOG)

    assert (type(back), back, back.at) == (type(event), event, event.at)
    assert line.count("\n") == 1
    assert json.loads(line)["event"] == event.kind


def test_every_class_is_among_the_samples() -> None:
    """So that the one above holds for all; each has a kind of its own."""
    assert {type(event) for event in SAMPLES} == set(EVENTS)
    assert len({one.kind for one in EVENTS}) == len(EVENTS)


def test_an_event_has_the_time_at_which_it_was_made() -> None:
    """By both clocks; a copy with another field keeps it, and equality does not ask for it."""
    before = time.monotonic_ns(), datetime.now(UTC)
    event = Phase(phase="load")
    time.sleep(0.002)
    copy = attrs.evolve(event, worker=3)

    assert before[0] <= event.at.monotonic_ns <= time.monotonic_ns()
    assert before[1] <= datetime.fromisoformat(event.at.utc) + timedelta(microseconds=1)
    assert copy.at == event.at
    assert event == Phase(phase="load")
    assert event.at != Phase(phase="load").at


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "no event in '{'"),
        ("[1]", r"no event in '\[1\]'"),
        ('{"event": "quality", "at": {}}', "an event 'quality'"),
        ('{"event": "phase", "phase": "load"}', "an event 'phase' without a time"),
        ('{"event": "ended", "at": {"monotonic_ns": 1, "utc": "2026-01-01T00:00:00+00:00"}, "mood": 1}', "mood"),
        ('{"event": "ended", "at": {"monotonic_ns": 1.5, "utc": "2026-01-01T00:00:00+00:00"}}', "1.5 is not int"),
        ('{"event": "ended", "at": {"monotonic_ns": 1, "utc": "x"}}', "isoformat"),
        ('{"event": "ended", "at": {"monotonic_ns": 1, "utc": "2026-01-01T00:00:00"}}', "time zone"),
        ('{"event": "started", "at": {"monotonic_ns": 1, "utc": "2026-01-01T00:00:00+00:00"}}', "pid"),
    ],
)
def test_what_is_no_event_names_the_log(line: str, what: str) -> None:
    """A worker of another version, or a line that something else wrote: no traceback, and what to look at."""
    with pytest.raises(MachineError, match=what) as caught:
        from_json(line, LOG)

    assert caught.value.code == "event_unknown"
    assert str(LOG) in caught.value.hint
    assert "container image" in caught.value.hint


def test_events_are_kept_and_passed_on(tmp_path: Path) -> None:
    """In order, over several writers; what a killed one left unfinished is cut off by the next."""
    path = tmp_path / "events.jsonl"
    seen: list[Event] = []
    with kept(path, seen.append) as emit:
        emit(Started(pid=1))
        emit(Phase(phase="load"))
    with path.open("a") as file:
        file.write('{"event": "pha')
    assert stored_events(path) == (Started(pid=1), Phase(phase="load"))
    with kept(path, silent) as emit:
        emit(Ended())

    assert seen == [Started(pid=1), Phase(phase="load")]
    assert stored_events(path) == (Started(pid=1), Phase(phase="load"), Ended())


class Full(io.FileIO):
    """A file on a disk without space."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_after_the_event(tmp_path: Path, monkeypatch) -> None:
    """Whoever hears of the event hears of it all the same."""
    monkeypatch.setattr(files, "open", lambda handle, *_, **given: Full(handle, "a+", closefd=False), raising=False)
    seen: list[Event] = []
    with (
        pytest.raises(MachineError, match="no space left") as caught,
        kept(tmp_path / "events.jsonl", seen.append) as emit,
    ):
        emit(Ended())

    assert caught.value.code == "disk_full"
    assert seen == [Ended()]


def test_a_log_is_no_link(tmp_path: Path) -> None:
    """What it leads to is not written, nor cut, nor made."""
    path, foreign = tmp_path / "events.jsonl", tmp_path / "foreign"
    path.symlink_to(foreign)
    for content in (None, "without an end"):
        if content is not None:
            foreign.write_text(content)
        with pytest.raises(StoreError, match="is no regular file"), kept(path, silent):
            pass
        assert (foreign.read_text() if foreign.exists() else None) == content


def test_a_work_order_takes_the_place_of_a_link(tmp_path: Path) -> None:
    path, foreign = tmp_path / "order.json", tmp_path / "foreign"
    foreign.write_text("of somebody else")
    path.symlink_to(foreign)
    order = WorkOrder(store=".", worker=0, process=0, experiments=("a",), turns=(("a", 0),))
    order.write(path)
    assert (WorkOrder.read(path), foreign.read_text()) == (order, "of somebody else")


def test_lines_of_before_events_had_times_are_left_out(tmp_path: Path) -> None:
    """And a file that is not there holds none; one that is damaged is named with its line."""
    path = tmp_path / "events.jsonl"
    assert stored_events(path) == ()
    path.write_text('{"event": "phase", "phase": "load", "seconds": null}\n' + to_json(Ended()))
    assert stored_events(path) == (Ended(),)
    path.write_text(to_json(Ended()) + "{\n" + to_json(Ended()))
    with pytest.raises(StoreError, match="line 2: ") as caught:
        stored_events(path)
    assert caught.value.code == "store_corrupt"
    assert str(path) in caught.value.message
