"""Settings for whole runs that take a second, and a plugin with backends that fail and meters of known truth."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llem.api import prepare
from llem.config.layers import Layer
from llem.plugins.registry import registry
from llem.results.models import Quantity, Result
from llem.results.store import Store
from llem.study.preflight import Planned

LAB = Path(__file__).parent / "lab"

#: What makes a run short: windows of 0.2 s of batches of 8 ms, and nothing around them.
SHORT: dict[str, Any] = {
    "preset": "quick",
    "device": "cpu",
    "window_s": 0.2,
    "warmup": {"seconds": 0.0},
    "baseline": {"seconds": 0.0},
    "workload": {"output_tokens": 8, "input_tokens": 8},
}
SHORT_ECHO: dict[str, Any] = {**SHORT, "backend": "echo", "echo": {"token_seconds": 0.001}}


@pytest.fixture
def short() -> dict[str, Any]:
    """Keyword arguments of `llem.run` for a run with echo of a second."""
    return dict(SHORT_ECHO)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """SIGINT and SIGTERM do afterwards what they did: a worker sets them for its whole process, here the tests'."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install the distribution llem-lab for this process and its children; keyword arguments for a run with it."""
    info = tmp_path / "lab-site" / "llem_lab-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-lab\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[llem]\nlab = llem_lab_hooks\n")
    path = [str(info.parent), str(LAB), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    for entry in path[:2]:
        monkeypatch.syspath_prepend(entry)
    registry.cache_clear()
    yield {**SHORT, "backend": "lab"}
    registry.cache_clear()


@pytest.fixture
def planned() -> Callable[..., Planned]:
    """`planned(backend="echo", …)`: an experiment as `llem run` prepares it, for the launcher `process`."""

    def made(**settings: Any) -> Planned:
        [one] = prepare(None, [Layer("python", settings)], "unused").planned
        return one

    return made


@pytest.fixture
def grid_store(tmp_path: Path) -> Callable[..., Store]:
    """`grid_store(axes, energy)`: a store with a result for each point; `energy(point)` is its joules per token.

    It may give None for a point without a result, or a Result's fields to change as a mapping with "energy". Ids are
    `a-0000…`, in the file's order, each beginning unlike the others.
    """

    def make(axes: Mapping[str, Sequence[Any]], energy: Callable[[dict[str, Any]], Any], half: float = 0.01) -> Store:
        grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        points = {f"{n:02x}{'0' * 14}": point for n, point in enumerate(grid)}
        document = {
            "name": "grid",
            "experiments": list(reversed(points)),
            "axes": list(axes),
            "points": {name: {"number": n, "values": point} for n, (name, point) in enumerate(points.items())},
        }
        store = Store.create(tmp_path / "grid", document)
        for name, point in points.items():
            given = energy(point)
            store.write_experiment(name, {"id": name, "config": {}, "model": {"weights": "random"}})
            if given is not None:
                store.write_result(_grid_result(name, given if isinstance(given, Mapping) else {"energy": given}, half))
        return store

    return make


def _grid_result(name: str, given: Mapping[str, Any], half: float) -> Result:
    joules = given["energy"]

    def quantity(value: float | None, unit: str) -> Quantity:
        if value is None:
            return Quantity(None, unit, reason="no_meter")
        return Quantity(value, unit, value * (1 - half), value * (1 + half), 0.95, 5, "student_t")

    metrics = {
        "energy_per_output_token_j": quantity(joules, "J"),
        "output_tokens_per_s": quantity(given.get("speed", 100.0), "token/s"),
        "ttft_s": Quantity(None, "s", reason="not_requested"),
    }
    fields: dict[str, Any] = {
        "outcome": "done", "trials": 5, "valid": True, "publishable": True, "findings": (),
        **{key: value for key, value in given.items() if key not in ("energy", "speed")},
    }  # fmt: skip
    return Result(
        id=name, config={"backend": "echo", "load": {"kind": "offline"}}, sources={}, effective={}, environment="e",
        weights="random", metrics=metrics, domains=(), **fields,
    )  # fmt: skip
