"""The folder: nothing overwritten, nothing half written, every refusal with what to do."""

from __future__ import annotations

import errno
import gzip
import json
import os

import attrs
import pytest

from llem.errors import LlemError, MachineError, StoreError
from llem.metrics.result import recompute
from llem.store import documents, files
from llem.store.documents import read_json
from llem.store.files import write_json
from llem.store.models import SCHEMA_VERSION
from llem.store.store import Store
from llem.store.tables import requests_bytes


def test_layout(store):
    """The files of the design are there under their names, and no other."""
    names = sorted(path.name for path in store.folder("exp-one").iterdir())
    trials = [f"trial-{i}{end}" for i in range(5) for end in (".json", ".power.csv.gz", ".requests.csv.gz")]
    baselines = [f"baseline-0-{phase}{end}" for phase in ("before", "after") for end in (".json", ".power.csv.gz")]
    rest = ["engine-0.json", "experiment.json", "outcome-0.json", "result.json"]
    assert names == sorted([*trials, *baselines, *rest])


def test_every_document_is_versioned(store):
    """Each JSON file carries schema_version."""
    assert len(store.documents()) == 13
    for path in store.documents():
        assert json.loads(path.read_text())["schema_version"] == 5, path


def test_round_trip(store, make):
    """What was written is read back equal, in order."""
    assert store.experiment_ids() == ("exp-one",)
    assert [trial.index for trial in store.trials("exp-one")] == [0, 1, 2, 3, 4]
    t0, t1 = make.window(2)
    assert store.trace("exp-one", 2) == make.trace(make.WATTS[2], t0, t1)
    assert store.requests("exp-one", 2) == make.request_rows(2, t0, t1, first=16)
    assert [b.phase for b in store.baselines("exp-one")] == ["before", "after"]
    assert store.baseline_trace("exp-one", 0, "before") == make.baseline(123.0)[1]
    assert store.engines("exp-one")[0]["effective"] == {"dtype": "bfloat16"}
    assert store.read_experiment("exp-one")["id"] == "exp-one"
    assert store.study()["name"] == "by hand"


def test_rows_that_are_alike_are_read_again(store, make):
    """Every request of a batch has the times of its tokens in common: they pack 150 times, and are no bomb."""
    t0, t1 = make.window(1)
    times = tuple(range(t0, t0 + 100_000_000, 1_000_000))
    rows = [attrs.evolve(one, token_times_ns=times) for one in make.request_rows(1, t0, t1)[:1] * 20_000]
    path = store.folder("exp-one") / "trial-1.requests.csv.gz"
    path.write_bytes(requests_bytes(rows))

    assert path.stat().st_size * 100 < 20_000 * 100 * len(f"{t0};")
    assert store.requests("exp-one", 1) == tuple(rows)


def test_no_more_rows_are_stored_than_are_read(make, monkeypatch):
    """They are refused, not written where nobody reads them."""
    t0, t1 = make.window(1)
    text = gzip.decompress(requests_bytes(make.request_rows(1, t0, t1)))
    monkeypatch.setattr(files, "LARGEST", len(text))
    assert requests_bytes(make.request_rows(1, t0, t1))
    monkeypatch.setattr(files, "LARGEST", len(text) - 1)
    with pytest.raises(StoreError, match="of rows: no more than"):
        requests_bytes(make.request_rows(1, t0, t1))


def test_trials_beyond_ten_are_in_order(store, make):
    """Trial 10 comes after trial 9, not after trial 1."""
    t0, t1 = make.window(0)
    for index in (10, 9):
        rows, requests = make.trace(600.0, t0, t1), make.request_rows(index, t0, t1)
        store.write_trial(make.make_trial(index, rows, requests, t0, t1), rows, requests)
    assert [trial.index for trial in store.trials("exp-one")] == [0, 1, 2, 3, 4, 9, 10]


def test_environment_is_stored_once(store):
    """The same facts give the same hash; other facts another."""
    host = {"cpu": None, "threads": 2, "memory_bytes": 2**30}
    first = store.write_environment({"driver": "1", "host": host})
    assert store.write_environment({"host": host, "driver": "1"}) == first
    assert store.write_environment({"driver": "2", "host": host}) != first
    assert store.read_environment(first)["driver"] == "1"


