"""What processes say that they write: whatever is changed afterwards is found, and whatever ends a process is not."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llem.cli.verify import verify as verify_command
from llem.errors import MachineError, StoreError
from llem.metrics.verify import verify
from llem.store import journal as journals
from llem.store.files import write_json
from llem.store.journal import JOURNALED, Compared, compared, is_journaled
from llem.store.manifest import JOURNAL, Altered, sha256_of
from llem.store.store import Store
from llem.study.run.folder import _owned as owned


def unlike(folder: Path) -> list[tuple[str, str]]:
    """Which files are not as their journals say, and how."""
    found = compared(folder)
    assert found is not None
    return [(one.file, one.how) for one in found.altered]


def without_journals(store: Store) -> None:
    for path in (store.path / JOURNAL, store.path / "workers" / "0" / JOURNAL):
        path.unlink()


@pytest.fixture
def store(tmp_path: Path, make: Any) -> Store:
    """One experiment, whose trials a worker wrote."""
    made = Store.create(tmp_path / "out", {"name": "one"})
    made.worker_dir(0)
    make.fill(Store.open(made.path, 0), per_process=2)
    return made


def test_each_process_has_its_own(store: Store) -> None:
    """A line a file, as `sha256sum -c` reads it."""
    for path in (store.path / JOURNAL, store.path / "workers" / "0" / JOURNAL):
        for line in path.read_text().splitlines():
            named, name = line.split("  ")
            assert hashlib.sha256((store.path / name).read_bytes()).hexdigest() == named
    assert compared(store.path) == Compared((), 15, ())


def test_every_file_is_held_to_it(store: Store) -> None:
    """Changed, removed, exchanged for a link or a folder, and added: each by its name."""
    folder = store.folder("exp-one")
    (folder / "trial-0.json").write_text("{}")
    (folder / "trial-1.requests.csv.gz").unlink()
    (folder / "outcome-0.json").unlink()
    (folder / "outcome-0.json").symlink_to("trial-1.json")
    (folder / "engine-0.json").unlink()
    (folder / "engine-0.json").mkdir()
    (folder / "trial-7.json").write_text("{}")
    (folder / "notes.txt").write_text("of no concern")

    assert unlike(store.path) == [
        ("experiments/exp-one/engine-0.json", "missing"),
        ("experiments/exp-one/outcome-0.json", "a link"),
        ("experiments/exp-one/trial-0.json", "changed"),
        ("experiments/exp-one/trial-1.requests.csv.gz", "missing"),
        ("experiments/exp-one/trial-7.json", "added"),
    ]


def test_a_file_that_is_written_again_has_a_line_again(store: Store) -> None:
    """The last one counts; that a result was removed is said too."""
    store.write_study({"name": "two"})
    store.remove_result("exp-one")
    store.remove_result("exp-one")

    assert unlike(store.path) == []
    assert (store.path / JOURNAL).read_text().count("study.json") == 2


@pytest.mark.parametrize("written", [False, True])
def test_a_process_that_is_killed_leaves_no_difference(store: Store, written: bool) -> None:
    """Its last line has no end: the file is as it was, or as the line says; any other content is a difference."""
    study, journal = store.path / "study.json", store.path / JOURNAL
    before = study.read_bytes()
    store.write_study({"name": "two"})
    after = study.read_bytes()
    journal.write_text(journal.read_text().removesuffix("\n"))
    study.write_bytes(after if written else before)
    assert unlike(store.path) == []

    study.write_bytes(before + b"\n")
    assert unlike(store.path) == [("study.json", "changed")]

    study.write_bytes(after if written else before)
    store.write_environment({"host": {}})  # the next process ends the line, or takes it back
    assert unlike(store.path) == []
    assert journal.read_text().count("study.json") == 1 + written


def test_what_could_not_be_written_is_not_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full, or a file of the name is there."""
    before = (store.path / JOURNAL).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "no space")

    with pytest.raises(StoreError, match="never overwritten"):
        store.journal.write(store.path / "study.json", b"another")
    monkeypatch.setattr("llem.store.files.os.replace", full)
    with pytest.raises(MachineError):
        store.write_study({"name": "two"})

    assert (store.path / JOURNAL).read_bytes() == before
    assert unlike(store.path) == []


def test_threads_take_turns(store: Store) -> None:
    """No line is within another."""

    def write(number: int) -> None:
        for _ in range(5):
            store.write_environment({"host": number, "again": os.urandom(4).hex()})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert compared(store.path) == Compared((), 35, ())


