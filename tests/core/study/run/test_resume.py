"""Going on with a study: what is stored is kept, what is missing or failed is measured, another study is refused."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import llem
from llem.config.layers import Layer
from llem.config.text import to_yaml
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.progress.display import StudyProgress
from llem.protocol.events import Event, Warned, silent
from llem.store.journal import compared
from llem.store.store import Store
from llem.study.plan.expand import load
from llem.study.plan.study import study_document
from llem.study.run.folder import differences
from llem.study.run.study_run import StudyRun, run_all

pytestmark = pytest.mark.process


@pytest.fixture
def study(lab) -> dict[str, Any]:
    """Three batch sizes on one engine, two trials each."""
    base = {**lab, "window_s": 0.1}
    return {"base": base, "axes": {"load.batch_size": [1, 2, 4]}, "trials": 2}


def measured(out: Path) -> dict[str, str]:
    """Every file of every trial, and its content."""
    paths = sorted(out.glob("experiments/*/trial-*"))
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def interrupted_after(trials: int, study: dict, out: Path, **more) -> None:
    """Run until so many trials are measured, and stop as the user does with Ctrl-C."""
    import llem.api

    stop = threading.Event()
    seen = []

    def emit(event) -> None:
        seen.append(event.kind)
        if seen.count("trial") == trials:
            stop.set()

    ready = llem.api.prepare(study, (), out, launcher="inline", **more)
    ran = ready.run(emit, stop)
    assert ran.interrupted is not None


def test_what_is_stored_is_kept_and_the_rest_is_measured(study, tmp_path: Path) -> None:
    """Files of trials are as they were; the engine process that goes on has the next number."""
    out = tmp_path / "out"
    interrupted_after(4, study, out)
    before = measured(out)
    results = llem.run_study(study, out, launcher="inline", resume=True)
    store = Store.open(out)

    assert len([name for name in before if name.endswith(".json")]) == 4
    assert before.items() <= measured(out).items()
    assert [(result.outcome, result.trials) for result in results.values()] == [("done", 2)] * 3
    assert {trial.process for name in results for trial in store.trials(name)} == {0, 1}
    assert len(store.study()["resumed_at"]) == 1
    assert verify(store) == []


def test_with_nothing_missing_nothing_is_run(study, tmp_path: Path) -> None:
    """No worker is started, and the results are what they were."""
    first = llem.run_study(study, tmp_path / "out", launcher="inline")
    events: list[Event] = []
    again = llem.run_study(study, tmp_path / "out", launcher="inline", resume=True, on_event=events.append)

    assert dict(again) == dict(first)
    assert [event.kind for event in events] == ["study"]
    assert (events[0].done, events[0].jobs) == (3, ())


def test_a_result_that_is_lacking_is_computed_and_counted_once(study, tmp_path: Path) -> None:
    """All is measured, and the command died before it computed one result: the display ends with 3 of 3."""
    first = llem.run_study(study, tmp_path / "out", launcher="inline")
    (tmp_path / "out" / "experiments" / next(iter(first)) / "result.json").unlink()
    events: list[Event] = []
    again = llem.run_study(study, tmp_path / "out", launcher="inline", resume=True, on_event=events.append)
    shown = StudyProgress(events[0])
    for event in events:
        shown.update(event, 0.0)

    assert dict(again) == dict(first)
    assert [event.kind for event in events] == ["study", "result"]
    assert (events[0].done, shown.done, shown.experiments) == (2, 3, 3)


def test_further_trials_are_added(study, tmp_path: Path) -> None:
    """With a higher number the same study goes on; every result is of all trials, and says what was asked for."""
    out = tmp_path / "out"
    llem.run_study(study, out, launcher="inline")
    before = measured(out)
    results = llem.run_study({**study, "trials": 3}, out, launcher="inline", resume=True)

    assert before.items() <= measured(out).items()
    assert [result.trials for result in results.values()] == [3, 3, 3]
    assert [result.config["trials"] for result in results.values()] == [3, 3, 3]
    assert verify(Store.open(out)) == []


def test_a_trial_that_was_removed_is_measured_again(study, tmp_path: Path) -> None:
    """The result is then of the trial that took its place, though their number is what it was."""
    out = tmp_path / "out"
    name = next(iter(llem.run_study(study, out, launcher="inline")))
    store = Store.open(out)
    (store.folder(name) / "trial-0.json").unlink()
    results = llem.run_study(study, out, launcher="inline", resume=True)

    assert [trial.process for trial in store.trials(name)] == [1, 0]
    assert [(result.outcome, result.trials) for result in results.values()] == [("done", 2)] * 3
    assert verify(store) == []


def test_a_damaged_trial_keeps_no_other_experiment_from_going_on(study, tmp_path: Path) -> None:
    """It is told with what to do about it, which then works."""
    out = tmp_path / "out"
    name = next(iter(llem.run_study(study, out, launcher="inline")))
    trial = Store.open(out).folder(name) / "trial-1.json"
    trial.write_text(trial.read_text()[:100])
    before = measured(out)
    events: list[Event] = []
    results = llem.run_study({**study, "trials": 3}, out, launcher="inline", resume=True, on_event=events.append)

    error = results.damaged[name]
    assert str(trial) in error.message
    assert error.hint == "restore the file, or remove trial-1.json, which `llem run --resume` then measures again"
    assert [event.message for event in events if isinstance(event, Warned)] == [
        f"{name} is left out: {error.message} ({error.hint})"
    ]
    assert [result.trials for result in results.values()] == [3, 3]
    assert before.items() <= measured(out).items()

    trial.unlink()
    results = llem.run_study({**study, "trials": 3}, out, launcher="inline", resume=True)
    assert [result.trials for result in results.values()] == [3, 3, 3]
    assert verify(Store.open(out)) == []


def test_a_damaged_trial_is_named_when_nothing_is_left_to_measure(study, tmp_path: Path) -> None:
    """All results are there, and would be kept if the trial were whole."""
    out = tmp_path / "out"
    name = next(iter(llem.run_study(study, out, launcher="inline")))
    trial = Store.open(out).folder(name) / "trial-1.json"
    trial.write_bytes(trial.read_bytes()[:300])
    results = llem.run_study(study, out, launcher="inline", resume=True)

    assert (list(results.damaged), len(results)) == ([name], 2)
    assert results.damaged[name].code == "store_corrupt"


def test_where_all_is_damaged_that_is_the_error(study, tmp_path: Path) -> None:
    """There is no result to give."""
    out = tmp_path / "out"
    llem.run_study(study, out, launcher="inline")
    for trial in out.glob("experiments/*/trial-1.json"):
        trial.write_bytes(b"{}")
    with pytest.raises(llem.StoreError, match="schema_version is missing"):
        llem.run_study(study, out, launcher="inline", resume=True)


def test_a_damaged_result_is_computed_again(study, tmp_path: Path) -> None:
    """It is nothing but what the trials give; so is the configuration that the study says again."""
    out = tmp_path / "out"
    first = llem.run_study(study, out, launcher="inline")
    one, other, _ = first
    before = dict(first)
    store = Store.open(out)
    for path in (store.folder(one) / "result.json", store.folder(other) / "experiment.json"):
        path.write_text(path.read_text()[:100])

    assert dict(llem.run_study(study, out, launcher="inline", resume=True)) == before
    assert verify(store) == []
    assert compared(out).altered == ()


def test_before_more_is_measured_the_former_result_is_gone(study, tmp_path: Path, monkeypatch) -> None:
    """Killed there, nothing says what holds no more: the store is as it was, and `llem verify` finds nothing."""
    out = tmp_path / "out"
    llem.run_study(study, out, launcher="inline")
    monkeypatch.setattr(StudyRun, "_carry_out", lambda *_: os._exit(9))
    if (child := os.fork()) == 0:
        llem.run_study({**study, "trials": 3}, out, launcher="inline", resume=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    store = Store.open(out)
    assert store.result_ids() == ()
    assert verify(store) == []
    assert compared(out).altered == ()


def test_to_go_on_with_another_version_is_told(study, tmp_path: Path) -> None:
    """Once, before anything is measured; not where nothing is left to measure."""
    out = tmp_path / "out"
    interrupted_after(4, study, out)
    store = Store.open(out)
    store.write_study({**store.study(), "llem": "0.0.1"})
    told: list[list[str]] = []
    for _ in range(2):
        events: list[Event] = []
        llem.run_study(study, out, launcher="inline", resume=True, on_event=events.append)
        told.append([event.message for event in events if isinstance(event, Warned)])

    began = f"the study began with llem 0.0.1 and goes on with {llem.__version__}, which may measure differently"
    assert told == [[began], []]


def test_what_failed_is_tried_again(study, tmp_path: Path, monkeypatch) -> None:
    """Its first outcome stays beside the new one."""
    import llem_lab

    out = tmp_path / "out"
    study["base"]["lab"] = {"limit": 2, "error": "oom"}
    first = llem.run_study(study, out, launcher="inline")
    monkeypatch.setattr(llem_lab, "fail", lambda how: None)  # the machine has more memory now
    second = llem.run_study(study, out, launcher="inline", resume=True)
    failed = next(name for name, result in first.items() if result.outcome == "oom")
    outcomes = Store.open(out).outcomes(failed)

    assert [result.outcome for result in first.values()].count("oom") == 1
    assert [result.outcome for result in second.values()] == ["done"] * 3
    assert [(one["process"], one["outcome"]) for one in outcomes] == [(0, "oom"), (1, "done")]
    assert verify(Store.open(out)) == []


def test_objectives_change_no_measurement(study, tmp_path: Path) -> None:
    """Other limits of latency judge what was measured: results are computed anew, nothing is run."""
    out = tmp_path / "out"
    study["base"]["load"] = {"kind": "closed", "concurrency": 2}
    study["axes"] = {"sampling.seed": [1, 2]}
    llem.run_study(study, out, launcher="inline")
    before = measured(out)
    study["base"]["slo"] = {"ttft_s": 1e-9}
    results = llem.run_study(
        {**study, "name": "renamed", "limits": {"silence_s": 60}}, out, launcher="inline", resume=True
    )

    assert measured(out) == before
    assert all("slo_missed" in {found.code for found in result.findings} for result in results.values())
    assert Store.open(out).study()["name"] == "renamed"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"base": {"window_s": 0.2}}, "window_s: is 0.2, and was 0.1"),
        ({"base": {"meters": ["steady"]}}, "meters: is "),
        ({"axes": {"load.batch_size": [1, 2, 4, 8]}}, 'a point is new: {"load.batch_size": 8}'),
        ({"axes": {"load.batch_size": [1, 2]}}, 'a point is gone: {"load.batch_size": 4}'),
        ({"axes": {}}, "this is one experiment that varies nothing, and the folder has a study of 3 experiments"),
        ({"trials": 1}, "trials: is 1, and was 2 (trials that are measured are kept: ask for more)"),
        ({"order": {"seed": 5}}, 'order: is {"gap_s"'),
    ],
)
def test_another_study_is_refused(study, tmp_path: Path, change: dict, problem: str) -> None:
    """With what differs, and nothing in the folder is touched."""
    out = tmp_path / "out"
    llem.run_study(study, out, launcher="inline")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    changed = {**study, **change, "base": {**study["base"], **change.get("base", {})}}
    with pytest.raises(llem.ConfigError) as caught:
        llem.run_study(changed, out, launcher="inline", resume=True)

    assert caught.value.message == f"this is not the study of {out}"
    assert str(caught.value.problems[0]).startswith(problem)
    assert "-o" in caught.value.hint
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_who_names_no_study_is_told_which_it_was(study, lab, tmp_path: Path) -> None:
    """`llem run --resume -o DIR` alone measures the defaults, which are another study."""
    out, file = tmp_path / "out", tmp_path / "study.yaml"
    file.write_text(to_yaml(study, {}))
    llem.run_study(file, out, launcher="inline")

    with pytest.raises(llem.ConfigError) as caught:
        llem.run(out=out, launcher="inline", resume=True, **lab)
    assert caught.value.hint.endswith(f"go on with the study as it was, {next(iter(Store.open(out).study()['texts']))}")
    assert "study.yaml" in caught.value.hint


def test_what_was_given_otherwise_is_told_of_what_has_not_begun(lab, tmp_path: Path) -> None:
    """Of an experiment without a document only what was asked for is known: the files, and what lies over them."""
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text("base: {backend: echo, device: cpu}\n")
    Store.create(out, study_document(load(file, (), registry())))
    file.write_text("base: {backend: echo, device: cpu, window_s: 3}\n")
    with pytest.raises(llem.ConfigError) as caught:
        llem.run_study(llem.load_study(file, dtype="float16"), out, launcher="inline", resume=True)

    assert [str(problem) for problem in caught.value.problems] == [
        "the experiment is another one than it was",
        "study.yaml: is not as it was",
        'dtype: is "float16", and was not given',
    ]


def test_a_changed_include_is_noticed_wherever_it_lies(study, tmp_path: Path) -> None:
    """A file outside the study's folder counts by what it holds, as everything does that a study reads."""
    shared, out = tmp_path / "elsewhere" / "shared.yaml", tmp_path / "out"
    shared.parent.mkdir()
    (tmp_path / "studies").mkdir()
    file = tmp_path / "studies" / "study.yaml"
    shared.write_text(to_yaml({"base": study["base"]}, {}))
    file.write_text("includes: [../elsewhere/shared.yaml]\naxes: {load.batch_size: [1, 2]}\ntrials: 1\n")
    llem.run_study(file, out, launcher="inline")
    shared.write_text(to_yaml({"base": {**study["base"], "window_s": 0.3}}, {}))
    with pytest.raises(llem.ConfigError) as caught:
        llem.run_study(file, out, launcher="inline", resume=True)

    assert [str(problem) for problem in caught.value.problems] == ["window_s: is 0.3, and was 0.1"]
    assert list(Store.open(out).study()["texts"]) == ["../elsewhere/shared.yaml", "study.yaml"]


