"""What of a store is not in its place, and what documents and logs tell of that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from llem.metrics.placed import misplaced
from llem.protocol.events import Event, Moment, TrialEnded, silent
from llem.protocol.lines import kept
from llem.protocol.study_events import ResultComputed, StudyBegan
from llem.store.manifest import JOURNAL
from llem.store.store import Store

BEGAN = StudyBegan(experiments=1, done=0, processes=1, parallel=1, gap_s=0.0, points={}, jobs=())
COMPUTED = ResultComputed(id="exp-one", outcome="done", valid=True, seconds=1.0)


def told(store: Store) -> list[str]:
    return [str(one) for one in misplaced(store)]


def log(path: Path, *events: Event) -> None:
    with kept(path, silent) as emit:
        for event in events:
            emit(event)


@pytest.mark.parametrize(
    ("file", "by"),
    [
        ("engine-0.json", "trial-0.json"),
        ("trial-1.power.csv.gz", "trial-1.json"),
        ("trial-1.requests.csv.gz", "trial-1.json"),
        ("baseline-0-before.power.csv.gz", "baseline-0-before.json"),
    ],
)
def test_what_a_document_names_is_there(store: Store, file: str, by: str) -> None:
    """The engine process of a trial, and the tables of a trial and of a baseline."""
    (store.folder("exp-one") / file).unlink()
    what = f"experiments/exp-one/{file}: missing: experiments/exp-one/{by} names it"
    assert [one.partition(". ")[0] for one in told(store)][:1] == [what]


def test_an_experiment_without_its_document_is_told(store: Store) -> None:
    """Where there is something of it; what is hidden is none of it."""
    folder = store.folder("exp-two")
    folder.mkdir()
    (folder / ".lease-0").mkdir()
    assert told(store) == []
    (folder / "trial-0.json").touch()
    assert told(store) == ["experiments/exp-two: experiment.json is missing"]


@pytest.mark.parametrize("name", [".owner", ".workers"])
def test_a_lock_is_a_regular_file(store: Store, name: str) -> None:
    """Neither a folder nor a link; it may be absent."""
    (store.path / name).unlink(missing_ok=True)
    assert told(store) == []
    (store.path / name).mkdir()
    assert told(store) == [f"{name}: no regular file, as locks are. Remove it"]
    (store.path / name).rmdir()
    (store.path / name).symlink_to("nowhere")
    assert told(store) == [f"{name}: no regular file, as locks are. Remove it"]


@pytest.mark.parametrize(
    ("events", "missing"), [((BEGAN, COMPUTED), True), ((BEGAN, COMPUTED, BEGAN), False), ((BEGAN,), False)]
)
def test_results_of_the_last_run_are_there(store: Store, events: tuple[Event, ...], missing: bool) -> None:
    """In a store without journals, which tell what was removed; a study that went on computes results again."""
    log(store.path / "events.jsonl", *events)
    (store.folder("exp-one") / "result.json").unlink()
    assert told(store) == []
    (store.path / JOURNAL).unlink()
    what = "experiments/exp-one/result.json: missing: events.jsonl tells that it was computed"
    assert told(store) == ([what] if missing else [])


@pytest.mark.parametrize(("hours", "unlike"), [(-1, False), (1, True)], ids=["before", "after"])
def test_a_trial_is_the_one_that_was_told_of_last(store: Store, hours: int, unlike: bool) -> None:
    """One that was removed and measured again is a later one than the log of its first worker tells of."""
    trial = next(one for one in store.trials("exp-one") if one.index == 0)
    shift = hours * 3600 * 10**9 // 4  # the clock of the fixture has not run for an hour
    at = Moment(trial.t1_ns + shift, f"2026-11-24T{10 + hours:02}:00:00.000000Z")
    same = {"id": "exp-one", "trial": 0, "duration_s": 1.0, "output_tokens_per_s": 1.0}
    again = TrialEnded(
        t0_ns=trial.t0_ns, t1_ns=trial.t1_ns, at=Moment(trial.t1_ns + 1, "2026-11-24T10:00:30.000000Z"), **same
    )
    other = TrialEnded(t0_ns=trial.t0_ns + shift, t1_ns=trial.t1_ns + shift, at=at, **same)
    first, second = sorted((again, other), key=lambda event: event.at.utc)
    log(store.worker_dir(0) / "events.jsonl", first)
    log(store.worker_dir(1) / "events.jsonl", second)
    assert [one.partition(": stored")[0] for one in told(store)] == (
        ["experiments/exp-one/trial-0.json: t0_ns", "experiments/exp-one/trial-0.json: t1_ns"] if unlike else []
    )
