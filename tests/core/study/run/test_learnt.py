"""What a study that goes on knows of its parts: how long they took before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from llem.config.models import Experiment, Warmup
from llem.protocol.events import Calibrated, Event, Loaded, Moment, Phase, Power, Started, TrialEnded
from llem.protocol.lines import to_json
from llem.store.store import Store
from llem.study.plan.schedule import LOAD_S, Job
from llem.study.run.learnt import Learnt

EXPERIMENTS = {name: Experiment(backend="echo", window_s=1.0, trials=2, warmup=Warmup(seconds=2.0)) for name in "abc"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of a study in which one worker loaded for 40 s, began `a` in 10 s, and took two trials of 30 s and 34 s of it."""
    store = Store.create(tmp_path / "out", {"name": "learnt"})
    write_log(store, 3, WHOLE)
    return store


def trial(second: int, index: int) -> TrialEnded:
    """One of `a` that was stored then."""
    window = {"t0_ns": 0, "t1_ns": 1, "duration_s": 1.0, "output_tokens_per_s": 1.0}
    return TrialEnded(at=moment(second), id="a", trial=index, **window)


def moment(second: int) -> Moment:
    return Moment(second * 10**9, "2026-01-01T00:00:00.000000+00:00")


WHOLE = [
    Started(at=moment(0), pid=1),
    Phase(at=moment(15), phase="load"),
    Loaded(at=moment(39), load_s=24.0),
    Phase(at=moment(40), phase="baseline before"),
    Phase(at=moment(46), phase="warm-up", id="a"),
    Power(at=moment(50), watts={}),
    Calibrated(at=moment(56), id="a", trial_s=1.0, settle_s=0.0, after_s=0.0),
    Phase(at=moment(57), phase="trial", id="a"),
    trial(86, 0),
    trial(120, 1),
]


def write_log(store: Store, worker: int, events: list[Event]) -> Path:
    """Of a worker that was killed within a line."""
    path = store.worker_dir(worker) / "events.jsonl"
    path.write_text("".join(map(to_json, events)) + '{"event": "tri')
    return path


def _changed(old: str, new: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "damage",
    [
        _pipe,
        _folder,
        _changed('"id": "a"', '"id": []'),
        _changed("120000000000", "1" * 401),
        _changed('"phase": "trial"', '"phase": 7'),
        _changed('"at": {', '"at": [{'),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"a"', b'"\xff"')),
    ],
)
def test_a_log_that_cannot_be_read_teaches_nothing(store: Store, damage: Callable[[Path], object]) -> None:
    """And keeps nothing of the others."""
    known = Learnt.of(store)
    later = [attrs.evolve(event, at=moment(3 * event.at.monotonic_ns // 10**9)) for event in WHOLE[:-1]]
    damage(write_log(store, 4, [*later, trial(120, 1)]))
    assert Learnt.of(store) == known


def test_what_was_measured_takes_as_long_again(store: Store) -> None:
    """Its trials and its warm-up by itself; a load as others of the study, where its own is not known."""
    jobs = [Job(0, 0, ("a",), (("a", 0), ("a", 1))), Job(1, 0, ("b",), (("b", 0),))]
    known, other = Learnt.of(store).plans(jobs, EXPERIMENTS)
    assert known.load_s == other.load_s == 40.0
    assert (known.experiments["a"].trial_s, known.experiments["a"].warm_up_s) == (32.0, 10.0)
    assert (other.experiments["b"].trial_s, other.experiments["b"].warm_up_s) == (1.0, 2.0)


def test_a_new_study_has_its_plan_and_a_guess(tmp_path: Path) -> None:
    """There is nothing to learn from."""
    store = Store.create(tmp_path / "out", {"name": "learnt"})
    [plan] = Learnt.of(store).plans([Job(0, 0, ("c",), (("c", 0),))], EXPERIMENTS)
    assert plan.load_s == LOAD_S
    assert plan.experiments["c"].trial_s == 1.0
