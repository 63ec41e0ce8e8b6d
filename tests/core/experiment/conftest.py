"""Sessions of the lab's backend, ready to be taken through the procedure step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llem.experiment.procedure import let_go
from llem.experiment.session import Session
from llem.experiment.worker import open_sessions
from llem.plugins.registry import registry
from llem.protocol.events import Emit, silent
from llem.protocol.order import WorkOrder
from llem.store.store import Store


@pytest.fixture
def session(tmp_path: Path, lab, planned, monkeypatch) -> Iterator[Callable[..., Session]]:
    """A session with these settings, ready for its first step; what it opens is closed whatever happens."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is what it was afterwards
    made: list[Session] = []

    def _make(emit: Emit = silent, **settings) -> Session:
        one = planned(**{**lab, **settings})
        store = Store.create(tmp_path / f"store-{len(made)}", {"name": "test", "experiments": [one.id]})
        store.write_experiment(one.id, one.document())
        order = WorkOrder(
            str(store.path), 0, 0, (one.id,), tuple((one.id, index) for index in range(one.experiment.max_trials))
        )
        made.extend(open_sessions(order, store, registry(), emit, threading.Event(), None).values())
        return made[-1]

    yield _make
    for one in made:
        let_go(one.process)
