"""Progress: what is known of a run from its events, and how little is shown where nobody looks."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import attrs
import pytest

from llem.analysis.overview import Overview
from llem.metrics.quantity import Value, quantity
from llem.progress.display import ExperimentProgress, StudyProgress, progress
from llem.progress.running import METRIC, BestSoFar, Running
from llem.protocol.events import Calibrated, Event, Outcome, Phase, Power, RateTried, TrialEnded, Warned
from llem.protocol.study_events import (
    ExperimentPlan,
    JobPlan,
    ResultComputed,
    StudyBegan,
    Waited,
    Waiting,
    WorkerEnded,
    WorkerLaunched,
)
from llem.reports.figures import new_console
from llem.store.models import Quantity

TRIAL = TrialEnded(
    id="abcdefghij",
    trial=0,
    t0_ns=0,
    t1_ns=10_000_000_000,
    output_tokens_per_s=911.789,
    energy_per_output_token_j=0.04387,
    energy_scope="gpu",
    energy_kind="measured",
    duration_s=10.0,
)


def planned(trials: int, **experiments: int) -> StudyBegan:
    """The event `study`: one engine process, with so many trials of one experiment or of each that is named."""
    each = experiments or {"abcdefghij": trials}
    plan = {name: ExperimentPlan(count, 10.0, 30.0) for name, count in each.items()}
    jobs = (JobPlan((0, 0), plan, 30.0, 20.0),)
    return StudyBegan(experiments=len(each), done=0, processes=1, parallel=1, gap_s=0.0, points={}, jobs=jobs)


WORKER = WorkerLaunched(worker=0, job=(0, 0), process=0, experiments=("abcdefghij",), gpus=(), log="log.txt")


def phase(name: str, seconds: float | None = None, trial: int = 0) -> Phase:
    """A phase begins, of the experiment where it is of one."""
    return Phase(phase=name, seconds=seconds, trial=trial, id="abcdefghij" if name in ("warm-up", "trial") else None)


def calibrated(trial_s: float = 12.0) -> Calibrated:
    """Calibration is over."""
    return Calibrated(id="abcdefghij", trial_s=trial_s, settle_s=0.0, after_s=20.0)


def test_a_run_line_by_line() -> None:
    """Phase, watts, tokens per second and time left, as they become known."""
    known = ExperimentProgress(3)
    steps = [
        (0.0, planned(3), "start"),
        (0.0, WORKER, "start"),
        (0.0, phase("load"), "load"),
        (5.0, phase("baseline before", 30.0), "baseline before"),
        (10.0, Power(watts={"gpu:A": 70.2, "gpu:B": 60.2}), "baseline before · gpu 130 W"),
        (35.0, phase("warm-up", 30.0), "warm-up · gpu 130 W"),
        (65.0, calibrated(), "warm-up · gpu 130 W · about 0:56 left"),
        (65.0, phase("trial", 12.0), "trial 0 (1 of 3) · gpu 130 W · about 0:56 left"),
        (71.0, Power(watts={"gpu:A": 650.0}), "trial 0 (1 of 3) · gpu 650 W · about 0:50 left"),
        (
            77.0,
            TRIAL,
            "trial 0 (1 of 3) · gpu 650 W · 911.8 tok/s · 0.04387 J/output token (gpu, measured) · about 0:44 left",
        ),
        (
            77.0,
            phase("trial", 12.0, 1),
            "trial 1 (2 of 3) · gpu 650 W · 911.8 tok/s · 0.04387 J/output token (gpu, measured) · about 0:44 left",
        ),
        (89.0, attrs.evolve(TRIAL, output_tokens_per_s=1234567.0), None),
        (89.0, phase("trial", 12.0, 2), None),
        (101.0, TRIAL, None),
        (
            101.0,
            phase("baseline after", 20.0),
            "baseline after · gpu 650 W · 911.8 tok/s · 0.04387 J/output token (gpu, measured) · about 0:20 left",
        ),
        (
            121.0,
            WorkerEnded(),
            "baseline after · gpu 650 W · 911.8 tok/s · 0.04387 J/output token (gpu, measured) · about 0:00 left",
        ),
    ]
    for now, event, line in steps:
        known.update(event, now)
        if line is not None:
            assert known.line(now) == line


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_names_of_tasks_are_no_markup(terminal: bool, many: bool, monkeypatch) -> None:
    """A task may be a path with brackets, and a name must not command the terminal."""
    out = io.StringIO()
    console = new_console(file=out, width=120, force_terminal=terminal, color_system=None)
    monkeypatch.setattr("llem.progress.display.new_console", lambda **_: console)
    with progress(0 if many else 5, quiet=False, verbose=True) as show:
        show(planned(5))
        show(WORKER)
        show(Phase(phase="quality", seconds=None, task="[/data].txt \x1b]0;title", done=1, total=2))
        show(Warned(message="[/data].txt \x1b]0;title"))

    assert out.getvalue().count("[/data].txt \\u001b]0;title") >= 2


def test_time_left_is_unknown_until_a_batch_was_timed() -> None:
    """A guess would be worse than nothing."""
    known = ExperimentProgress(5)
    known.update(planned(5), 0.0)
    known.update(WORKER, 0.0)
    known.update(phase("baseline before", 30.0), 0.0)

    assert known.left_s(10.0) is None


def test_more_trials_than_the_least_are_counted_on() -> None:
    """While the interval is too wide trials go on, and the line does not say `6 of 5`."""
    known = ExperimentProgress(1)
    known.update(calibrated(), 0.0)
    for index in range(2):
        known.update(phase("trial", 12.0, index), 0.0)
        known.update(TRIAL, 0.0)
    known.update(phase("trial", 12.0, 2), 0.0)

    assert known.line(0.0).startswith("trial 2 (3 of 3)")


def test_power_of_different_scopes_is_never_added_up() -> None:
    """GPUs add up to what the GPUs draw; the processor stands beside them."""
    for known in (ExperimentProgress(1), StudyProgress(STUDY)):
        known.update(Power(watts={"gpu:A": 300.0, "gpu:B": 100.0, "cpu:0": 50.0}), 0.0)
        assert "gpu 400 W + cpu 50 W" in known.line(0.0)


def test_a_trial_of_modelled_energy_says_so(capsys) -> None:
    """In the line that stays on the screen."""
    with progress(1, quiet=False) as show:
        show(attrs.evolve(TRIAL, energy_scope="cpu+dram", energy_kind="modelled"))
    assert "0.04387 J/output token (cpu+dram, modelled)" in capsys.readouterr().err


@pytest.mark.parametrize("watts", [{}, {"node": 0.0}])
def test_no_power_is_not_zero_watts(watts: dict) -> None:
    """Without a meter nothing is said of power; a meter that reads 0 W says so."""
    for known in (ExperimentProgress(1), StudyProgress(STUDY)):
        known.update(Power(watts=watts), 0.0)
        assert ("W" in known.line(0.0)) is bool(watts)


EVENTS = [
    planned(1),
    WORKER,
    phase("load"),
    phase("warm-up"),
    calibrated(),
    phase("trial", 12.0),
    TRIAL,
    phase("baseline after", 1.0),
]


TOLD = "trial 0: 911.8 tok/s · 0.04387 J/output token (gpu, measured)"


@pytest.mark.parametrize(
    ("verbose", "lines"),
    [
        (False, ["load", "warm-up", TOLD]),
        (
            True,
            [
                "load",
                "warm-up",
                "trial 0 (1 of 1) · about 0:32 left",
                TOLD,
            ],
        ),
    ],
)
def test_off_a_terminal_there_are_plain_lines(capsys, monkeypatch, verbose: bool, lines: list[str]) -> None:
    """One line per phase and trial on standard error, no control characters, nothing on standard output."""
    monkeypatch.setenv("COLUMNS", "120")
    with progress(1, quiet=False, verbose=verbose) as emit:
        for event in EVENTS:
            emit(event)
    captured = capsys.readouterr()

    assert captured.out == ""
    told = captured.err.splitlines()
    assert [line.partition(" · gpu 40 W · about 0:")[0] for line in told[: len(lines)]] == lines
    assert captured.err.splitlines()[-1].startswith(
        "baseline after · 911.8 tok/s · 0.04387 J/output token (gpu, measured) · about 0:"
    )
    assert len(captured.err.splitlines()) == len(lines) + 1
    assert "\x1b" not in captured.err


def test_a_trial_without_energy_says_nothing_of_it(capsys) -> None:
    """No meter, no joules."""
    with progress(1, quiet=False) as emit:
        emit(attrs.evolve(TRIAL, energy_per_output_token_j=None))

    assert capsys.readouterr().err == "trial 0: 911.8 tok/s\n"


def test_quiet_shows_nothing(capsys) -> None:
    """Neither here nor there."""
    with progress(1, quiet=True) as emit:
        for event in EVENTS:
            emit(event)

    assert capsys.readouterr() == ("", "")


STUDY = attrs.evolve(planned(0, abcdefghij=2, klm=1, old=0), done=1)


def of(name: str, event: Event, worker: int = 0) -> Event:
    """An event of a worker about one experiment."""
    return attrs.evolve(event, id=name, worker=worker)


def test_a_study_line_by_line() -> None:
    """Done, failed, what each worker is at, watts of all of them, and the time left."""
    study = StudyProgress(STUDY)
    done, oom = (Outcome(id="", outcome=outcome) for outcome in ("done", "oom"))
    result = ResultComputed(id="abcdefghij", outcome="done", valid=True, seconds=0.0)
    steps = [
        (0.0, WORKER, "1 of 3 done, 2 to go · about 2:20 left"),
        (0.0, Phase(phase="load", worker=0), "1 of 3 done, 2 to go · load · about 2:20 left"),
        (10.0, phase("warm-up", 30.0), "1 of 3 done, 2 to go · abcdefgh warm-up · about 1:50 left"),
        (15.0, None, "1 of 3 done, 2 to go · abcdefgh warm-up · about 1:45 left"),
        (40.0, calibrated(10.0), None),
        (40.0, phase("trial"), "1 of 3 done, 2 to go · abcdefgh trial 0 · about 1:20 left"),
        (45.0, Power(watts={"gpu:A": 300.4}, worker=0), None),
        (45.0, Power(watts={"gpu:B": 100.0, "gpu:C": 50.0}, worker=1), None),
        (50.0, TRIAL, "1 of 3 done, 2 to go · abcdefgh trial 0 · gpu 450 W · about 1:10 left"),
        (60.0, TRIAL, "1 of 3 done, 2 to go · abcdefgh trial 0 · gpu 450 W · about 1:00 left"),
        (60.0, of("abcdefghij", done), "2 of 3 done, 1 to go · abcdefgh trial 0 · gpu 450 W · about 1:00 left"),
        (61.0, of("klm", oom), None),
        (61.0, phase("baseline after"), "2 of 3 done, 1 failed, 0 to go · baseline after · gpu 450 W · about 0:20 left"),  # noqa: E501
        (81.0, WorkerEnded(worker=0), "2 of 3 done, 1 failed, 0 to go · gpu 150 W · about 0:00 left"),
        (82.0, result, "2 of 3 done, 1 failed, 0 to go · gpu 150 W · about 0:00 left"),
    ]  # fmt: skip
    for now, event, line in steps:
        if event is not None:
            study.update(event, now)
        if line is not None:
            assert study.line(now) == line


def test_a_study_on_a_terminal_is_a_table() -> None:
    """The line above, and a row for each engine process: experiment, what it sets, phase, watts; no markup."""
    study = StudyProgress(attrs.evolve(STUDY, points={"abcdefghij": {"load.batch_size": 4, "model": "[red]"}}))
    study.update(attrs.evolve(WORKER, worker=1), 0.0)
    study.update(attrs.evolve(phase("warm-up"), worker=1), 0.0)
    study.update(Power(watts={"gpu:A": 300.4}, worker=1), 0.0)
    study.update(Waiting(what="GPU-1", worker=0), 0.0)
    title, *rows = study.lines(0.0, 100, 30)

    assert title.startswith("1 of 3 done, 2 to go · gpu 300 W · about ")
    assert [re.split(r" {2,}", row.strip()) for row in rows] == [
        ["waiting for GPU-1"],
        ["abcdefgh", "load.batch_size=4 model=[red]", "warm-up", "gpu 300 W"],
    ]


def test_a_narrow_terminal_breaks_between_parts() -> None:
    """At 60 columns each figure is whole; what the axes set comes last and is cut; no line is wider."""
    points = {"abcdefghij": {"model": "organisation/a-model-with-a-very-long-name-indeed\n", "load.batch_size": 4}}
    study = StudyProgress(attrs.evolve(STUDY, points=points))
    for event in (WORKER, phase("trial"), Power(watts={"gpu:A": 300.4}), TRIAL, attrs.evolve(TRIAL, trial=1)):
        study.update(event, 0.0)
    lines = study.lines(0.0, 60, 24)

    assert max(map(len, lines)) <= 60
    assert lines[1:4] == [
        "abcdefgh · trial 0 · gpu 300 W · 911.8 tok/s",
        "  0.04387 ± 0 J/output token (gpu, measured)",
        "  model=organisation/a-model-with-a-very-long-name-indeed\\n…",
    ]


def test_more_workers_than_lines() -> None:
    """The terminal's height bounds the display; the rest is counted."""
    study = StudyProgress(STUDY)
    for worker in range(40):
        study.update(attrs.evolve(phase("warm-up"), worker=worker), 0.0)
    lines = study.lines(0.0, 100, 24)

    assert len(lines) <= 21
    assert lines[-1] == "and 21 more"


