"""What a worker does while the loading of an engine waits for something."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from llem.errors import ExperimentFailed
from llem.experiment.session import TOLD_AFTER_S, EngineProcess
from llem.protocol.events import Event, Phase, Warned
from llem.store.store import Store


def test_a_worker_tells_once_what_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds, and again where it is something else; the phase goes on."""
    events: list[Event] = []
    process = EngineProcess(None, None, None, None, events.append, threading.Event())  # type: ignore[arg-type]
    monkeypatch.setattr(EngineProcess, "rest", lambda *_: None)
    for why in ("a", "b"):
        for _ in range(30):
            process.wait(TOLD_AFTER_S / 10, why)
    assert events == [Warned(message="a"), Phase(phase="load"), Warned(message="b"), Phase(phase="load")]


def test_a_worker_that_is_to_stop_waits_no_more(tmp_path: Path) -> None:
    """As in every other rest."""
    stop = threading.Event()
    stop.set()
    store = Store.create(tmp_path / "out", {})
    process = EngineProcess(None, None, None, store, lambda _: None, stop)  # type: ignore[arg-type]
    with pytest.raises(ExperimentFailed, match="stopped by the user"):
        process.wait(60.0, "a server")