def test_create_refuses_a_folder_with_something_in_it(tmp_path):
    """A folder that holds anything is not taken; an empty one is."""
    (tmp_path / "empty").mkdir()
    Store.create(tmp_path / "empty", {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    for path in (tmp_path / "full", tmp_path / "full" / "x", tmp_path / "empty"):
        with pytest.raises(StoreError, match="is there already") as caught:
            Store.create(path, {})
        assert caught.value.code == "store_exists"
        assert "folder with `-o`" in caught.value.hint
        assert ("--resume" in caught.value.hint) is (path.name == "empty")  # a store since a moment ago


def test_nothing_is_overwritten(store, make):
    """A second writing of anything raw is refused and changes nothing."""
    trial = store.trials("exp-one")[0]
    before = {path: path.read_bytes() for path in store.folder("exp-one").iterdir()}
    base, rows = make.baseline(1.0)
    attempts = [
        lambda: store.write_experiment("exp-one", {}),
        lambda: store.write_engine("exp-one", {"process": 0}),
        lambda: store.write_outcome("exp-one", {"process": 0, "outcome": "oom"}),
        lambda: store.write_baseline("exp-one", base, rows),
        lambda: store.write_trial(trial, (), ()),
        lambda: store.write_result(store.read_result("exp-one")),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match="never overwritten"):
            attempt()
    assert {path: path.read_bytes() for path in store.folder("exp-one").iterdir()} == before
    store.write_result(store.read_result("exp-one"), replace=True)


def test_rows_of_a_trial_that_was_not_finished_are_replaced(store, make):
    """A worker that died between the rows and the trial leaves no trial, and the next one may write it."""
    folder = store.folder("exp-one")
    (folder / "trial-5.power.csv.gz").write_bytes(b"half")
    assert len(store.trials("exp-one")) == 5
    t0, t1 = make.window(5)
    rows, requests = make.trace(600.0, t0, t1), make.request_rows(5, t0, t1)
    store.write_trial(make.make_trial(5, rows, requests, t0, t1), rows, requests)
    assert store.trace("exp-one", 5) == rows


def test_open_what_is_not_there(tmp_path):
    """A missing folder and a folder that is no store are told apart."""
    with pytest.raises(StoreError, match="there is no folder") as caught:
        Store.open(tmp_path / "nowhere")
    assert caught.value.code == "store_missing"
    with pytest.raises(StoreError, match=r"holds no study\.json"):
        Store.open(tmp_path)


def test_corrupt_json_names_file_and_position(store):
    """A broken document is named with line and column."""
    path = store.path / "study.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(StoreError, match=r"study\.json: not JSON: .*line \d+ column \d+") as caught:
        Store.open(store.path)
    assert caught.value.code == "store_corrupt"


@pytest.mark.parametrize(
    "content", [b"[]", b"\xff\xfe", b'{"a": 1}', b'{"schema_version": "1"}', b'{"schema_version": NaN}']
)
def test_documents_that_are_none(store, content):
    """Whatever else a document may be, it is an error with a code and never a traceback."""
    (store.path / "study.json").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        Store.open(store.path)
    assert caught.value.code == "store_corrupt"


def test_damaged_rows_are_named(store):
    """A cut file, a wrong cell and a missing file are each named; a wrong cell with its line."""
    path = store.folder("exp-one") / "trial-0.power.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(StoreError, match=r"trial-0\.power\.csv\.gz is damaged"):
        store.trace("exp-one", 0)
    lines = gzip.decompress(whole).decode().splitlines()
    broken = {"a,b": "2 columns", "m,d,counter_j,1,x,2.0": "invalid literal", "m,d,volts,1,2,3": "volts"}
    for bad, message in broken.items():
        path.write_bytes(gzip.compress("\n".join([*lines[:3], bad, *lines[4:], ""]).encode()))
        with pytest.raises(StoreError, match=f"line 4: .*{message}"):
            store.trace("exp-one", 0)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.trace("exp-one", 0)


def test_too_new_and_too_old_are_two_errors(store):
    """A newer file says upgrade; an older one without a step says which version reads it."""
    path = store.path / "study.json"
    path.write_text('{"schema_version": 6}')
    with pytest.raises(StoreError, match="newer llem") as caught:
        Store.open(store.path)
    assert (caught.value.code, caught.value.hint) == ("store_too_new", "upgrade llem-core")
    path.write_text('{"schema_version": 1}')
    with pytest.raises(StoreError, match="too old to read") as caught:
        Store.open(store.path)
    assert caught.value.code == "store_too_old"


def test_upgrades_go_step_by_step(monkeypatch):
    """Each step is applied in turn, and the version is that of the last."""
    steps = {v: (lambda data, v=v: {**data, "seen": [*data.get("seen", []), v]}) for v in (1, 2)}
    monkeypatch.setattr(documents, "STEPS", steps)
    monkeypatch.setattr(documents, "SCHEMA_VERSION", 3)
    assert documents.upgrade({"schema_version": 1}) == {"schema_version": 3, "seen": [1, 2]}
    with pytest.raises(StoreError, match="reads from 1"):
        documents.upgrade({"schema_version": 0})


@pytest.mark.parametrize("failing", ["write", "fsync", "link"])
def test_full_disk_leaves_nothing(store, monkeypatch, failing):
    """A disk that fills up at any moment of writing is one clear error, and leaves no part of a file."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(store.path.rglob("*"))
    if failing == "write":
        monkeypatch.setattr(files.os, "fdopen", full)
    elif failing == "fsync":
        monkeypatch.setattr(files.os, "fsync", full)
    else:
        monkeypatch.setattr(files.os, "link", full)
        monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(MachineError, match="no space left") as caught:
        store.write_outcome("exp-one", {"process": 7})
    monkeypatch.undo()
    assert (caught.value.code, caught.value.exit_code) == ("disk_full", 3)
    assert sorted(store.path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_may_not_be_written(tmp_path):
    """No permission is the machine's error and names the folder."""
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(MachineError, match="no permission"):
        Store.create(tmp_path / "locked" / "out", {})


def test_permission_by_errno(store, monkeypatch):
    """A refusal by the operating system says what to do."""

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", refused)
    with pytest.raises(MachineError, match="no permission") as caught:
        store.write_outcome("exp-one", {"process": 7})
    assert "-o" in caught.value.hint


def test_file_systems_without_hard_links(store, monkeypatch):
    """Where names cannot be linked the file is still written whole, and still not overwritten."""

    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(files.os, "link", unsupported)
    store.write_outcome("exp-one", {"process": 7, "outcome": "done"})
    with pytest.raises(StoreError, match="never overwritten"):
        store.write_outcome("exp-one", {"process": 7, "outcome": "done"})


def test_not_a_number_is_refused(store):
    """NaN cannot enter the store: what was not measured is null."""
    with pytest.raises(StoreError, match="null, with a reason"):
        store.write_outcome("exp-one", {"process": 7, "value": float("nan")})


def test_find_by_prefix(store, make):
    """The beginning of an id is enough where it is one; else the error says which there are."""
    store.write_experiment("exp-two", make.experiment_document("exp-two"))
    assert store.find("exp-o") == "exp-one"
    with pytest.raises(StoreError, match="begins 2 ids"):
        store.find("exp")
    with pytest.raises(StoreError, match="no experiment 'exp-ona'") as caught:
        store.find("exp-ona")
    assert "exp-one" in caught.value.hint


def test_an_id_that_begins_another(store, make):
    """A whole id is found although it begins another one."""
    store.write_experiment("exp-one-more", make.experiment_document("exp-one-more"))
    assert store.find("exp-one") == "exp-one"


def test_unfinished_experiment_has_no_result(store, make):
    """Before an experiment has ended there is no stored result, which is not an error."""
    store.write_experiment("exp-two", make.experiment_document("exp-two"))
    assert store.read_result("exp-two") is None


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("study.json", {"points": {"a": {"number": 1}}}, "`points.a.values` is missing"),
        ("study.json", {"experiments": 3}, "`experiments` must be a list, got the number 3"),
        ("experiments/exp-one/experiment.json", {"model": {}}, "`model.weights` is missing"),
        ("experiments/exp-one/experiment.json", {"config": None}, "`config` must be a section, got null"),
        ("experiments/exp-one/engine-0.json", {"process": "0"}, "`process` must be an integer, got the text '0'"),
        ("experiments/exp-one/engine-0.json", {"findings": [{"code": "x"}]}, "`findings[0].severity` is missing"),
        ("experiments/exp-one/outcome-0.json", {"outcome": None}, "`outcome` must be text, got null"),
    ],
)
def test_a_document_without_what_its_readers_need_is_damaged(store, file, change, says):
    """The message names the file and the key, whoever reads it."""
    path = store.path / file
    write_json(path, {**read_json(path), **change}, replace=True)
    with pytest.raises(StoreError) as caught:
        recompute(Store.open(store.path), "exp-one")

    assert (caught.value.message, caught.value.code) == (f"{path}: {says}", "store_corrupt")
    assert caught.value.hint == "restore the file, or measure the experiment again"