def joules(value: float, trial: int, **fields: Any) -> TrialEnded:
    """A trial of this energy per output token."""
    given = {"energy_bound_j": 0.02 * value, "energy_shared_j": 0.01 * value, **fields}
    return attrs.evolve(TRIAL, trial=trial, energy_per_output_token_j=value, **given)


def test_the_running_mean_is_the_results() -> None:
    """Value and interval are those that the estimator of the result gives, with trials clustered by engine process."""
    found = [0.040, 0.042, 0.041, 0.047]
    running = Running()
    for index, value in enumerate(found):
        running.add(joules(value, index), process=index % 2)
    values = [Value(value, 0.02 * value, shared=0.01 * value) for value in found]

    assert running.of("abcdefghij") == quantity(values, "J", [0, 1, 0, 1], scope="gpu", kind="measured")
    assert running.of("another") is None


@pytest.mark.parametrize(
    "other", [{"energy_per_output_token_j": None}, {"energy_kind": "modelled"}, {"energy_scope": "cpu+dram"}]
)
def test_no_mean_of_what_does_not_belong_together(other: dict) -> None:
    """A trial without energy, or of another kind or scope, leaves no mean rather than one of some trials."""
    running = Running()
    running.add(joules(0.04, 0), 0)
    running.add(attrs.evolve(joules(0.05, 1), **other), 0)

    assert running.of("abcdefghij") is None


