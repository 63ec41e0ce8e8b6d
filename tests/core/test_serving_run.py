"""`llem.run` with a serving load as a whole: a real process, a real store, a meter of known power."""

from __future__ import annotations

from pathlib import Path

import pytest

import llem
from llem.protocol.events import Event, Phase
from llem.store.store import Store

pytestmark = pytest.mark.process

LOADS = {
    "closed": {"kind": "closed", "concurrency": 4},
    "open": {"kind": "open", "request_rate": 50.0},
    "share": {"kind": "open", "capacity_share": 0.5, "probe_concurrency": 8, "probe_seconds": 0.5},
}


@pytest.fixture
def settings(lab) -> dict:
    """A short run with echo: requests of 8 tokens, 40 ms each, in a window of 0.6 s."""
    return {**lab, "backend": "echo", "echo": {"token_seconds": 0.005}, "meters": ["steady"], "window_s": 0.6}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_serving_run_measures_and_stores(tmp_path: Path, settings, load) -> None:
    """The energy is that of the window, tokens and requests are what the rows say, and events tell the way."""
    events: list[Event] = []
    result = llem.run(out=tmp_path / "out", on_event=events.append, load=load, **settings)
    store = Store.open(tmp_path / "out")
    [trial] = store.trials(result.id)
    rows = store.requests(result.id, 0)
    phases = [event.phase for event in events if isinstance(event, Phase)]

    assert (result.outcome, result.trials, result.error) == ("done", 1, None)
    assert phases == ["load", "warm-up", *(["capacity probe", "warm-up"] if "capacity_share" in load else []), "trial"]
    assert trial.serving.kind == load["kind"]
    assert trial.serving.failed == trial.serving.unfinished == 0
    assert trial.serving.completed_output_tokens == 8 * trial.requests > 0
    assert trial.energies[0].energy_j == pytest.approx(40.0 * trial.duration_s, rel=0.15)
    assert trial.output_tokens == sum(trial.t0_ns <= at < trial.t1_ns for row in rows for at in row.token_times_ns)
    assert all((row.scheduled_ns is None) == (load["kind"] == "closed") for row in rows)
    assert bool(store.engines(result.id)[0].get("probe")) == ("capacity_share" in load)


def test_flags_make_a_serving_load(run_llem) -> None:
    """`--set load.kind=closed --set load.concurrency=2` is all it takes."""
    values = (
        "load.concurrency=2", "load.kind=closed", "window_s=0.3", "warmup.seconds=0", "baseline.seconds=0",
        "echo.token_seconds=0.002", "device=cpu", "workload.output_tokens=8",
    )  # fmt: skip
    flags = [part for value in values for part in ("--set", value)]
    done = run_llem("run", "-b", "echo", "--preset", "quick", "-o", "out", "--json", *flags)
    store = Store.open("out")
    [experiment_id] = store.experiment_ids()

    assert store.read_experiment(experiment_id)["config"]["load"]["concurrency"] == 2
    assert store.trials(experiment_id)[0].serving.concurrency == 2
    assert done.stderr == ""


TRACE = "timestamp_s,input_tokens,output_tokens\n" + "".join(f"{row * 0.02:.2f},8,8\n" for row in range(100))


def test_a_trace_is_replayed(run_llem, isolated_llem) -> None:
    """`--set load.kind=replay` sends its requests at its times: fifty a second, a hundred at double speed."""
    (isolated_llem.folder / "trace.csv").write_text(TRACE)
    values = (
        "workload.kind=trace", "workload.path=trace.csv", "load.kind=replay", "load.speed=2", "window_s=0.5",
        "warmup.seconds=0.2", "baseline.seconds=0", "echo.token_seconds=0.002", "device=cpu",
    )  # fmt: skip
    flags = [part for value in values for part in ("--set", value)]
    done = run_llem("run", "-b", "echo", "--preset", "quick", "-o", "out", *flags)
    store = Store.open("out")
    [experiment_id] = store.experiment_ids()
    [trial] = store.trials(experiment_id)

    assert (trial.serving.kind, trial.serving.request_rate) == ("replay", 100.0)
    assert trial.serving.sent == pytest.approx(50, abs=10)
    assert store.engines(experiment_id)[0]["workload"]["columns"]["arrival"] == "timestamp_s"
    assert "trace × 2" in done.stdout


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("input_tokens,output_tokens\n8,8\n", (), "trace.csv: no column of arrival times, such as timestamp"),
        (TRACE, ("workload.arrival_column=when",), "trace.csv: no column 'when'"),
        (TRACE + "soon,8,8\n", (), "trace.csv: row 102, column 'timestamp_s': must be a number or a date"),
        (TRACE + "0.5,8,8\n", (), "trace.csv: row 102, column 'timestamp_s': is before the time of the row above"),
        (TRACE, ("load.kind=closed", "workload.arrival_column=timestamp_s"), "workload.arrival_column: has no effect"),
        (TRACE, ("workload.kind=synthetic",), "load.kind: is 'replay', and requests of the"),
    ],
)
def test_what_cannot_be_replayed_is_refused_before_anything_is_loaded(run_llem, isolated_llem, text, values, words):
    """A plan says so too, with the file, the row and the column, or the setting."""
    (isolated_llem.folder / "trace.csv").write_text(text)
    settings = {"backend": "echo", "device": "cpu", "load.kind": "replay"}
    if "workload.kind=synthetic" not in values:
        settings |= {"workload.kind": "trace", "workload.path": "trace.csv"}
    settings |= dict(value.split("=") for value in values)
    base = "".join(f"  {key}: {value}\n" for key, value in settings.items())
    (isolated_llem.folder / "s.yaml").write_text(f"base:\n{base}")
    for command in (("plan", "s.yaml"), ("run", "s.yaml", "-o", "out")):
        done = run_llem(*command)
        assert done.exit_code == 2
        assert words in done.stderr
    assert not Path("out").exists()
