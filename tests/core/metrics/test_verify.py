"""Recomputing a store: identical when untouched, and different when any number in it that matters was changed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llem.cli.show import show
from llem.cli.verify import verify as verify_command
from llem.errors import StoreError
from llem.meters.base import Domain
from llem.metrics.catalogue import METRICS
from llem.metrics.placed import misplaced
from llem.metrics.result import recompute
from llem.metrics.verify import verify
from llem.protocol.events import Moment, TrialEnded, silent
from llem.protocol.lines import kept
from llem.store.convert import dump
from llem.store.files import DIGEST, write_json
from llem.store.journal import compared
from llem.store.models import SCHEMA_VERSION
from llem.store.store import Store


def edit(path, change):
    """Change a document and give it a digest that fits, as someone would who knows the format."""
    data = json.loads(path.read_text())
    data.pop(DIGEST)
    change(data)
    write_json(path, data, replace=True)


def differences_or_code(path):
    """What verifying finds, or the code of the refusal."""
    try:
        return verify(Store.open(path))
    except StoreError as error:
        return error.code


def rewrite(path, pattern, replacement, count=1):
    """Change a compressed table and compress it anew, with a checksum that fits."""
    text = gzip.decompress(path.read_bytes()).decode()
    changed = re.sub(pattern, replacement, text, count=count)
    assert changed != text
    path.write_bytes(gzip.compress(changed.encode()))


def test_untouched(store):
    """A store as written verifies without a difference."""
    assert verify(store) == []


def test_two_restarts_with_token_times(tmp_path, make):
    """Two engine processes with two baselines, token times and modelled meters verify too."""
    made = Store.create(tmp_path / "out", {})
    make.fill(made, processes=2, token_times=True)
    result = made.read_result("exp-one")
    assert verify(made) == []
    assert (result.trials, result.outcome) == (10, "done")
    gpu, cpu, dram = result.domains
    assert gpu.idle_power_w.value == pytest.approx(123.5)
    assert (gpu.idle_power_w.method, gpu.idle_power_w.n, gpu.idle_power_w.processes) == ("student_t", 4, 2)
    assert result.metrics["energy_net_j"].value == pytest.approx(6000 - 1230, rel=1e-3)
    assert {cpu.kind, dram.kind} == {"modelled"}
    for name in ("ttft_s", "ttft_p50_s", "e2el_s", "e2el_p50_s"):
        one = result.metrics[name]
        assert (one.n, one.processes, one.covers) == (10, 2, "over processes"), name


def test_a_power_meter(tmp_path, make):
    """Integrated power without a gap is stored with a gap of 0.0 J, and recomputed as the same 0.0."""
    power = ("socket", Domain("node", "node", "measured", "a socket meter", method="power", period_s=0.1))
    made = Store.create(tmp_path / "out", {})
    made.write_experiment("exp-one", make.experiment_document())
    made.write_engine("exp-one", make.engine_document(cuda=False, domains=(power,)))
    t0, t1 = make.window(0)
    rows, requests = make.trace(600.0, t0, t1, meter="socket", domain="node"), make.request_rows(0, t0, t1)
    trial = make.make_trial(0, rows, requests, t0, t1, domains=(power,), health={})
    made.write_trial(trial, rows, requests)
    made.write_outcome("exp-one", make.outcome_document())
    made.write_result(recompute(made, "exp-one"))

    [reading] = made.trials("exp-one")[0].energies
    assert type(reading.budget.gap_j) is float
    assert reading.energy_j == pytest.approx(6000.0)
    assert verify(made) == []
    assert CliRunner().invoke(verify_command, [str(made.path)]).exit_code == 0


def test_result_survives_the_file(store):
    """The stored Result is the computed one, value for value."""
    assert dump(store.read_result("exp-one")) == dump(recompute(store, "exp-one"))


def test_changed_energy_is_named(store, make):
    """An energy that is not what the trace gives is named by file and path, with both values."""
    edit(store.folder("exp-one") / "trial-3.json", lambda data: data["energies"][0].update(energy_j=5000.0))
    found = {(d.file, d.path): d for d in verify(store)}
    difference = found["experiments/exp-one/trial-3.json", f"energies.nvml.{make.GPU}.energy_j"]
    assert difference.stored == 5000.0
    assert difference.recomputed == pytest.approx(6005.0, rel=1e-3)
    assert ("experiments/exp-one/result.json", "metrics.energy_j.value") in found
    assert "stored 5000.0, recomputed" in str(difference)


@pytest.mark.parametrize(("factor", "same"), [(1 + 4e-16, True), (1 + 1e-11, False)])
def test_last_digits_differ_between_machines(store, factor, same):
    """What another machine's order of adding does is no difference; anything that could be stated is."""

    def change(data):
        data["energies"][0]["energy_j"] *= factor

    edit(store.folder("exp-one") / "trial-3.json", change)
    assert (verify(store) == []) is same


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output_tokens", 511),
        ("input_tokens", 1),
        ("requests", 9),
        ("batches", 5),
        ("first_index", 1),
        ("t0_ns", 1_045_000_000_001),
        ("t1_ns", 1_055_000_000_001),
        ("peak_memory_bytes", 18_000_000_000),
        ("process", 1),
    ],
)
def test_changed_trial_fields(store, field, value):
    """Every count, the window and what the result uses show, though the digest was made to fit."""
    edit(store.folder("exp-one") / "trial-3.json", lambda data: data.update({field: value}))
    assert verify(store)