def row(name: str, value: float, **fields: Any) -> Overview:
    """A valid result, measured on one GPU."""
    scope, kind = fields.pop("basis", ("gpu", "measured"))
    energy = Quantity(value, "J", value * 0.999, value * 1.001, 0.95, 5, 3, "over processes", scope=scope, kind=kind)
    base = Overview(
        id=name, outcome="done", error=None, trials=5, valid=True, publishable=True, codes=(), errors=(),
        metrics={METRIC: energy}, backend="vllm", model="m", dtype="bfloat16", load={}, curve="",
    )  # fmt: skip
    return attrs.evolve(base, **fields)


def test_the_best_so_far_and_its_ties() -> None:
    """Never a fake or an invalid result, however cheap; results that are not separated are counted."""
    best = BestSoFar([row("fake", 0.001, backend="echo"), row("invalid", 0.002, valid=False)])
    assert best.told() == ""
    best.add(row("aaaaaaaaaa", 0.0121))
    assert best.told() == "best so far aaaaaaaa 0.012100 ± 0.000012 J/output token (gpu, measured)"
    best.add(row("b", 0.0200))
    best.add(row("c", 0.01211))
    assert best.told().endswith("(gpu, measured), tied with 1")
    best.add(row("d", 0.0001, basis=("gpu", "modelled")))
    assert best.told().startswith("no best so far: energy_per_output_token_j is not ranked")


