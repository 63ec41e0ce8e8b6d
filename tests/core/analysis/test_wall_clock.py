"""Where the wall clock went: sums of made-up events, and of real runs against the time that they took."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

import llem
from llem.analysis.wall_clock import PARTS, Span, spans, time_spent
from llem.protocol.events import (
    BaselineMeasured,
    Calibrated,
    Ended,
    Event,
    Loaded,
    Moment,
    Outcome,
    Phase,
    Started,
    TrialEnded,
)
from llem.protocol.lines import stored_events, to_json
from llem.protocol.study_events import (
    ResultComputed,
    StudyBegan,
    Waited,
    Waiting,
    WorkerEnded,
    WorkerLaunched,
)
from llem.store.store import Store

S = 1_000_000_000
#: Zero of the parent's and of the workers' monotonic clock, far apart: only differences within a process may count.
PARENT, WORKER = 5_000 * S, 77 * S


def at(seconds: float, event: Event, zero: int = WORKER) -> Event:
    """An event that was made so long after the beginning."""
    utc = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return attrs.evolve(event, at=Moment(zero + round(seconds * S), utc.isoformat(timespec="microseconds")))


def told(*events: tuple[float, Event]) -> tuple[Event, ...]:
    """Events of the process that runs the study."""
    return tuple(at(seconds, event, PARENT) for seconds, event in events)


def begins() -> StudyBegan:
    return StudyBegan(experiments=2, done=0, processes=1, parallel=1, gap_s=0.0, points={}, jobs=())


def launched(worker: int, *experiments: str, job: int = 0) -> WorkerLaunched:
    return WorkerLaunched(worker=worker, job=(job, 0), process=0, experiments=experiments, gpus=(), log="")


def trial(of: str, t0: float, t1: float) -> TrialEnded:
    """A trial with this window, in seconds after the beginning."""
    t0_ns, t1_ns = WORKER + round(t0 * S), WORKER + round(t1 * S)
    return TrialEnded(id=of, trial=0, t0_ns=t0_ns, t1_ns=t1_ns, duration_s=t1 - t0, output_tokens_per_s=1.0)


def result(of: str, seconds: float) -> ResultComputed:
    return ResultComputed(id=of, outcome="done", valid=True, seconds=seconds)


def calibrated(of: str) -> Calibrated:
    return Calibrated(id=of, trial_s=1.0, settle_s=0.0, after_s=0.0)


def by_part(found: Sequence[Span]) -> dict[tuple[str, str | None], float]:
    """Seconds by part and experiment, without what took no time."""
    sums: dict[tuple[str, str | None], float] = {}
    for span in found:
        sums[span.part, span.experiment] = sums.get((span.part, span.experiment), 0.0) + span.seconds
    return {key: pytest.approx(seconds) for key, seconds in sums.items() if round(seconds, 6)}


#: Two experiments with one engine, the second with a capacity probe: 60 s from the launch to the end.
SHARED = tuple(
    at(seconds, event)
    for seconds, event in (
        (12.0, Started(pid=1)),
        (13.0, Phase(phase="load")),
        (20.0, Loaded(load_s=7.0)),
        (20.0, Phase(phase="baseline before")),
        (24.0, BaselineMeasured(phase="before", t0_ns=0, t1_ns=1)),
        (25.0, Phase(phase="warm-up", id="a")),
        (28.0, calibrated("a")),
        (28.0, Phase(phase="trial", id="a", trial=0)),
        (33.0, trial("a", 29.0, 32.0)),
        (33.5, Phase(phase="warm-up", id="b")),
        (35.0, Phase(phase="capacity probe", id="b")),
        (37.0, Phase(phase="warm-up", id="b")),
        (38.0, calibrated("b")),
        (38.0, Phase(phase="pause")),
        (39.0, Phase(phase="trial", id="b", trial=0)),
        (45.0, trial("b", 41.0, 44.0)),
        (45.5, Outcome(id="b", outcome="done")),
        (46.0, Phase(phase="polish")),
        (47.0, Phase(phase="baseline after")),
        (49.0, BaselineMeasured(phase="after", t0_ns=0, t1_ns=1)),
        (49.5, Ended()),
    )
)
WHOLE = told(
    (0.0, begins()),
    (1.0, Waiting(what="GPU-1", job=(0, 0))),
    (9.0, Waited(job=(0, 0))),
    (10.0, launched(0, "a", "b")),
    (50.0, WorkerEnded(worker=0)),
    (52.0, result("a", 1.5)),
    (54.0, result("b", 2.0)),
)


def test_each_part_of_a_shared_engine_process() -> None:
    """Lead-in and lead-out are the trial without its window; what comes before a phase is for its experiment."""
    found = spans(WHOLE, {0: SHARED})

    assert by_part(found) == {
        ("waiting", None): 8.0,
        ("start", None): 3.0,
        ("load", None): 7.0,
        ("baseline before", None): 4.0,
        ("rest", "a"): 1.0,
        ("warm-up", "a"): 3.0,
        ("lead-in", "a"): 1.0,
        ("window", "a"): 3.0,
        ("lead-out", "a"): 1.0,
        ("rest", "b"): 0.5 + 0.5,
        ("warm-up", "b"): 1.5 + 1.0,
        ("calibration", "b"): 2.0,
        ("pause", "b"): 1.0,
        ("lead-in", "b"): 2.0,
        ("window", "b"): 3.0,
        ("lead-out", "b"): 1.0,
        ("polish", None): 1.0,
        ("baseline after", None): 2.0,
        ("rest", None): 0.5 + 0.5,
        ("end", None): 0.5,
        ("results", "a"): 1.5,
        ("results", "b"): 2.0,
        ("between workers", None): 1.0 + 1.0 + 0.5,
    }
    assert sum(span.seconds for span in found) == pytest.approx(54.0)


def test_a_worker_that_died_in_a_trial_loses_it() -> None:
    """The time after its last event is unknown; the trial of another worker that failed is lost, its log's time not."""
    died = (*SHARED[:8], at(28.5, Phase(phase="trial", id="a", trial=0)))
    found = by_part(spans(WHOLE, {0: died}))
    assert (found["lost trial", "a"], found["unknown", None]) == (0.5, 21.5)
    assert ("end", None) not in found
    assert sum(span.seconds for span in spans(WHOLE, {0: died})) == pytest.approx(54.0)

    failed = (*SHARED[:8], at(30.0, Outcome(id="a", outcome="oom")), at(31.0, Ended()))
    found = by_part(spans(WHOLE, {0: failed}))
    assert (found["lost trial", "a"], found["end", None]) == (2.0, 19.0)