def test_a_log_is_held_to_what_was_taken_up(store: Store) -> None:
    """What follows is of a run that was killed or goes on, and begins as each run does; what was taken up stays."""
    log, began = store.path / "events.jsonl", '{"event": "study", "at": 1}\n'
    log.write_text(f"{began}two\n")
    assert compared(store.path).open_logs == ("events.jsonl",)

    store.journal.seal_logs(workers=True)
    assert compared(store.path) == Compared((), 16, ())

    again = began.replace("1", "2")
    log.write_text(f"{began}two\n{again}four\n")
    assert compared(store.path) == Compared((), 16, ("events.jsonl",))

    for content in (began, f"{began}twx\n", f"zero\n{began}two\n", f"{began}two\ntwo\n"):
        log.write_text(content)
        assert unlike(store.path) == [("events.jsonl", "changed")]


def test_a_run_that_is_there_twice_is_no_other_run(store: Store) -> None:
    """Whoever copies the last line, which alone was taken up, adds nothing that a run tells."""
    log, began = store.path / "events.jsonl", '{"event": "study", "at": 1}\n'
    log.write_text(began)
    store.journal.seal_logs(workers=True)
    log.write_text(began * 2)
    assert unlike(store.path) == [("events.jsonl", "changed")]


def test_a_log_that_is_too_large_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what anybody may have appended."""
    log = store.path / "events.jsonl"
    log.write_text('{"event": "study", "at": 1}\n' * 10_000)  # more than there is in the journal
    store.journal.seal_logs(workers=True)
    monkeypatch.setattr("llem.store.journal.LARGEST", 100_000)
    assert unlike(store.path) == [("events.jsonl", "changed")]


def test_a_log_that_comes_after_the_end_is_added(store: Store) -> None:
    """The log of a worker that no journal names: the run has ended, and took up those of all its workers."""
    (store.path / "events.jsonl").write_text('{"event": "study", "at": 1}\n')
    store.journal.seal_logs(workers=True)
    (store.path / "workers" / "0" / "events.jsonl").write_text("one\n")
    assert compared(store.path).open_logs == ()
    assert unlike(store.path) == [("workers/0/events.jsonl", "added")]


def test_a_log_of_a_worker_ends_with_the_worker(store: Store) -> None:
    """Nothing comes after what was taken up when no worker was left; of one that may live, nothing is taken up."""
    log = store.path / "workers" / "0" / "events.jsonl"
    log.write_text("one\n")
    store.journal.seal_logs(workers=False)
    log.write_text("one\ntwo\n")
    assert compared(store.path) == Compared((), 15, ("workers/0/events.jsonl",))

    store.journal.seal_logs(workers=True)
    assert compared(store.path) == Compared((), 16, ())
    log.write_text('one\ntwo\n{"event": "study"}\n')
    assert unlike(store.path) == [("workers/0/events.jsonl", "changed")]


def test_a_log_may_be_empty(store: Store) -> None:
    """The worker was killed before it said anything."""
    log = store.path / "workers" / "0" / "events.jsonl"
    log.touch()
    store.journal.seal_logs(workers=True)
    assert compared(store.path) == Compared((), 16, ())

    log.write_text("one\n")
    assert unlike(store.path) == [("workers/0/events.jsonl", "changed")]


def test_a_journal_is_missed_and_has_nothing_but_lines(store: Store) -> None:
    """One cannot be taken away, nor be made of something else."""
    journal, worker = store.path / JOURNAL, store.path / "workers" / "0" / JOURNAL
    content = journal.read_text()
    for wrong in ("../x", "a line"):
        journal.write_text(content + f"{'0' * 64}  {wrong}\n" if wrong == "../x" else f"{wrong}\n")
        assert (JOURNAL, "changed") in unlike(store.path)
    journal.unlink()
    assert (JOURNAL, "missing") in unlike(store.path)
    journal.write_text(content)
    worker.unlink()
    assert ("experiments/exp-one/trial-0.json", "added") in unlike(store.path)


def test_a_store_of_an_older_llem_has_none(store: Store) -> None:
    """Where it is gone on with, the journal begins with what is there, but for what only looks like a trial."""
    of_an_older_llem(store)
    trial = store.folder("exp-one") / "trial-1.json"
    trial.with_name("trial-01.json").write_bytes(trial.read_bytes())
    assert not is_journaled(store.path)
    assert compared(store.path) is None

    store.write_study({"name": "two"})
    assert compared(store.path) == Compared((Altered("experiments/exp-one/trial-01.json", "added", JOURNAL),), 15, ())
    assert is_journaled(store.path)


def of_an_older_llem(store: Store) -> None:
    """The store without its journals, and without a word of them."""
    without_journals(store)
    study = {key: value for key, value in store.study().items() if key != JOURNALED}
    write_json(store.path / "study.json", study, replace=True)


@pytest.mark.process
def test_a_kill_while_a_journal_is_begun_leaves_none(store: Store) -> None:
    """Who goes on with the store of an older llem then begins the journal again, with all that is there."""
    of_an_older_llem(store)
    if (child := os.fork()) == 0:
        hashed = itertools.count(1)
        journals._sha256 = lambda path: sha256_of(path) if next(hashed) < 5 else os._exit(9)
        try:
            store.write_study({"name": "killed"})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert compared(store.path) is None

    store.write_study({"name": "two"})
    assert compared(store.path) == Compared((), 15, ())


def test_a_full_disk_while_a_journal_is_begun_leaves_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor half of one."""
    of_an_older_llem(store)

    def full(*_: Any) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("llem.store.files.os.fsync", full)
    with pytest.raises(MachineError):
        store.write_study({"name": "two"})
    assert compared(store.path) is None
    assert [path.name for path in store.path.glob(".journal*")] == []