def test_the_same_study_has_no_differences(study, tmp_path: Path) -> None:
    """Whatever of it has begun."""
    out = tmp_path / "out"
    interrupted_after(1, study, out)
    import llem.api

    ready = llem.api.prepare(study, (), out, launcher="inline", resume=True)

    assert list(differences(Store.open(out), study_document(ready.study), ready.study.experiments)) == []


def test_a_folder_is_resumed_only_when_asked(study, tmp_path: Path) -> None:
    """Else nobody's results are touched; one that holds nothing is begun."""
    out = tmp_path / "out"
    llem.run_study(study, out, launcher="inline", resume=True)
    with pytest.raises(llem.StoreError) as caught:
        llem.run_study(study, out, launcher="inline")

    assert caught.value.code == "store_exists"
    assert "--resume" in caught.value.hint


def test_resuming_needs_a_folder(study) -> None:
    """There is no default to find it by."""
    with pytest.raises(llem.ConfigError, match="resuming needs the folder"):
        llem.run_study(study, launcher="inline", resume=True)


def test_two_runs_do_not_share_a_folder(study, tmp_path: Path) -> None:
    """The second is told so; the first's folder stays as it is."""
    out = tmp_path / "out"
    llem.run_study(study, out, launcher="inline")
    lock = Store.open(out).owner_lock()
    assert lock.take()
    try:
        with pytest.raises(llem.StoreError) as caught:
            llem.run_study(study, out, launcher="inline", resume=True)
    finally:
        lock.let_go()

    assert caught.value.code == "store_busy"