def test_changed_trace(store):
    """A changed tick within the window shows in the trial's energy."""
    rewrite(store.folder("exp-one") / "trial-0.power.csv.gz", r"(counter_j,1000\d+,)1000(\d+,)(\d)", r"\g<1>1000\g<2>9")
    assert any("trial-0.json" in d.file for d in verify(store))


def test_changed_baseline(store):
    """A changed baseline trace shows in the baseline, a changed baseline in the result."""
    rewrite(store.folder("exp-one") / "baseline-0-before.power.csv.gz", r"(counter_j,\d+,\d+,)1(\d+)", r"\g<1>2\2")
    assert any("baseline-0-before.json" in d.file for d in verify(store))


def test_changed_requests(store):
    """A changed request shows in the trial's counts; a changed time in the result's latencies."""
    path = store.folder("exp-one") / "trial-0.requests.csv.gz"
    rewrite(path, r"\n0,0,128,64,", "\n0,0,128,63,")
    assert {d.path for d in verify(store) if "trial-0" in d.file} == {"output_tokens"}


def test_changed_result(store):
    """A prettier headline in result.json is found out."""
    edit(
        store.folder("exp-one") / "result.json",
        lambda data: data["metrics"]["energy_per_output_token_j"].update(value=1.0),
    )
    assert [d.path for d in verify(store)] == ["metrics.energy_per_output_token_j.value"]


def test_whole_number_for_a_float(store):
    """`publishable: 1` for `true` is a difference: types count."""
    edit(store.folder("exp-one") / "result.json", lambda data: data["metrics"]["mfu"].update(n=6))
    assert [d.path for d in verify(store)] == ["metrics.mfu.n"]


def test_removed_metric(store):
    """A metric taken away is a difference: a result has all that there were when it was written."""
    edit(store.folder("exp-one") / "result.json", lambda data: data["metrics"].pop("mfu"))
    assert [d.path for d in verify(store)] == ["metrics.mfu"]


def _older(data):
    data.update(schema_version=SCHEMA_VERSION - 1)
    data["metrics"]["duration_s"].update(value=1.0, low=0.9)
    data["metrics"]["requests_per_s"].update(low=0.9)
    data["findings"] = []


@pytest.mark.parametrize(("since", "paths"), [(SCHEMA_VERSION - 1, ["metrics.duration_s.value"]), (SCHEMA_VERSION, [])])
def test_a_rule_that_is_newer_than_the_result_is_no_difference(store, monkeypatch, since, paths):
    """Of a result that an older version computed, facts and values count, unless a metric has a new rule since."""
    edit(store.folder("exp-one") / "result.json", _older)
    monkeypatch.setitem(METRICS, "duration_s", attrs.evolve(METRICS["duration_s"], since=since))
    assert [d.path for d in verify(store)] == paths


