"""What a stranger's backend does wrong is told as the study runs: the rule, what was got, and what is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import llem
from llem.errors import TELL_AUTHORS, BrokenCheck, LlemError
from llem.experiment import contract
from llem.plugins.registry import registry
from llem.protocol.events import Warned
from llem.protocol.order import failure
from llem.study.plan.expand import load

LAB = Path(__file__).parents[1] / "lab"
OPEN = {"kind": "closed", "concurrency": 2}
QUICK = {
    "preset": "quick",
    "trials": 1,
    "window_s": 0.1,
    "warmup": {"batches": 1, "seconds": 0.0},
    "baseline": {"seconds": 0},
    "workload": {"kind": "synthetic", "input_tokens": 4, "output_tokens": 16},
    "device": "cpu",
    "meters": [],
    "launcher": "inline",
}

Run = Callable[..., "llem.Result"]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_llem) -> Iterator[Run]:
    """Install the distribution llem-stranger, and run its backend with a fault and settings."""
    info = tmp_path / "site" / "llem_stranger-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-stranger\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[llem]\nstranger = llem_stranger_hooks\n")
    path = [str(info.parent), str(LAB), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for entry in path[:2]:
        monkeypatch.syspath_prepend(entry)
    registry.cache_clear()

    def run(fault: str = "none", **settings: Any) -> Any:
        options = {"token_seconds": 0.0002, "fault": fault, **settings.pop("options", {})}
        made = {**QUICK, "backend": "stranger", "stranger": options, **settings}
        with suppress(LlemError):  # the result is stored all the same
            llem.run(out=tmp_path / "out", **made)
        [found] = llem.load_results(tmp_path / "out").values()
        return found

    yield run
    registry.cache_clear()


def codes(result: Any) -> set[str]:
    return {found.code for found in result.findings}


ORDER = "completions stand in the order of the requests, one for each: got"
REASON = "a finish reason is a printable word, of 200 characters at most"
SETTINGS = "effective_config gives JSON values: no tuples, no keys but text, no NaN"
TIMED = {"token_times": True}
BATCHES = {"load": {"kind": "offline", "batch_size": 3}}
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("order", BATCHES, f"{ORDER} request 2 at place 0, expected request 0"),
    ("one less", BATCHES, f"{ORDER} 2 completions, expected 3"),
    ("tensors", {}, "token ids are Python integers of the vocabulary: got tensor("),
    ("padding", {}, "token ids are Python integers of the vocabulary: got -1 (int) for request 0"),
    ("unasked times", {}, "token times come only when they are asked for: got times of request 0, expected None"),
    ("wall clock", TIMED, "times are time.monotonic_ns() at which tokens came, within the call: got request 0"),
    ("seconds", TIMED, "times are integers of nanoseconds: got"),
    ("backwards", TIMED, "times do not go backwards: got times of request 0 that do"),
    ("too few times", TIMED, "each token has a time: got 15 for request 0, expected 16"),
    (
        "interpolated",
        TIMED,
        "times are read from the clock as tokens come, and not computed: got 16 times of request 0",
    ),
    ("no memory", {}, "peak memory is a number of bytes above 0, or None: got 0, expected an int above 0, or None"),
    ("no reason", {}, "peak memory that is not known has a reason: got 'I forgot'"),
    ("not JSON", {}, "effective_config gives JSON values: no tuples, no keys but text, no NaN: got 'devices': (0, 1)"),
    (
        "below 0",
        {},
        "token_count is how many tokens were generated: got -8 for request 0, expected an int from 0 to",
    ),
    ("no computer's", {}, "token_count is how many tokens were generated: got 1000000000000000000000000000000"),
    ("no number", {}, "token_count is how many tokens were generated: got nan for request 0"),
    ("nothing", {}, "generate returns a list of completions: got None, expected a list of `Completion`"),
    ("generator", {}, "generate returns a list of completions: got <generator object"),
    ("commands", {}, f"{REASON}: got '\\x1b[31mX\\x1b]0;"),
    ("number for a reason", {}, f"{REASON}: got 7 for request 0, expected 'length' or 'stop', say"),
    ("bytes", {}, "the text of an answer is text, or None: got b'\\xff' for request 0, expected a str"),
    ("infinite", {}, "engine_metrics are finite numbers by name, or None: got 'queued_s': inf for request 0"),
    ("no engine", {}, "load gives the loaded engine: got None, expected an `Engine`"),
    ("a number of sizes", {}, "architecture gives the sizes of the model, or None: got 5, expected an `Architecture`"),
    ("known and not", {}, "peak memory that is known has no reason why it is not: got 7 with 'not_supported'"),
    ("no computer's memory", {}, "peak memory is a whole number of 64 bits: got 1000000000000000000000000000000"),
    ("deep", {}, f"{SETTINGS}: got it nests too deeply"),
    ("half a character", {}, f"{SETTINGS}: got 'utf-8' codec can't encode character '\\ud800'"),
    ("large number", {}, f"{SETTINGS}: got 10000000000000000000… (31 characters) is no whole number of 64 bits"),
    ("large", {}, "effective_config is no larger than 1,048,576 bytes of JSON: got 30,000,"),
    ("nothing", {"load": OPEN}, "stream yields chunks: got None for request"),
    (
        "no computer's",
        {"load": OPEN},
        "a chunk says how many tokens it brings: got 1000000000000000000000000000000",
    ),
    ("wall clock", {"load": OPEN}, "times are time.monotonic_ns() at which tokens came, within the call: got request"),
    ("more ids", {"load": OPEN}, "a chunk has as many ids as tokens, or none at all: got 2 ids in a chunk of 1"),
]


@pytest.mark.parametrize(("fault", "settings", "told"), BROKEN, ids=[f"{one}-{len(two)}" for one, two, _ in BROKEN])
def test_a_broken_rule_ends_the_experiment(stranger: Run, fault: str, settings: dict[str, Any], told: str) -> None:
    """It is invalid, has no figure, and names the backend, the rule, what was got and expected, and the page."""
    found = stranger(fault, **settings)

    assert (found.outcome, found.valid) == ("invalid", False)
    assert f"the stranger backend breaks a rule of backends: {told}" in found.error
    assert found.error.endswith("; see docs/howto/write-a-backend.md")
    assert found.metrics["output_tokens_per_s"].value is None


@pytest.mark.parametrize("settings", [{}, TIMED, BATCHES, {"load": OPEN}], ids=["batch", "times", "batches", "stream"])
def test_a_backend_that_keeps_the_rules_is_measured(stranger: Run, settings: dict[str, Any]) -> None:
    """The same backend without a fault."""
    found = stranger(**settings)

    assert (found.outcome, found.error) == ("done", None)
    assert not codes(found) & {"setting_overruled", "work_left"}
    assert found.metrics["output_tokens_per_s"].value > 0


def test_settings_that_the_engine_overrules_are_told(stranger: Run) -> None:
    """By what it says itself: an option, the dtype, the temperature; the result stands and is not publishable."""
    found = stranger(
        "overruled", dtype="float16", sampling={"temperature": 0.7}, options={"beams": 4, "token_seconds": 0.0002}
    )

    told = [one for one in found.findings if one.code == "setting_overruled"]
    assert found.outcome == "done"
    assert {one.evidence["parameter"]: (one.evidence["asked"], one.evidence["effective"]) for one in told} == {
        "stranger.beams": (4, 1),
        "dtype": ("float16", "float32"),
        "sampling.temperature": (0.7, 0.0),
    }
    assert {one.severity for one in told} == {"warning"}
    assert "dtype: asked for 'float16', and the engine says that it runs with 'float32'" in [
        one.message for one in told
    ]


def test_work_that_goes_on_after_generate_is_told_with_the_result(stranger: Run, monkeypatch) -> None:
    """Once, as a warning. How much is too much is another test's: this machine may be busy itself."""
    monkeypatch.setattr(contract, "BUSY_CORES", -1.0)
    found = stranger(trials=2, max_trials=2)

    [told] = [one for one in found.findings if one.code == "work_left"]
    assert (told.severity, found.outcome) == ("warning", "done")