def test_with_several_engine_processes_the_result_tells_that_an_experiment_is_done() -> None:
    """The first of its workers that ends well is not the last one."""
    study = StudyProgress(attrs.evolve(STUDY, processes=2))
    study.update(of("a", Outcome(id="", outcome="done")), 1.0)
    assert study.done == 1
    study.update(ResultComputed(id="a", outcome="done", valid=True, seconds=0.0), 2.0)
    study.update(ResultComputed(id="b", outcome="interrupted", valid=True, seconds=0.0), 2.0)

    assert (study.done, study.failed) == (2, 0)


def test_an_experiment_is_done_with_the_last_of_its_jobs() -> None:
    """Its result may come much later, with workers side by side."""
    event = planned(0, a=2, b=1)
    second = attrs.evolve(planned(0, a=2).jobs[0], job=(0, 1))
    study = StudyProgress(attrs.evolve(event, processes=2, jobs=(*event.jobs, second)))
    study.update(of("a", Outcome(id="", outcome="done")), 1.0)
    assert study.done == 0
    study.update(of("a", Outcome(id="", outcome="done")), 2.0)
    assert study.done == 1
    study.update(ResultComputed(id="a", outcome="done", valid=True, seconds=0.0), 3.0)

    assert study.done == 1


def test_hours_are_told_as_hours() -> None:
    """A study may take days."""
    assert StudyProgress(planned(0, a=361)).line(0.0) == "0 of 1 done, 1 to go · about 1:01:30 left"