def test_a_worker_of_an_earlier_run_is_waited_for(study, tmp_path: Path, monkeypatch) -> None:
    """So that no trial is measured twice at once."""
    out = tmp_path / "out"
    interrupted_after(1, study, out)
    monkeypatch.setattr("llem.study.run.folder.WORKERS_GONE_S", 0.2)
    with Store.open(out).attended(), pytest.raises(llem.StoreError, match="a worker of an earlier run"):
        llem.run_study(study, out, launcher="inline", resume=True)

    assert [result.outcome for result in llem.run_study(study, out, launcher="inline", resume=True).values()] == [
        "done"
    ] * 3


@pytest.mark.parametrize("name", ["workers", "experiments/ONE", "experiments/ONE/trial-0.json", "events.jsonl"])
def test_nothing_is_written_to_where_a_link_leads(study, tmp_path: Path, name: str) -> None:
    """The link is named, and nothing is measured."""
    out, aside = tmp_path / "out", tmp_path / "aside"
    one = next(iter(llem.run_study({**study, "axes": {}}, out, launcher="inline")))
    path = out / name.replace("ONE", one)
    path.rename(aside)
    path.symlink_to(aside)
    kept = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    with pytest.raises(llem.StoreError) as caught:
        llem.run_study({**study, "axes": {}, "trials": 3}, out, launcher="inline", resume=True)
    assert caught.value.message == f"{path} is a link"
    assert caught.value.exit_code == 2
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == kept