@pytest.mark.parametrize(
    ("cores", "told"),
    [
        ([0.1, 0.2], None),  # idle, before and after
        ([0.0, 2.0, 2.0, 0.0], None),  # threads that spin a while before they sleep
        ([1.0, 1.2], None),  # an engine that polls, with work and without
        ([0.0] + [0.9] * 100, 0.9),
        ([1.0] + [2.0] * 100, 1.0),
    ],
)
def test_what_counts_as_work_that_is_left(monkeypatch, cores: list[float], told: float | None) -> None:
    """More processor time than before any work, for longer than threads spin."""
    readings = iter(cores)
    clock = iter(range(1000))
    monkeypatch.setattr(contract.Idle, "_cores", lambda self: next(readings))
    monkeypatch.setattr(contract, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(clock)))
    found = contract.Idle(lambda seconds: None).left(0.01)

    assert [one.evidence["cores"] for one in found] == ([] if told is None else [told])


def test_a_gpu_that_is_left_with_work_is_told(monkeypatch) -> None:
    """By how long torch waits for it; a share of a percent of a long batch is the call itself."""
    monkeypatch.setattr(contract, "_device_left_s", lambda: 0.05)

    [told] = contract.Idle(lambda seconds: None).left(1.0)
    assert told.message == "the GPU went on working for 0.05 s after a batch had returned"
    assert contract.Idle(time.sleep).left(10.0) == []


