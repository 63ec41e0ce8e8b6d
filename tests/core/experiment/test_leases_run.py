"""Two real workers on one store: they take turns, and one that was stopped for too long writes no more."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llem.metrics.result import recompute
from llem.metrics.verify import verify
from llem.protocol.order import WorkOrder
from llem.store.store import Store

pytestmark = pytest.mark.process

TRIALS = 3
#: Nobody is silent for so long by the machine's doing.
LONG_S = 600.0


class Workers:
    """Starts workers that all want the same trials of one experiment."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, lease_s: float, process: int | None = None) -> subprocess.Popen[bytes]:
        """The next one."""
        number = len(self.started)
        turns = tuple((self.name, index) for index in range(TRIALS))
        order = WorkOrder(
            str(self.store.path), number, number if process is None else process, (self.name,), turns, lease_s=lease_s
        )
        path = self.store.worker_dir(number) / "order.json"
        order.write(path)
        command = [sys.executable, "-m", "llem", "worker", str(path)]
        with (path.parent / "log.txt").open("wb") as log:
            self.started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log))
        return self.started[-1]

    def told(self, number: int, kind: str) -> list[dict[str, Any]]:
        """Events of one kind that a worker told."""
        path = self.store.worker_dir(number) / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in events if event["event"] == kind]

    def trials(self, number: int) -> list[int]:
        """Trials that a worker began."""
        return [one["trial"] for one in self.told(number, "phase") if one["phase"] == "trial"]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Until it holds."""
        until = time.monotonic() + 120
        while not condition():
            logs = [path.read_text() for path in self.store.path.glob("workers/*/log.txt")]
            assert time.monotonic() < until, f"{what}: not in time; logs: {logs}"
            time.sleep(0.02)

    def files(self) -> dict[str, bytes]:
        """Every file of the experiment."""
        folder = self.store.folder(self.name)
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def workers(tmp_path: Path, short: dict[str, Any], planned) -> Iterator[Workers]:
    """Of an experiment whose trials take a second and more."""
    one = planned(**{**short, "trials": TRIALS, "echo": {"token_seconds": 0.1}, "meters": []})
    store = Store.create(tmp_path / "out", {"name": "leases", "experiments": [one.id]})
    store.write_experiment(one.id, one.document())
    made = Workers(store, one.id)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def check_whole(workers: Workers) -> None:
    """Every trial is there once, and the store says what it holds."""
    store = Store.open(workers.store.path)
    store.write_result(recompute(store, workers.name))
    assert store.trial_indices(workers.name) == set(range(TRIALS))
    assert store.read_result(workers.name).outcome == "done"
    assert verify(store) == []
    assert not list(store.folder(workers.name).glob(".*"))


def test_a_second_worker_waits_and_adopts(workers: Workers) -> None:
    """It says for whom it waits, measures nothing that is there, and is done."""
    first = workers.start(LONG_S)
    workers.wait(lambda: workers.trials(0), "a trial")
    first.send_signal(signal.SIGSTOP)  # or it might be done before the second has begun
    second = workers.start(LONG_S)
    workers.wait(lambda: workers.told(1, "waiting"), "the second waits")
    first.send_signal(signal.SIGCONT)
    assert "worker 0 (process" in workers.told(1, "waiting")[0]["what"]
    assert (first.wait(), second.wait()) == (0, 0)
    assert workers.trials(1) == []
    assert [one["outcome"] for one in workers.told(1, "outcome")] == ["done"]
    assert {trial.process for trial in workers.store.trials(workers.name)} == {0}
    check_whole(workers)


def test_a_second_worker_follows_a_killed_one_at_once(workers: Workers) -> None:
    """It measures what is missing, under a number of its own though it was given the same."""
    first = workers.start(LONG_S)
    workers.wait(lambda: len(workers.trials(0)) == 2, "the second trial")
    first.kill()
    first.wait()
    before = workers.files()
    assert workers.start(LONG_S, process=0).wait() == 0
    assert workers.trials(1) == [1, 2]
    after = workers.files()
    assert {name: after[name] for name in before} == before
    assert [trial.process for trial in workers.store.trials(workers.name)] == [0, 1, 1]
    check_whole(workers)


def test_a_stopped_worker_writes_nothing_after_it_lost_its_lease(workers: Workers) -> None:
    """It was silent for too long: another one measures, and when it goes on it ends by itself without a trace."""
    first = workers.start(1.0)
    workers.wait(lambda: len(workers.trials(0)) == 2, "the second trial")
    first.send_signal(signal.SIGSTOP)
    second = workers.start(1.0)
    workers.wait(lambda: workers.trials(1), "a trial of the second")
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 1
    assert second.wait() == 0
    assert workers.told(0, "left")
    assert not workers.told(0, "outcome")
    assert workers.trials(0) == [0, 1]
    assert workers.trials(1) == [1, 2]
    assert [trial.process for trial in workers.store.trials(workers.name)] == [0, 1, 1]
    check_whole(workers)


def test_a_worker_that_is_stopped_while_it_waits(workers: Workers) -> None:
    """Ends at once with no outcome: nothing of it had begun."""
    first = workers.start(LONG_S)
    workers.wait(lambda: workers.trials(0), "a trial")
    first.send_signal(signal.SIGSTOP)
    second = workers.start(LONG_S)
    workers.wait(lambda: workers.told(1, "waiting"), "the second waits")
    second.send_signal(signal.SIGTERM)
    second.wait()
    assert not workers.told(1, "outcome")
    assert workers.trials(1) == []