@pytest.mark.parametrize("name", [".owner", ".workers"])
def test_a_folder_in_the_place_of_a_lock_is_to_be_removed(study, tmp_path: Path, name: str) -> None:
    """By whoever goes on, and told by `verify`."""
    out = tmp_path / "out"
    llem.run_study({**study, "axes": {}}, out, launcher="inline")
    (out / name).unlink(missing_ok=True)
    (out / name).mkdir()

    assert [one.file for one in verify(Store.open(out))] == [name]
    with pytest.raises(llem.MachineError) as caught:
        llem.run_study({**study, "axes": {}, "trials": 3}, out, launcher="inline", resume=True)
    assert caught.value.hint == f"remove {out / name}"


def test_rows_that_are_missing_are_told_with_what_to_do(study, tmp_path: Path) -> None:
    """Who does it has the trial measured again; the study goes on all the same."""
    out = tmp_path / "out"
    study = {**study, "axes": {}}
    one = next(iter(llem.run_study(study, out, launcher="inline")))
    folder = out / "experiments" / one
    (folder / "trial-1.power.csv.gz").unlink()
    told = (
        f"experiments/{one}/trial-1.power.csv.gz: missing: experiments/{one}/trial-1.json names it. Restore it, or "
        "remove trial-1.json, which `llem run --resume` then measures again"
    )
    assert told in [str(one) for one in verify(Store.open(out))]
    events: list[Event] = []
    llem.run_study(study, out, launcher="inline", resume=True, on_event=events.append)
    assert told in [event.message for event in events if isinstance(event, Warned)]

    (folder / "trial-1.json").unlink()
    llem.run_study(study, out, launcher="inline", resume=True)
    assert verify(Store.open(out)) == []