@pytest.mark.parametrize(
    "file",
    ["study.json", "experiments/exp-one/engine-0.json", "experiments/exp-one/trial-1.json", "environments/x.json"],
)
def test_a_document_that_nests_too_deeply_is_named(store, make, file):
    """The decoder reads it; whoever goes through it value by value ends with a message. The rest is compared."""
    make.fill(store, "exp-two")
    path = store.path / file
    if path.stem == "x":
        path = next(path.parent.glob("*.json"))
    path.write_text(path.read_text().replace("{", '{"deep": ' + "[" * 900 + "]" * 900 + ",", 1))
    edit(store.folder("exp-two") / "result.json", lambda data: data.update(error="another"))

    found = [str(one) for one in verify(store)]
    assert f"{path.relative_to(store.path)}: it nests too deeply" in found
    assert any(one.startswith("experiments/exp-two/result.json: error") for one in found)


def test_a_name_that_no_file_can_have_is_a_difference(store, make):
    """In an engine process and in a worker's log; the rest is compared."""
    make.fill(store, "exp-two")
    edit(store.folder("exp-one") / "engine-0.json", lambda data: data.update(environment="e" * 300))
    edit(store.folder("exp-two") / "result.json", lambda data: data.update(error="another"))
    with kept(store.worker_dir(0) / "events.jsonl", silent) as emit:
        told = {"t0_ns": 1, "t1_ns": 2, "duration_s": 1.0, "output_tokens_per_s": 1.0}
        emit(TrialEnded(id="i" * 300, trial=0, **told))

    told = [str(one) for one in verify(store)]
    assert any("missing: experiments/exp-one/engine-0.json names it" in one for one in told)
    assert any("missing: the log of its worker tells of it" in one for one in told)
    assert any(one.startswith("experiments/exp-two/result.json: error") for one in told)


def told_of(store, worker: int, trial: Any, utc: str, monotonic_ns: int, **but: int) -> None:
    """A worker's log has it that a trial was measured."""
    figures = {"duration_s": 1.0, "output_tokens_per_s": 1.0, "t0_ns": trial.t0_ns, "t1_ns": trial.t1_ns}
    at = Moment(monotonic_ns, utc)
    with kept(store.worker_dir(worker) / "events.jsonl", silent) as emit:
        emit(TrialEnded(id="exp-one", trial=trial.index, at=at, **{**figures, **but}))


def unlike_told(store) -> list[str]:
    """What of trials is not as the logs tell, whether in the journals or not."""
    return [one.path for one in misplaced(store) if one.file.endswith("trial-1.json")]


def test_a_trial_that_was_measured_again_is_the_last_one_told(store):
    """Also on a machine whose monotonic or wall clock is behind; by the tenth worker, after the ninth."""
    trial = store.trials("exp-one")[1]
    for worker in (2, 9):
        told_of(store, worker, trial, "2027-09-01T00:00:00+00:00", 10**9, t0_ns=5, t1_ns=6)
    assert unlike_told(store) == ["t0_ns", "t1_ns"]
    told_of(store, 10, trial, "2020-01-01T00:00:00+00:00", 7)
    assert unlike_told(store) == []


@pytest.mark.parametrize(("seconds", "expected"), [(-1, []), (1, ["t0_ns", "t1_ns"])])
def test_a_trial_that_nobody_told_of_is_later_by_the_wall_clock(store, seconds, expected):
    """A worker was killed before it told of what it had measured again, after the machine was started anew; the trial
    of before in its place is a difference.
    """
    trial = store.trials("exp-one")[1]
    at = datetime.fromisoformat(trial.started_at) + timedelta(seconds=seconds)
    told_of(store, 0, trial, at.isoformat(), 10**9, t0_ns=5, t1_ns=6)
    assert unlike_told(store) == expected