def test_plain_lines_of_a_study(capsys, monkeypatch) -> None:
    """Warnings, each trial with its experiment, each result with how it ended, and what is waited for."""
    monkeypatch.setenv("COLUMNS", "120")
    ended = ResultComputed(id="abc", outcome="done", valid=True, seconds=0.0)
    with progress(0, quiet=False) as emit:
        emit(STUDY)
        emit(Warned(message="1 experiment goes on elsewhere"))
        emit(Waiting(what="GPU-1 (process 7, other)"))
        emit(Waited())
        emit(of("abcdefghij", phase("warm-up")))
        emit(of("abcdefghij", TRIAL))
        emit(ended)
        emit(attrs.evolve(ended, id="d", valid=False))
        emit(attrs.evolve(ended, id="e", outcome="oom", valid=False, error="[too] large"))

    lines = [line.partition(" · about ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "warning: 1 experiment goes on elsewhere",
        "waiting for GPU-1 (process 7, other)",
        "1 of 3 done, 2 to go · abcdefgh warm-up",
        "abcdefgh trial 0: 911.8 tok/s · 0.04387 J/output token (gpu, measured) · gpu 40 W · 1 of 3 done, 2 to go",
        "abc done · 2 of 3 done, 1 to go",
        "d done: not valid · 3 of 3 done, 0 to go",
        "e oom: [too] large · 3 of 3 done, 1 failed, 0 to go",
    ]


def test_a_table_or_progress_that_nobody_reads_is_told_to_the_command() -> None:
    """Which ends with its own status; rich by itself would end with 1, as if experiments had failed."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "w", buffering=1) as closed:
        new_console(file=closed).print("a line")


def test_plain_lines_are_whole(capsys, monkeypatch) -> None:
    """In a log each event is one line, however long, so that it can be searched for."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    why = "word " * 40 + "end"
    with progress(2, quiet=False) as emit:
        emit(Warned(message=why))

    assert capsys.readouterr().err == f"warning: {why}\n"


def test_who_waits_beside_a_worker_is_told_until_the_wait_is_over() -> None:
    """An engine process has no worker yet then, whose row it could take."""
    study = StudyProgress(STUDY)
    study.update(of("a", phase("load")), 0.0)
    study.update(Waiting(what="GPU-1", job=(1, 0)), 0.0)
    assert "load · waiting for GPU-1" in study.line(0.0)
    assert [row[2] for row in study.rows()] == ["load", "waiting for GPU-1"]
    study.update(Waited(job=(1, 0)), 0.0)
    assert "waiting" not in study.line(0.0)
    assert [row[2] for row in study.rows()] == ["load"]


def quality(task: str, done: int, total: int) -> Phase:
    """So many items of a task are evaluated."""
    return Phase(phase="quality", task=task, done=done, total=total)


def test_an_evaluation_by_its_items_and_the_time_that_they_take() -> None:
    """What evaluations will take is told once one was timed; the speed of trials is not theirs."""
    run = ExperimentProgress(1)
    begun = planned(1)
    jobs = (attrs.evolve(begun.jobs[0], tasks=("arc", "boolq")),)
    events: list[tuple[float, Event]] = [
        (0.0, attrs.evolve(begun, jobs=jobs)),
        (0.0, WORKER),
        (0.0, phase("warm-up")),
        (30.0, calibrated()),
        (30.0, phase("trial")),
        (42.0, TRIAL),
    ]
    for now, event in events:
        run.update(event, now)
    speed, energy = "911.8 tok/s", "0.04387 J/output token (gpu, measured)"
    assert run.line(42.0) == f"trial 0 (1 of 1) · {speed} · {energy} · about 0:20 left, without untimed quality"

    expected = [
        (70.0, quality("arc", 0, 0), "quality arc"),
        (80.0, quality("arc", 125, 500), "quality arc 125/500 · about 0:30 left, without untimed quality"),
        (110.0, quality("arc", 500, 500), "quality arc 500/500"),
        (110.0, quality("boolq", 0, 0), "quality boolq"),
        (115.0, quality("boolq", 10, 20), "quality boolq 10/20 · about 0:05 left"),
        (120.0, quality("boolq", 20, 20), "quality boolq 20/20 · about 0:00 left"),
    ]
    for now, event, line in expected:
        run.update(event, now)
        assert run.line(now) == line


def test_the_next_engine_is_expected_to_take_as_long_to_evaluate() -> None:
    """A task's time on one engine, and that of its load, is the guess for another one."""
    begun = planned(0, a=1, b=1)
    each = [JobPlan((number, 0), {}, 0.0, 0.0, ("arc",), load_s=7.0) for number in (0, 1)]
    run = StudyProgress(attrs.evolve(begun, jobs=tuple(each)))
    for now, event in [
        (0.0, attrs.evolve(WORKER, job=(0, 0))),
        (2.0, quality("arc", 0, 0)),
        (27.0, quality("arc", 500, 500)),
        (27.0, WorkerEnded(worker=0)),
        (27.0, attrs.evolve(WORKER, job=(1, 0))),
    ]:
        run.update(attrs.evolve(event, worker=0), now)

    assert run.left_s(27.0) == pytest.approx(2.0 + 25.0)  # its load too
    run.update(attrs.evolve(quality("arc", 0, 0), worker=0), 29.0)
    assert run.line(29.0) == "0 of 2 measured, 2 to go · quality arc · about 0:25 left"
    for event in (quality("arc", 500, 500), WorkerEnded(worker=0)):
        run.update(attrs.evolve(event, worker=0), 54.0)
    assert run.line(54.0) == "0 of 2 done, 2 to go · about 0:00 left"


def test_a_log_has_a_line_for_each_task_and_not_for_each_item(capsys) -> None:
    """Where nobody looks: when a task begins, and when it has ended."""
    with progress(1, quiet=False) as emit:
        for done in (0, 1, 2, 3):
            emit(quality("arc", done, 3 if done else 0))

    assert capsys.readouterr().err.splitlines() == ["quality arc", "quality arc 3/3"]


def test_a_log_has_a_line_for_each_rate_that_was_tried(capsys) -> None:
    """When its window is over; of a study with the experiment, and with what broke it beside the limits."""
    tried = RateTried(id="abcdefghij", request_rate=5.656854, judged=30, kept=29, steady=True, on_time=True)
    for trials in (1, 0):
        with progress(trials, quiet=False) as emit:
            emit(Phase(phase="rate search", seconds=32.0, id="abcdefghij"))
            emit(tried)
            emit(attrs.evolve(tried, steady=False, on_time=False))

    line = "5.657 requests/s: 29 of 30 requests kept the SLO"
    both = [line, f"{line}, requests piled up, llem sent late"]
    assert capsys.readouterr().err.splitlines() == [*both, *(f"abcdefgh {one}" for one in both)]