def test_a_worker_without_a_word_is_unknown() -> None:
    """Between its launch and its end; waiting for a cluster's queue is no part of it."""
    queue = told(
        (0.0, begins()),
        (0.0, launched(0, "a")),
        (1.0, Waiting(what="Slurm, job 7: Priority", worker=0)),
        (5.0, Waiting(what="Slurm, job 7: Resources", worker=0)),
        (21.0, WorkerEnded(worker=0)),
    )
    assert by_part(spans(queue, {0: ()})) == {("waiting", None): 20.0, ("unknown", None): 1.0}

    began = told((0.0, begins()), (0.0, launched(0, "a")), (1.0, Waiting(what="Slurm", worker=0)),
                 (11.0, Waited(worker=0)), (50.0, WorkerEnded(worker=0)))  # fmt: skip
    found = by_part(spans(began, {0: SHARED}))
    assert (found["waiting", None], found["start", None], found["end", None]) == (10.0, 3.0, 0.5)


def test_the_clocks_of_two_machines_need_not_agree() -> None:
    """Where the worker's wall clock is an hour ahead, the parts still sum up to what the parent measured."""
    later = "2026-01-01T01:00:12+00:00"
    ahead = tuple(attrs.evolve(event, at=Moment(event.at.monotonic_ns, later)) for event in SHARED)
    found = by_part(spans(WHOLE, {0: ahead}))

    assert sum(span.seconds for span in spans(WHOLE, {0: ahead})) == pytest.approx(54.0)
    assert found["start", None] == 3.5  # all that is not told of