def test_a_folder_in_the_place_of_a_result_is_to_be_removed(study, tmp_path: Path) -> None:
    """`verify` names it once."""
    out = tmp_path / "out"
    study = {**study, "axes": {}}
    one = next(iter(llem.run_study(study, out, launcher="inline")))
    path = out / "experiments" / one / "result.json"
    path.unlink()
    path.mkdir()

    assert [str(one) for one in verify(Store.open(out))] == [f"experiments/{one}/result.json: is a folder"]
    with pytest.raises(llem.StoreError) as caught:
        llem.run_study(study, out, launcher="inline", resume=True)
    assert f"remove {path} if nothing in it is needed" in caught.value.hint


def test_files_that_were_never_finished_are_removed(study, tmp_path: Path) -> None:
    """And never counted as measured."""
    out = tmp_path / "out"
    interrupted_after(1, study, out)
    [begun] = {path.parent for path in out.glob("experiments/*/trial-0.json")}
    half = [begun / ".trial-1.json.abcd1234", begun / ".trial-1.power.csv.gz.zz_9k2ab"]
    for path in half:
        path.write_text("{")
    results = llem.run_study(study, out, launcher="inline", resume=True)

    assert not any(path.exists() for path in half)
    assert [result.trials for result in results.values()] == [2, 2, 2]