def test_journals_that_were_removed_are_not_written_anew(store: Store) -> None:
    """Whoever goes on with the store says nothing of what others wrote."""
    without_journals(store)
    found = CliRunner().invoke(verify_command, [str(store.path)])
    assert found.exit_code == 1
    assert f"{JOURNAL}: missing: study.json names it" in found.output

    store.write_study({"name": "two"})
    assert ("experiments/exp-one/trial-0.json", "added") in unlike(store.path)
    assert ("study.json", "added") not in unlike(store.path)


def test_a_document_is_read_in_its_place_alone(store: Store, make: Any) -> None:
    """Whoever reads one that was copied or exchanged gets no number of it."""
    make.fill(store, "exp-two", power=1.1, per_process=2)
    one, other = store.folder("exp-one"), store.folder("exp-two")
    one.rename(store.path / "aside")
    other.rename(one)
    (store.path / "aside").rename(other)
    for read in (store.read_experiment, store.trials, store.read_result):
        with pytest.raises(StoreError, match="lies in the place of 'exp-one'"):
            read("exp-one")
    assert {one.file for one in verify(store)} >= {
        "experiments/exp-one/result.json",
        "experiments/exp-two/trial-0.json",
    }


@pytest.mark.parametrize("text", ["", "soon", "2026-12-01T08:52:50+40:00"])
def test_a_trial_began_at_a_time(store: Store, text: str) -> None:
    """Trials of two processes are ordered by it."""
    path = store.folder("exp-one") / "trial-0.json"
    path.write_text(path.read_text().replace("2026-11-24T10:00:00Z", text))
    with pytest.raises(StoreError, match="not a trial"):
        store.trials("exp-one")


@pytest.mark.parametrize("name", ["trial-0.json", "engine-0.json", "outcome-0.json", "baseline-0-before.json"])
def test_a_number_in_a_name_is_what_the_document_says(store: Store, name: str) -> None:
    """A copy under another number is no second trial, and no second process."""
    path = store.folder("exp-one") / name
    path.with_name(name.replace("0", "5")).write_bytes(path.read_bytes())
    read = {"trial": store.trials, "engine": store.engines, "outcome": store.outcomes, "baseline": store.baselines}
    with pytest.raises(StoreError, match="lies in the place of 5"):
        read[name.split("-")[0]]("exp-one")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to(path.parents[0] / "foreign")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("there", [_pipe, _link])
@pytest.mark.parametrize("worker", [None, 0])
def test_a_journal_is_a_file_of_this_store(store: Store, worker: int | None, there: Callable[[Path], None]) -> None:
    """What a link leads to is not written, nor cut; a pipe keeps nobody waiting. What to do is told."""
    folder = store.path if worker is None else store.path / "workers" / str(worker)
    foreign, content = folder / "foreign", b"of somebody else\nwithout an end"
    foreign.write_bytes(content)
    (folder / JOURNAL).unlink()
    there(folder / JOURNAL)
    with pytest.raises(StoreError, match="is no regular file") as caught:
        Store.open(store.path, worker).journal.write(store.path / "study.json", b"{}", replace=True)

    assert str(folder / JOURNAL) in caught.value.message
    assert "put that file back, or remove what is there" in caught.value.hint
    assert foreign.read_bytes() == content
    assert store.study()["name"] == "one"


def test_a_line_that_names_what_no_file_can_be_named_is_removed(store: Store) -> None:
    """Somebody wrote it: no name is so long."""
    journal = store.path / JOURNAL
    before = journal.read_text()
    with journal.open("a") as file:
        file.write(f"{'a' * 64}  {'n' * 300}")
    store.journal.write(store.path / "study.json", b"{}", replace=True)
    assert journal.read_text().startswith(before)
    assert "nnn" not in journal.read_text()


@pytest.mark.parametrize("name", [".owner", ".workers"])
def test_a_lock_of_a_store_is_no_link(store: Store, name: str) -> None:
    """What it leads to is neither made nor locked."""
    (store.path / name).unlink(missing_ok=True)
    (store.path / name).symlink_to("foreign")
    with pytest.raises(MachineError, match="is a link") as caught, contextlib.ExitStack() as held:
        held.enter_context(store.attended() if name == ".workers" else owned(store))
    assert str(store.path / name) in caught.value.message
    assert not (store.path / "foreign").exists()