def test_the_core_asks_whether_it_runs_where_it_was_placed(stranger: Run) -> None:
    """`device: auto` became the CPU: the backend's own check is asked again, and `load` never begins."""
    found = stranger("cpu", device="auto")

    assert found.outcome == "invalid"
    assert "backend stranger cannot run this on cpu" in found.error
    assert "stranger runs on GPUs only" in found.error


RAISED = {
    "odd": "Odd: odd",
    "mute": "Mute",
    "exit": "SystemExit: 0",
    "generator exit": "GeneratorExit",
    "cancelled": "CancelledError",
}


@pytest.mark.parametrize("fault", RAISED)
def test_whatever_an_engine_raises_is_its_crash(stranger: Run, fault: str) -> None:
    """Also what is no Exception, and what cannot be told: its kind, and whose it is."""
    found = stranger(fault)

    assert (found.outcome, found.error) == (
        "crash",
        f"{RAISED[fault]}, in the plugin llem-stranger 0.3",
    )


@pytest.mark.process
def test_an_engine_that_ends_the_process_is_named(stranger: Run) -> None:
    """With the phase that it was in: it left no error."""
    found = stranger("leaves", launcher="process")

    told = "the worker ended with status 0 and no outcome, in the phase 'warm-up' of the backend 'stranger'"
    assert (found.outcome, found.error) == ("crash", told)


@pytest.mark.process
def test_a_process_that_left_the_session_is_ended_and_told(stranger: Run) -> None:
    """A signal to the worker's group would not reach it, and it would outlive the study; the result stands."""
    seen: list[Any] = []
    found = stranger("child", on_event=seen.append)

    assert found.outcome == "done"
    assert [one.message for one in seen if isinstance(one, Warned)] == [
        "the backend 'stranger', or another plugin, left sleep running in a session of its own; it was ended"
    ]
    import llem_stranger

    assert llem_stranger.StrangerEngine.child.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(("heard", "outcome"), [(True, None), (False, "crash")])
def test_ctrl_c_is_the_users_where_it_is_heard(monkeypatch, heard: bool, outcome: str | None) -> None:
    """Elsewhere nobody but the engine raised it."""
    handler = signal.default_int_handler if heard else signal.SIG_IGN
    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    if outcome is None:
        with pytest.raises(KeyboardInterrupt):
            failure(KeyboardInterrupt())
    else:
        assert (failure(KeyboardInterrupt()).outcome, failure(KeyboardInterrupt()).message) == (
            outcome,
            "KeyboardInterrupt",
        )


CHECKS = {
    "check raises": "the backend 'stranger' of llem-stranger 0.3 failed to check this configuration: Odd: check",
    "check gives nothing": "the backend 'stranger' breaks a rule of backends: check gives a list of findings: got None",
}