def test_a_study_that_was_killed_and_goes_on() -> None:
    """Of the first process only what was told counts; each process that ran the study has a clock of its own."""
    first = told((0.0, begins()), (10.0, launched(0, "a", "b")))
    second = tuple(
        at(seconds, event, zero=3 * S)
        for seconds, event in ((100.0, begins()), (101.0, launched(1, "b")), (104.0, WorkerEnded(worker=1)))
    )
    found = by_part(spans((*first, *second), {0: SHARED, 1: ()}))

    assert found["between workers", None] == 10.0 + 1.0
    assert (found["start", None], found["unknown", None]) == (3.0, 3.0)
    assert ("end", None) not in found
    assert sum(span.seconds for span in spans((*first, *second), {0: SHARED, 1: ()})) == pytest.approx(49.5 + 4.0)


def test_workers_side_by_side_are_covered_once() -> None:
    """Each counts in the sum; what lies between them does not."""
    run = told((0.0, begins()), (1.0, launched(0, "a")), (2.0, launched(1, "b", job=1)), (9.0, WorkerEnded(worker=0)),
               (12.0, WorkerEnded(worker=1)), (13.0, result("a", 0.5)))  # fmt: skip
    found = spans(run, {0: (), 1: ()})

    assert by_part(found) == {
        ("unknown", None): 8.0 + 10.0,
        ("results", "a"): 0.5,
        ("between workers", None): 1.0 + 0.5,
    }


def test_events_that_were_cut_off_leave_unknown_time() -> None:
    """From the last event that is stored to the worker's end; no part before it grows, and the sum stays."""
    for number in range(len(SHARED)):
        found = spans(WHOLE, {0: SHARED[:number]})
        unknown = sum(span.seconds for span in found if span.part == "unknown")
        last = WORKER + 10 * S if number == 0 else SHARED[number - 1].at.monotonic_ns
        assert unknown == pytest.approx(50.0 - (last - WORKER) / S)
        assert not [span for span in found if span.part == "end"]
        assert sum(span.seconds for span in found) == pytest.approx(54.0)


def stored(folder: Path, told: Sequence[Event], workers: Mapping[int, Sequence[Event]]) -> Store:
    """A store with these events, and nothing measured."""
    store = Store.create(folder, {})
    (folder / "events.jsonl").write_text("".join(map(to_json, told)))
    for number, events in workers.items():
        (store.worker_dir(number) / "events.jsonl").write_text("".join(map(to_json, events)))
    return store


def test_the_wall_of_a_killed_run_ends_with_its_worker(run_llem, tmp_path: Path) -> None:
    """The worker's last event is placed by the wall clock; one worker after another is not side by side."""
    first = told((0.0, begins()), (10.0, launched(0, "a", "b")))
    second = told((100.0, begins()), (101.0, launched(1, "b")), (104.0, WorkerEnded(worker=1)))
    killed = time_spent(stored(tmp_path / "killed", first, {0: SHARED[:16]}))
    resumed = time_spent(stored(tmp_path / "resumed", (*first, *second), {0: SHARED[:16]}))

    assert (killed.whole_s, killed.wall_s, killed.overlap_s) == (pytest.approx(45.0), pytest.approx(45.0), 0.0)
    assert (resumed.whole_s, resumed.wall_s, resumed.overlap_s) == (pytest.approx(49.0), pytest.approx(49.0), 0.0)
    assert "unknown" not in {part.part for part in killed.parts}
    for folder, line in (
        ("killed", "in all 45.000 s, 1 engine process"),
        ("resumed", "in all 49.000 s, 2 engine processes"),
    ):
        assert run_llem("show", tmp_path / folder, "--time").stdout.splitlines()[-1] == line


