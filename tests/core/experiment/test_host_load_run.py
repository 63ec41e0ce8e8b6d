"""A whole run beside a process that does nothing but work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llem
from llem.metrics.verify import verify
from llem.store.store import Store

pytestmark = pytest.mark.process


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process, and all that it starts, on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("load", [{"kind": "offline", "batch_size": 1}, {"kind": "closed", "concurrency": 2}])
def test_a_busy_neighbour_is_told(tmp_path: Path, short, load) -> None:
    """The stranger's share of the processor stands in the trial and in the finding; the worker's own is apart."""
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as stranger:
        try:
            settings = {**short, "window_s": 1.0, "trials": 2, "load": load}
            result = llem.run(out=tmp_path / "out", launcher="process", **settings)
        finally:
            stranger.kill()
    store = Store.open(tmp_path / "out")
    hosts = [trial.host for trial in store.trials(result.id)]
    most = max((host for host in hosts if host is not None), key=lambda host: host.others_cores + host.steal_cores)
    [found] = [one for one in result.findings if one.code == "host_busy"]

    assert all(host is not None and host.cores == 1 and host.others_cores > 0.2 for host in hosts)
    assert all(host is not None and 0 <= host.own_cores < 0.6 for host in hosts)
    assert found.evidence["others_cores"] == most.others_cores
    assert (found.evidence["cores"], found.severity, result.publishable) == (1, "warning", False)
    assert verify(store) == []