def test_worker_folder(store):
    """A worker's folder is made once and found again."""
    assert store.worker_dir(3) == store.worker_dir(3) == store.path / "workers" / "3"
    assert store.worker_dir(3).is_dir()


def test_errors_are_ours(store):
    """A missing document is an error with a code, not a traceback."""
    with pytest.raises(LlemError):
        store.read_environment("nope")


@pytest.mark.parametrize("gpus", ["x", 1.5, ["x"]])
def test_an_environment_with_gpus_that_are_none_is_told(tmp_path, gpus):
    """The card of a data set reads their names."""
    path = tmp_path / "environments" / "a.json"
    host = {"cpu": None, "threads": 1, "memory_bytes": 1}
    write_json(path, {"schema_version": SCHEMA_VERSION, "host": host, "gpus": gpus})
    write_json(tmp_path / "study.json", {"schema_version": SCHEMA_VERSION})
    with pytest.raises(StoreError, match="gpus"):
        Store.open(tmp_path).read_environment("a")


@pytest.mark.parametrize(
    ("error", "raised", "code", "told"),
    [
        (MemoryError(), MachineError, 3, "end other programs, or use a machine with more memory"),
        (OverflowError("large"), StoreError, 2, "restore the file, or measure the experiment again"),
        (TypeError("a bug"), StoreError, 2, "it is a bug of llem or of a plugin: report it"),
    ],
)
def test_who_is_to_blame_where_nothing_can_be_computed(tmp_path, error, raised, code, told):
    """Too little memory is no damage; what may be a bug says so."""
    with pytest.raises(raised) as caught, files.computed_from(tmp_path / "x"):
        raise error
    assert (caught.value.exit_code, str(tmp_path / "x") in caught.value.message) == (code, True)
    assert caught.value.hint.endswith(told)