def test_removed_trial(store):
    """A trial taken away shows in the result."""
    (store.folder("exp-one") / "trial-4.json").unlink()
    assert any(d.path == "trials" for d in verify(store))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_digit_shows(store, tmp_path, data):
    """A digit changed anywhere in a raw document is a difference or a refusal, never silence."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store.path, copy)
    path = data.draw(st.sampled_from([p.relative_to(store.path) for p in store.documents()]), label="file")
    text = (copy / path).read_text()
    places = [match.start() for match in re.finditer(r"\d", text)]
    place = data.draw(st.sampled_from(places), label="place")
    other = data.draw(st.sampled_from([d for d in "123456789" if d != text[place]]), label="digit")
    (copy / path).write_text(text[:place] + other + text[place + 1 :])
    assert differences_or_code(copy) not in ([], "store_missing")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_rows_shows(store, tmp_path, data):
    """A byte changed in the compressed rows is refused by their own checksum, or leaves them the same; the journal
    finds every one.
    """
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store.path, copy)
    paths = sorted(p.relative_to(store.path) for p in store.path.rglob("*.csv.gz"))
    path = data.draw(st.sampled_from(paths), label="file")
    raw = bytearray((copy / path).read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1), label="place")
    raw[place] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    (copy / path).write_bytes(raw)
    unlike = compared(copy)
    assert unlike is not None
    assert [(one.file, one.how) for one in unlike.altered] == [(str(path), "changed")]
    if not any("damaged" in one.what for one in verify(Store.open(copy))):
        assert verify(Store.open(copy)) == []
        assert gzip.decompress(bytes(raw)) == gzip.decompress((store.path / path).read_bytes())


def test_command_says_identical(store):
    """`llem verify` counts what it recomputed and ends with 0."""
    done = CliRunner().invoke(verify_command, [str(store.path)])
    assert (done.exit_code, done.output) == (
        0,
        "25 files compared with the journals, identical\n1 experiment, 5 trials recomputed, identical\n",
    )


def test_command_lists_differences(store):
    """With a difference `llem verify` prints it and ends with 1."""
    edit(store.folder("exp-one") / "result.json", lambda data: data.update(trials=6))
    done = CliRunner().invoke(verify_command, [str(store.path)])
    assert done.exit_code == 1
    assert done.output == (
        "experiments/exp-one/result.json: changed: its checksum is not the one in journal.sha256\n"
        "25 files compared with the journals, 1 file differs\n"
        "experiments/exp-one/result.json: trials: stored 6, recomputed 5\n"
        "1 experiment, 5 trials recomputed, 1 difference\n"
    )


def test_show_one(store):
    """`llem show DIR` of a single experiment prints its headline."""
    done = CliRunner().invoke(show, [str(store.path)])
    assert done.exit_code == 0
    assert "energy per output token" in done.output
    assert "gpu · measured · n = 5" in done.output


def test_show_json(store):
    """`--json` prints the Result alone, the same as the stored file."""
    done = CliRunner().invoke(show, [str(store.path), "exp", "--json"])
    assert json.loads(done.output) == dump(store.read_result("exp-one"))


def test_show_several(store, make):
    """Several experiments are listed; `--json` is then a list; an unfinished one is computed from its trials."""
    make.fill(store, "second")
    (store.folder("second") / "result.json").unlink()
    (store.folder("second") / "outcome-0.json").unlink()
    listed = CliRunner().invoke(show, [str(store.path)]).output
    assert "exp-one" in listed
    assert "second" in listed
    assert "interrupted" in listed
    documents = json.loads(CliRunner().invoke(show, [str(store.path), "--json"]).output)
    assert [document["id"] for document in documents] == ["exp-one", "second"]
    assert CliRunner().invoke(show, [str(store.path), "sec"]).exit_code == 0


def test_show_what_is_not_there(store, tmp_path):
    """A wrong folder or a wrong id is the store's own error."""
    for arguments in ([str(tmp_path / "no")], [str(store.path), "zzz"]):
        done = CliRunner().invoke(show, arguments)
        assert isinstance(done.exception, StoreError)


def test_show_an_empty_study(tmp_path):
    """A study that has not begun says so; as JSON it is an empty list."""
    Store.create(tmp_path / "new", {})
    assert "no experiment yet" in CliRunner().invoke(show, [str(tmp_path / "new")]).output
    assert CliRunner().invoke(show, [str(tmp_path / "new"), "--json"]).output == "[]\n"
