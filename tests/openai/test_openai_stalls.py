"""A server that was stopped by a signal within a window: the numbers are of a server that stood still."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

LOADS = {
    "offline": {"kind": "offline", "batch_size": 4},
    "closed": {"kind": "closed", "concurrency": 4},
    "open": {"kind": "open", "request_rate": 30.0},
}
WINDOW_S, STOP_S = 4.0, 1.5


def settings(url: str, load: dict) -> list[str]:
    """Arguments of `llem run`, for one trial."""
    found = {
        "model": "shape:tiny", "backend": "openai", "dtype": "auto", "device": "cpu", "preset": "quick",
        "window_s": WINDOW_S, "warmup.seconds": 0.5, "baseline.seconds": 0, "workload.input_tokens": 6,
        "workload.output_tokens": 5, "openai.base_url": url, **{f"load.{name}": value for name, value in load.items()},
    }  # fmt: skip
    return [word for name, value in found.items() for word in ("--set", f"{name}={json.dumps(value)}")]


def codes(done) -> tuple[dict, bool]:
    """Findings by code, and whether the result is valid."""
    result = json.loads(done.stdout)
    return {one["code"]: one for one in result["findings"]}, result["valid"]


def when_the_trial_begins(folder: Path) -> None:
    """Wait for it."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        path = folder / "workers" / "0" / "events.jsonl"
        if path.exists() and '"phase":"trial"' in path.read_text().replace(" ", ""):
            return
        time.sleep(0.02)
    raise AssertionError("no trial in time")


def stop_within_the_trial(server, folder: Path) -> None:
    """SIGSTOP and SIGCONT to the server, in the midst of the window."""
    when_the_trial_begins(folder)
    time.sleep(WINDOW_S / 2)
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(STOP_S)
    server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("load", LOADS)
def test_a_server_that_was_stopped_is_not_valid(run_llem, isolated_llem, running, load: str) -> None:
    """The worker and its clients ran, and say that no token came for so long."""
    server = running("--delay", "0.01")
    other = threading.Thread(target=stop_within_the_trial, args=(server, isolated_llem.results))
    other.start()
    done = run_llem("run", *settings(server.url, LOADS[load]), "-o", isolated_llem.results, "--json")
    other.join()
    found, valid = codes(done)

    assert not valid
    assert found["stalled"]["severity"] == "error"
    assert found["stalled"]["evidence"]["stalled_s"] == pytest.approx(STOP_S, abs=0.5)
    assert "paused" not in found


@pytest.mark.parametrize("load", LOADS)
def test_the_same_server_undisturbed_is_valid(run_llem, isolated_llem, running, load: str) -> None:
    """Neither of the findings."""
    server = running("--delay", "0.01")
    done = run_llem("run", *settings(server.url, LOADS[load]), "-o", isolated_llem.results, "--json")
    found, valid = codes(done)

    assert valid
    assert not {"stalled", "paused", "no_work"} & found.keys()
