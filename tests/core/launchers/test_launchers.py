"""Running a worker: its events, its status, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from llem.errors import MachineError
from llem.launchers import process as child_module
from llem.launchers import process as process_module
from llem.launchers.process import ProcessLauncher
from llem.protocol.events import Phase, Started
from llem.protocol.study_events import OutOfMemory

#: How the stand-in for a worker tells an event: `tell('warning', message='ready')`.
TELL = (
    "import json\n"
    "at = {'monotonic_ns': 1, 'utc': '2026-01-01T00:00:00+00:00'}\n"
    "def tell(kind, **fields): print(json.dumps({'event': kind, 'at': at, **fields}), flush=True)\n"
)

pytestmark = pytest.mark.process


@pytest.fixture
def script(tmp_path: Path, monkeypatch) -> Path:
    """Where to put a program that runs in the worker's place: the launcher starts it as its interpreter."""
    program = tmp_path / "program.py"
    started = tmp_path / "python"
    started.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    started.chmod(0o755)
    monkeypatch.setattr(process_module.sys, "executable", str(started))
    return program


def order(tmp_path: Path) -> Path:
    """Where an order would lie."""
    path = tmp_path / "worker" / "order.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    return path


def ended(pid: int) -> bool:
    """Whether a process is gone, or dead and only not collected by its new parent."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_events_come_in_order_and_the_rest_goes_to_the_log(tmp_path: Path, script: Path) -> None:
    """Each line of standard output is an event; standard error is kept; the exit status is returned."""
    script.write_text(
        f"{TELL}import sys\nprint('noise', file=sys.stderr)\n"
        "for n in range(3): tell('phase', phase='trial', trial=n)\n"
        "tell('warning', message=json.dumps(sys.argv[1:]))\nsys.exit(5)\n"
    )
    seen: list = []
    path = order(tmp_path)
    status = ProcessLauncher().launch(path, seen.append, threading.Event())

    assert status == 5
    assert seen[:3] == [Phase(phase="trial", trial=n) for n in range(3)]
    assert json.loads(seen[3].message)[-3:] == ["worker", "--lifeline", str(path)]
    assert (path.parent / "log.txt").read_text() == "noise\n"


def test_a_worker_is_asked_to_stop_and_may_finish(tmp_path: Path, script: Path) -> None:
    """`stop` becomes SIGTERM once; what the worker says afterwards still arrives, and its status too."""
    script.write_text(
        f"{TELL}import signal, sys, threading\nstop = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: stop.set())\n"
        "tell('started', pid=1)\nstop.wait(20)\n"
        "tell('ended')\nsys.exit(3)\n"
    )
    seen: list = []
    stop = threading.Event()

    def told(event) -> None:
        seen.append(event.kind)
        if event.kind == "started":
            stop.set()

    assert ProcessLauncher().launch(order(tmp_path), told, stop) == 3
    assert seen == ["started", "ended"]


@pytest.mark.parametrize("how", ["ends", "raises"])
def test_nothing_of_the_worker_outlives_the_call(tmp_path: Path, script: Path, how: str) -> None:
    """Children that it left behind are ended with it, whether it ended or the caller gave up on it."""
    script.write_text(
        f"{TELL}import subprocess, sys, time\n"
        "quiet = {'stdout': subprocess.DEVNULL}\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], **quiet)\n"
        "tell('started', pid=child.pid)\n"
        f"time.sleep({0 if how == 'ends' else 60})\n"
    )
    seen: list = []

    def told(event) -> None:
        seen.append(event.pid)
        if how == "raises":
            raise KeyboardInterrupt

    if how == "raises":
        with pytest.raises(KeyboardInterrupt):
            ProcessLauncher().launch(order(tmp_path), told, threading.Event())
    else:
        assert ProcessLauncher().launch(order(tmp_path), told, threading.Event()) == 0

    assert ended(seen[0])
    assert [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_worker_that_is_killed_gives_its_signal(tmp_path: Path, script: Path) -> None:
    """As Python tells it: minus the signal's number."""
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert ProcessLauncher().launch(order(tmp_path), print, threading.Event()) == -signal.SIGKILL


SAID = "the worker was killed while the kernel ended a process for want of memory"


@pytest.mark.parametrize(("after", "told"), [(4, [OutOfMemory(why=SAID)]), (3, [])])
def test_a_worker_that_the_kernel_ended_for_want_of_memory(
    tmp_path: Path, script: Path, monkeypatch, after: int, told: list
) -> None:
    """Is told where the system has counted one more, which may be of another process; else somebody killed it."""
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    counts = iter([3, after])
    monkeypatch.setattr(process_module, "oom_kills", lambda **_: next(counts))
    seen: list = []
    assert ProcessLauncher().launch(order(tmp_path), seen.append, threading.Event()) == -signal.SIGKILL
    assert seen == told


def test_the_worker_is_out_of_the_terminals_reach(tmp_path: Path, script: Path) -> None:
    """It leads a process group of its own, so that Ctrl-C does not reach it past its parent."""
    script.write_text(f"{TELL}import os; tell('warning', message=str(os.getpgid(0))); tell('started', pid=os.getpid())")
    seen: list = []
    ProcessLauncher().launch(order(tmp_path), seen.append, threading.Event())

    assert int(seen[0].message) == seen[1].pid != os.getpgid(0)


def test_no_thread_stays_behind(tmp_path: Path, script: Path, monkeypatch) -> None:
    """What waits for the user's wish to stop ends with the worker: a study has hundreds of workers."""
    monkeypatch.setattr(child_module, "WATCH_S", 0.05)
    script.write_text("")
    before = set(threading.enumerate())
    for _ in range(3):
        ProcessLauncher().launch(order(tmp_path), print, threading.Event())
    until = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < until:
        time.sleep(0.01)

    assert set(threading.enumerate()) - before == set()


def test_a_second_worker_adds_to_the_log(tmp_path: Path, script: Path) -> None:
    """A log is never cut."""
    script.write_text("import sys; print('line', file=sys.stderr)")
    path = order(tmp_path)
    for _ in range(2):
        ProcessLauncher().launch(path, print, threading.Event())

    assert (path.parent / "log.txt").read_text() == "line\nline\n"
    assert json.loads(path.read_text()) == {}


def test_a_worker_of_another_version_is_ended_with_its_log_named(tmp_path: Path, script: Path) -> None:
    """What it told before is passed on; it does not run on."""
    script.write_text(f"{TELL}import time\ntell('started', pid=1)\ntell('quality', score=1)\ntime.sleep(60)")
    seen: list = []
    path = order(tmp_path)
    with pytest.raises(MachineError, match="an event 'quality'") as caught:
        ProcessLauncher().launch(path, seen.append, threading.Event())

    assert seen == [Started(pid=1)]
    assert str(path.parent / "log.txt") in caught.value.hint
    assert [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE] == []