def test_workers_side_by_side_are_called_so(run_llem, tmp_path: Path) -> None:
    """Where their time overlaps by more than two clocks may differ."""
    for name, launch_s, line in (("beside", 2.0, " side by side within 12.000 s"), ("after", 8.95, "")):
        run = told((0.0, begins()), (1.0, launched(0, "a")), (launch_s, launched(1, "b", job=1)),
                   (9.0, WorkerEnded(worker=0)), (12.0, WorkerEnded(worker=1)))  # fmt: skip
        spent = time_spent(stored(tmp_path / name, run, {}))
        assert spent.overlap_s == pytest.approx(9.0 - launch_s)
        printed = run_llem("show", tmp_path / name, "--time").stdout.splitlines()[-1]
        assert printed == f"in all {spent.whole_s:.3f} s, 2 engine processes{line}"


@pytest.mark.process
def test_a_study_whose_events_are_gone_says_which_file(run_llem, tmp_path: Path, short) -> None:
    """Deleted, or with no line that is whole; an earlier llem is not blamed for it."""
    one = llem.run(out=tmp_path / "out", launcher="inline", **short)
    path = tmp_path / "out" / "events.jsonl"
    path.write_bytes(path.read_bytes()[:40])
    for lose in (lambda: None, path.unlink, lambda: shutil.rmtree(tmp_path / "out" / "workers")):
        lose()
        for arguments in ((), (one.id,)):
            done = run_llem("show", tmp_path / "out", *arguments, "--time")
            assert done.stdout.startswith(
                "events.jsonl in the folder of the study is missing or damaged: 1 engine process"
            )
            assert len(done.stdout.splitlines()) == 1
        data = json.loads(run_llem("show", tmp_path / "out", "--time", "--json").stdout)
        assert (data["whole_s"], data["wall_s"], data["untold"], data["untimed"]) == (None, None, 1, 0)


def _trials_s(seen: Sequence[Event]) -> float:
    """From the beginning of each phase `trial` to its event."""
    begun = [event.at.monotonic_ns for event in seen if isinstance(event, Phase) and event.phase == "trial"]
    ended = [event.at.monotonic_ns for event in seen if isinstance(event, TrialEnded)]
    return (sum(ended) - sum(begun)) / 1e9


@pytest.mark.process
@pytest.mark.parametrize("launcher", ["process", "inline"])
def test_the_parts_of_a_real_run_are_its_time(tmp_path: Path, lab, launcher: str) -> None:
    """All of it, once: sums of an experiment and of the study against clocks that take no part in them."""
    settings = {**lab, "meters": ["steady"], "baseline": {"seconds": 0.4, "discard_seconds": 0.1}, "trials": 2}
    seen: list[Event] = []
    one = llem.run(out=tmp_path / "out", launcher=launcher, on_event=seen.append, **settings)
    store = Store.open(tmp_path / "out")
    spent, study = time_spent(store, one.id), time_spent(store)
    parts = {part.part: part.seconds for part in spent.parts}
    kept = stored_events(store.path / "events.jsonl")
    worker = [event.at.monotonic_ns for event in kept if isinstance(event, (WorkerLaunched, WorkerEnded))]
    [computed] = [event for event in kept if isinstance(event, ResultComputed)]

    assert spent.whole_s == pytest.approx((worker[1] - worker[0]) / 1e9 + computed.seconds, abs=1e-6)
    assert study.whole_s == pytest.approx((kept[-1].at.monotonic_ns - kept[0].at.monotonic_ns) / 1e9, abs=1e-6)
    assert study.wall_s == pytest.approx(study.whole_s, abs=1e-6)
    assert parts["window"] == pytest.approx(sum(trial.duration_s for trial in store.trials(one.id)))
    assert parts["load"] >= store.engines(one.id)[0]["load_s"]
    assert parts["baseline before"] >= 0.4 + 0.5
    assert parts["lead-in"] + parts["window"] + parts["lead-out"] == pytest.approx(_trials_s(seen))
    assert min(parts["lead-in"], parts["lead-out"]) > 0
    assert set(parts) <= set(PARTS)
    assert (spent.workers, spent.untimed) == (study.workers, study.untimed) == (1, 0)
    assert {part.shared_by for part in (*spent.parts, *study.parts)} == {1}
    assert [event.kind for event in kept] == [event.kind for event in seen if event in kept]


