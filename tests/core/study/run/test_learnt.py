"""What a study that goes on knows of its parts: how long they took before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llem.config.models import Experiment, Warmup
from llem.store.store import Store
from llem.study.plan.schedule import LOAD_S, Job
from llem.study.run.learnt import Learnt

EXPERIMENTS = {name: Experiment(backend="echo", window_s=1.0, trials=2, warmup=Warmup(seconds=2.0)) for name in "abc"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of a study in which one worker loaded for 40 s, began `a` in 10 s, and took two trials of 30 s and 34 s of it."""
    store = Store.create(tmp_path / "out", {"name": "learnt"})
    told = [
        ("started", 0, {"pid": 1}),
        ("phase", 15, {"phase": "load"}),
        ("loaded", 39, {"load_s": 24.0}),
        ("phase", 40, {"phase": "baseline before"}),
        ("phase", 46, {"phase": "warm-up", "id": "a"}),
        ("power", 50, {"watts": {}}),
        ("calibrated", 56, {"id": "a"}),
        ("phase", 57, {"phase": "trial", "id": "a"}),
        ("trial", 86, {"id": "a"}),
        ("trial", 120, {"id": "a"}),
    ]
    lines = [json.dumps({"event": kind, "at": {"monotonic_ns": at * 10**9}, **more}) for kind, at, more in told]
    (store.worker_dir(3) / "events.jsonl").write_text("\n".join([*lines, '{"event": "tri']))
    return store


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
