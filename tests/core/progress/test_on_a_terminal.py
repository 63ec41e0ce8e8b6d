"""The display on a real pseudo-terminal: what is drawn, how often, and what is left of it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

pytestmark = pytest.mark.process

SCRIPT = """
import time
from llem.progress.display import progress
from llem.protocol.events import Phase, Power, TrialEnded
from llem.protocol.study_events import ExperimentPlan, JobPlan, StudyBegan, WorkerLaunched

def trial(index, joules):
    return TrialEnded(
        id="abcdefghij", trial=index, t0_ns=0, t1_ns=1, duration_s=10.0, output_tokens_per_s=911.8,
        energy_per_output_token_j=joules, energy_scope="gpu", energy_kind="modelled", worker=0,
    )

jobs = (JobPlan((0, 0), {"abcdefghij": ExperimentPlan(5, 10.0, 1.0)}, 1.0, 1.0),)
points = {"abcdefghij": {"load.batch_size": 4, "model": "evil\x1b]0;title\x07"}}
with progress(0, quiet=False) as show:
    show(StudyBegan(experiments=2, done=0, processes=1, parallel=1, gap_s=0.0, points=points, jobs=jobs))
    show(WorkerLaunched(worker=0, job=(0, 0), process=0, experiments=("abcdefghij",), gpus=(), log="l"))
    show(Phase(phase="trial", id="abcdefghij", trial=0, worker=0))
    show(trial(0, 0.041))
    show(trial(1, 0.043))
    for watts in range(1000):
        show(Power(watts={"gpu:0": 600.0 + watts % 7}, worker=0))
    time.sleep(1.5)
"""


def shown(columns: int, **environ: str) -> str:
    """All that the display writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=theirs, env={**kept, "TERM": "xterm", "PYTHONUTF8": "1", **environ}
    )
    os.close(theirs)
    found = b""
    while chunk := _read(ours):
        found += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return found.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its other end is closed
        return b""


def test_a_frame_has_the_facts_and_is_not_drawn_for_each_event() -> None:
    """Power, speed, the mean with its interval and label, what is done and left; a thousand events are few frames."""
    text = shown(160)

    assert "0 of 2 done, 2 to go · gpu 60" in text
    assert "911.8 tok/s  0.042 ± 0.013 J/output token (gpu, modelled)" in text
    assert "mean of 2: 0.042 ± 0.013" in text
    assert text.count(" of 2 done") < 12
    assert "\x1b]0;" not in text
    assert text.endswith("\x1b[2K") or "\x1b[?25h" in text  # erased, and the cursor is back


def test_sixty_columns_and_no_colour() -> None:
    """No line is broken by the terminal, no figure is cut, and no colour is set."""
    text = shown(60, NO_COLOR="1")

    assert "0.042 ± 0.013 J/output token (gpu, modelled)" in text
    assert "\x1b[3" not in text


def test_a_dumb_terminal_gets_plain_lines() -> None:
    """It cannot move its cursor."""
    text = shown(80, TERM="dumb")

    assert "\x1b" not in text
    assert "abcdefgh trial 1: 911.8 tok/s" in text
