"""Fixtures of several packages' tests, and markers: a test without `process` can start no process, and one with
`backends` is skipped where one of these is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from llem.backends.base import Request
from llem.plugins.registry import registry

# No test asserts on the clock: how fast examples are made says how busy the machine is.
settings.register_profile("llem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llem")

#: Tests of the suites that packages inherit, which start a process wherever they run.
INHERITED = {"test_hooks_and_config_import_light"}
#: What Python tells an audit hook when a process is about to start.
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}

#: The test that runs now, if it may start no process.
_guarded: list[str] = []


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if _guarded and event in STARTS:
        pytest.fail(f"{_guarded[-1]} starts a process ({event} {arguments}): mark it `@pytest.mark.process`")


sys.addaudithook(_refuse)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what no line of its own module can mark; before `-m` selects."""
    for item in items:
        if item.originalname in INHERITED:
            item.add_marker(pytest.mark.process)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a backend that is not installed."""
    asked = [name for mark in item.iter_markers("backends") for name in mark.args]
    if missing := [name for name in asked if name not in registry().names("backend")]:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guard a test that is not marked, with the fixtures that begin for it."""
    if item.get_closest_marker("process") is None:
        _guarded.append(item.nodeid)
    try:
        return (yield)
    finally:
        _guarded.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """A fixture of several tests may end with one that is not marked."""
    _guarded.clear()


@pytest.fixture(scope="session")
def benchmark_script() -> Callable[[str], ModuleType]:
    """`benchmark_script("kills")`: a script of `benchmarks/` as a module, beside which it finds those that it imports.

    Each call makes a new one, so that no test finds what another one left in it.
    """

    def load(name: str) -> ModuleType:
        script = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"llem_{name}", script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(script.parent))
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def requests_of() -> Callable[..., list[Request]]:
    """Requests from (prompt length, output tokens) pairs; prompts differ from each other."""

    def make(*sizes: tuple[int, int]) -> list[Request]:
        return [
            Request(index, tuple((7 + 31 * index + 13 * place) % 500 + 5 for place in range(length)), output)
            for index, (length, output) in enumerate(sizes)
        ]

    return make
