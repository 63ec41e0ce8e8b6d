"""Going on where trials were not measured: told before anything runs, and nothing is said where nothing moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llem
from llem.config.load import Layer, resolve
from llem.metrics.result import place_of
from llem.plugins.registry import registry
from llem.protocol.events import Event
from llem.store.files import write_json
from llem.store.store import Store
from llem.study.run.gpus import moved_boards
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

pytestmark = pytest.mark.process


def boards(monkeypatch: pytest.MonkeyPatch, *letters: str) -> None:
    """This machine has these GPUs."""
    fake = FakeNvml(FakeClock(), [FakeGpu(Load([(1.0, 100.0)]), uuid=f"GPU-{letter}") for letter in letters])
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def experiment(**settings):
    """An experiment on the echo backend."""
    return resolve([Layer("test", {"backend": "echo", **settings})], registry()).experiment


@pytest.fixture
def study(lab) -> dict:
    """Two experiments, two trials each, on the processor."""
    return {"base": {**lab, "window_s": 0.1}, "axes": {"load.batch_size": [1, 2]}, "trials": 2}


@pytest.fixture
def store(study, tmp_path: Path) -> Store:
    """Both measured."""
    llem.run_study(study, tmp_path / "out", launcher="inline")
    return Store.open(tmp_path / "out")


def change(path: Path, **values) -> None:
    """Store a document otherwise than it was."""
    document = {**json.loads(path.read_text()), **values}
    document.pop("digest", None)
    write_json(path, document, replace=True)


def on_gpus(store: Store, *uuids: str) -> None:
    """As if all trials had been measured on these GPUs."""
    device = {"device": "cuda", "gpus": list(uuids), "names": ["NVIDIA H200"] * len(uuids)}
    for path in store.path.glob("experiments/*/engine-0.json"):
        change(path, device=device)


def told(store: Store, *, spread: bool = False, **settings) -> list[str]:
    """What is warned of when every experiment of the store goes on."""
    going_on = dict.fromkeys(store.experiment_ids(), experiment(**settings))
    places = {name: {place_of(one) for one in store.engines(name)} for name in going_on}
    return list(moved_boards(store, going_on, places, spread=spread))


def test_another_gpu_is_told_once_for_all(store, monkeypatch) -> None:
    """Both boards and how many experiments it is about."""
    on_gpus(store, "GPU-A")
    boards(monkeypatch, "B")
    [message] = told(store, device="cuda")

    assert message.startswith(
        "2 experiments go on elsewhere: trials were measured on GPU-A (NVIDIA H200), and here is GPU-B; "
    )
    assert "several_boards" in message


def test_the_same_gpu_is_not_told(store, monkeypatch) -> None:
    """Also where it is one of several that workers take as they are free; one alone takes the first."""
    on_gpus(store, "GPU-B")
    boards(monkeypatch, "B")
    assert told(store, device="cuda") == []
    boards(monkeypatch, "A", "B")
    assert told(store, device="cuda", spread=True) == []
    assert told(store, device="cuda", gpus=["GPU-B"]) == []
    [message] = told(store, device="cuda")
    assert "and here is GPU-A;" in message


def test_no_gpu_where_there_was_one(store, monkeypatch) -> None:
    """On a machine without one an experiment that takes any device runs on the processor."""
    on_gpus(store, "GPU-A")
    assert ["here is no GPU" in message for message in told(store, device="cpu")] == [True]
    boards(monkeypatch)
    assert told(store, device="cuda") == []  # it cannot run here at all, which is told in another place


def test_a_gpu_where_there_was_none(store, monkeypatch) -> None:
    """What ran on the processor would now run on a GPU."""
    boards(monkeypatch, "A")
    [message] = told(store, device="auto")
    assert "without a GPU, and here is GPU-A" in message


def test_another_processor_is_told(store) -> None:
    """Processor and memory tell machines apart; software and some bytes of memory do not."""
    assert told(store, device="cpu") == []
    [path] = store.path.glob("environments/*.json")
    host = json.loads(path.read_text())["host"]
    change(path, host={**host, "kernel": "another", "memory_bytes": host["memory_bytes"] + 1000})
    assert told(store, device="cpu") == []
    change(path, host={**host, "cpu": "Old Processor", "threads": 3, "memory_bytes": 8 * 2**30})
    [message] = told(store, device="cpu")
    assert "were measured on Old Processor with 3 threads and 8 GiB, and here is " in message


def test_it_is_told_before_anything_runs(study, store) -> None:
    """With further trials asked for; and with nothing to measure nothing is said."""
    [path] = store.path.glob("environments/*.json")
    host = json.loads(path.read_text())["host"]
    change(path, host={**host, "cpu": "Old Processor"})
    events: list[Event] = []
    llem.run_study(study, store.path, launcher="inline", resume=True, on_event=events.append)
    assert [event.kind for event in events] == ["study"]
    llem.run_study({**study, "trials": 3}, store.path, launcher="inline", resume=True, on_event=events.append)

    assert [event.kind for event in events[1:4]] == ["study", "warning", "worker"]
    assert "2 experiments go on elsewhere" in events[2].message


def test_an_engine_that_measured_nothing_is_not_told(study, store, monkeypatch) -> None:
    """It was loaded elsewhere and failed: the trials are all of the board that is here."""
    for path in store.path.glob("experiments/*/engine-0.json"):
        path.with_name("engine-1.json").write_bytes(path.read_bytes())
        device = {"device": "cuda", "gpus": ["GPU-C"], "names": ["NVIDIA H200"]}
        change(path.with_name("engine-1.json"), process=1, device=device)
    events: list[Event] = []
    llem.run_study({**study, "trials": 3}, store.path, launcher="inline", resume=True, on_event=events.append)

    assert [event.kind for event in events[:2]] == ["study", "worker"]