@pytest.mark.parametrize("fault", CHECKS)
def test_a_check_that_fails_costs_its_point_alone(stranger: Run, fault: str) -> None:
    """Of a study the other points are planned; the message names the plugin, though it raised no Exception."""
    base = {**QUICK, "backend": "stranger"}
    del base["launcher"]
    study = load({"name": "s", "base": base, "axes": {"stranger.fault": ["none", fault]}}, [], registry())

    [refused] = study.invalid
    assert [one.experiment.options.fault for one in study.experiments] == ["none"]
    assert refused.problems[0].message.startswith(CHECKS[fault])


@pytest.mark.parametrize("fault", CHECKS)
def test_a_check_that_fails_is_the_plugins_fault(stranger: Run, tmp_path: Path, fault: str) -> None:
    """Exit code 3, of plugins that do not work; nothing of an experiment begins."""
    options = {"fault": fault, "token_seconds": 0.0002}
    with pytest.raises(BrokenCheck) as caught:
        llem.run(out=tmp_path / "out", **{**QUICK, "backend": "stranger", "stranger": options})

    assert caught.value.message.startswith(CHECKS[fault])
    assert (caught.value.exit_code, caught.value.hint) == (3, TELL_AUTHORS)


@pytest.mark.process
def test_the_command_line_tells_a_broken_rule_in_one_message(stranger: Run, tmp_path: Path) -> None:
    """With the exit code of an experiment that failed, and no traceback."""
    settings = {"device": "cpu", "baseline.seconds": "0", "warmup.seconds": "0", "window_s": "0.1", "trials": "1"}
    command = [sys.executable, "-m", "llem", "run", "-b", "stranger", "--preset", "quick", "-o", "cli"]
    for name, value in {**settings, "stranger.fault": "one less"}.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 1, done.stderr
    assert "the stranger backend breaks a rule of backends: completions stand in the order" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            "name",
            "domains are named by what they cover: got 'package-0', expected gpu:<uuid>, cpu:<n>, dram:<n> or node",
        ),
        ("scope", "a domain has the scope of its name: got 'node' for cpu:0, expected 'cpu'"),
        ("twice", "a domain is listed once: got cpu:0 2 times, expected once"),
        ("another's", "a meter reads the GPUs that it was given, and no others: got gpu:GPU-of-another, expected none"),
    ],
)
def test_a_meter_that_reads_what_none_may_ends_the_experiment(stranger: Run, fault: str, told: str) -> None:
    """Before an engine is loaded."""
    found = stranger(meters=["odd"], odd={"fault": fault})

    assert found.outcome == "invalid"
    assert f"the meter odd breaks a rule of meters: {told}" in found.error
    assert found.error.endswith("; see docs/howto/write-a-meter.md")


@pytest.mark.parametrize(
    ("fault", "got"),
    [("zero", "0.0 for cpu:0"), ("negative", "-1.0 for cpu:0"), ("nan", "nan for cpu:0"), ("text", "'5 J' for cpu:0")],
)
def test_energy_that_cannot_be_is_none(stranger: Run, fault: str, got: str) -> None:
    """With the finding, and never a number."""
    found = stranger(meters=["odd"], odd={"fault": fault})

    [told] = [one for one in found.findings if one.code == "meter_failed"]
    assert f"the energy of a window is above 0 J, or None where there is no reading: got {got}" in told.message
    assert [one.energy_j.value for one in found.domains] == [None]
    assert found.metrics["energy_j"].value is None


def test_a_meter_that_keeps_the_rules_reads(stranger: Run) -> None:
    """The same meter without a fault."""
    found = stranger(meters=["odd"])

    assert not codes(found) & {"energy_suspect", "meter_failed"}
    assert found.metrics["energy_j"].value > 0


def test_millijoules_are_no_joules(stranger: Run) -> None:
    """Of a domain that tells no limit: more power than any part of a machine takes."""
    found = stranger(meters=["odd"], odd={"fault": "millijoules"})

    [told] = [one for one in found.findings if one.code == "energy_suspect"]
    assert "above its limit of 5000 W" in told.message
    assert not found.valid