@pytest.mark.process
def test_an_engine_that_several_share_is_counted_once_for_the_study(tmp_path: Path, lab) -> None:
    """And whole for each of them, with how many they are."""
    study = {"base": {**lab, "window_s": 0.1}, "axes": {"load.batch_size": [1, 2]}, "order": {"gap_s": 0.1}}
    results = llem.run_study(study, tmp_path / "out", launcher="inline")
    store = Store.open(tmp_path / "out")
    whole = time_spent(store)
    each = [time_spent(store, name) for name in results]
    shared = [{part.part: part.seconds for part in one.parts if part.shared_by == 2} for one in each]
    own = [{part.part: part.seconds for part in one.parts if part.shared_by == 1} for one in each]
    total = {part.part: part.seconds for part in whole.parts}

    assert shared[0] == shared[1]
    assert shared[0].keys() == {"start", "load", "rest", "end"}
    assert total["load"] == shared[0]["load"]
    for part in ("warm-up", "window", "lead-in", "lead-out", "results"):
        assert total[part] == pytest.approx(own[0][part] + own[1][part]), part
    assert own[0].get("pause", 0.0) + own[1].get("pause", 0.0) == pytest.approx(total["pause"]) != 0
    assert sum(one.whole_s for one in each) == pytest.approx(
        whole.whole_s - total["between workers"] + sum(shared[0].values())
    )


@pytest.mark.process
def test_the_command_shows_and_prints_them(run_llem, tmp_path: Path, short) -> None:
    """A table with shares that make up the whole, the same figures as JSON, by the beginning of an id."""
    one = llem.run(out=tmp_path / "out", launcher="inline", **short)
    table = run_llem("show", tmp_path / "out", "--time")
    printed = run_llem("show", tmp_path / "out", one.id[:5], "--time", "--json")
    data = json.loads(printed.stdout)

    assert (table.exit_code, printed.exit_code) == (0, 0)
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["part", "time", "share"]
    assert [line.split("  ")[0] for line in lines[2:-2]] == [
        *("start", "load", "warm-up", "lead-in", "window", "lead-out", "end", "results", "between workers", "rest"),
    ]
    assert sum(float(line.partition("%")[0].split()[-1]) for line in lines[2:-2]) == pytest.approx(100, abs=0.6)
    assert lines[-1].startswith("in all ")
    assert data == attrs.asdict(time_spent(Store.open(tmp_path / "out"), one.id), value_serializer=_as_json)
    assert data["whole_s"] == pytest.approx(sum(part["seconds"] for part in data["parts"]))


def _as_json(_: object, __: object, value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_a_store_from_before_events_had_times_says_so(run_llem, tmp_path: Path) -> None:
    """For the study and for one experiment; nothing else of it is minded."""
    with tarfile.open(Path(__file__).parents[1] / "store" / "schema2" / "offline.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "offline"
    first = Store.open(folder).experiment_ids()[0]
    for arguments in ((), (first,)):
        done = run_llem("show", folder, *arguments, "--time")
        assert done.exit_code == 0
        assert done.stdout.rstrip().endswith("an earlier version of llem measured, whose events had none")
    data = json.loads(run_llem("show", folder, "--time", "--json").stdout)
    assert (data["parts"], data["whole_s"], data["wall_s"], data["workers"]) == ([], None, None, 0)
    assert (data["untold"], data["untimed"]) == (0, 2)
    assert run_llem("verify", folder).exit_code == 0


def test_time_is_of_no_axis(run_llem, tmp_path: Path) -> None:
    """Both at once is a mistake of the command line."""
    assert run_llem("show", tmp_path, "--time", "--by", "dtype").exit_code == 2