def test_all_trials_and_no_word_of_the_end_is_done(study, tmp_path: Path) -> None:
    """A worker that was killed between its last trial and its outcome has lost nothing."""
    out = tmp_path / "out"
    first = llem.run_study(study, out, launcher="inline")
    for path in [*out.glob("experiments/*/outcome-0.json"), *out.glob("experiments/*/result.json")]:
        path.unlink()
    events: list[Event] = []
    again = llem.run_study(study, out, launcher="inline", resume=True, on_event=events.append)

    assert dict(again) == dict(first)
    assert "worker" not in {event.kind for event in events}


def test_a_run_of_one_experiment_goes_on_too(lab, tmp_path: Path) -> None:
    """With further trials, or where it was interrupted."""
    settings = {**lab, "window_s": 0.1, "trials": 2, "max_trials": 2}
    first = llem.run(out=tmp_path / "out", launcher="inline", **settings)
    more = llem.run(out=tmp_path / "out", launcher="inline", resume=True, **{**settings, "trials": 3, "max_trials": 3})

    assert (first.trials, more.trials, first.id) == (2, 3, more.id)


def test_the_command_goes_on(run_llem, isolated_llem, lab) -> None:
    """`--resume` with `-o`; without it the error says what to type."""
    (isolated_llem.folder / "study.yaml").write_text(
        "base: {backend: lab, device: cpu, preset: quick, window_s: 0.1, workload: {input_tokens: 8, output_tokens: 8},"
        "\n       warmup: {seconds: 0}, baseline: {seconds: 0}}\naxes: {load.batch_size: [1, 2]}\n"
    )
    printed = run_llem("run", "study.yaml", "-o", "out", "-q").stdout
    again = run_llem("run", "study.yaml", "-o", "out", "-q", "--resume")
    refused = run_llem("run", "study.yaml", "-o", "out", "-q")

    assert (again.exit_code, again.stdout) == (0, printed)
    assert refused.exit_code == 2
    assert "--resume" in refused.stderr
    assert run_llem("run", "study.yaml", "--resume").exit_code == 2


def test_trials_of_a_restarted_study_keep_their_process(study, tmp_path: Path) -> None:
    """With two engine processes each goes on with its own trials, in a new one."""
    out = tmp_path / "out"
    study = {**study, "trials": 4, "base": {**study["base"], "processes": 2}}
    interrupted_after(3, study, out)
    results = llem.run_study(study, out, launcher="inline", resume=True)
    store = Store.open(out)

    assert [(result.outcome, result.trials) for result in results.values()] == [("done", 4)] * 3
    for name in results:
        by_process: dict[int, set[int]] = {}
        for trial in store.trials(name):
            by_process.setdefault(trial.process, set()).add(trial.index % 2)
        assert all(len(parities) == 1 for parities in by_process.values())
    assert verify(store) == []


def test_a_plan_that_was_loaded_can_be_run_again(study, tmp_path: Path) -> None:
    """`run_all` by itself, as a launcher of one's own would use it."""
    from llem.launchers.inline import InlineLauncher
    from llem.study.run.preflight import check_study

    loaded = load(study, [Layer("python", {"trials": 1})], registry())
    check_study(loaded, registry(), InlineLauncher())
    for resume in (False, True):
        ran = run_all(
            loaded,
            tmp_path / "out",
            InlineLauncher,
            registry(),
            emit=silent,
            stop=threading.Event(),
            resume=resume,
        )
        assert [result.outcome for result in ran.results] == ["done"] * 3
