"""The load `command`: a program runs from its start to its exit, and may tell of the requests that it sent.

    begin trace | jitter | rest | t0  start … exit  t1 | rest | end trace

The rests are as long as the slowest sensor needs. Where the command tells of its requests, and every meter can be read
for any part of the trace, the window is theirs: from the first one's start to the last one's end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from llem.backends.command import GIVEN, CommandEngine, Given
from llem.config.models import CommandLoad
from llem.devices.pulse import BEAT_S
from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError
from llem.experiment.halts import Halts, halted
from llem.experiment.serving.window import counts, serving_facts
from llem.experiment.session import Measured, Session, Work
from llem.experiment.told import Told, Unreadable, read_told
from llem.experiment.trial import finish, traced
from llem.findings import Finding, finding
from llem.foreign.secrets import HIDDEN
from llem.store.models import RequestRow

__all__ = ["CommandRun"]

#: How often it is looked, while the command runs, whether it was stopped or the user wants to stop: as often as a
#: worker's pulse beats.
LOOK_S = BEAT_S
#: How long a command may take to end after an interrupt, and then after SIGTERM.
INTERRUPT_S, TERMINATE_S = 30.0, 5.0
#: A wall clock that was set by more than this within a run cannot place requests.
CLOCK_NS = 5_000_000
#: Share of a window that requests have at least, lest the rest weigh on what is divided by them.
BUSY_SHARE = 0.95


@attrs.frozen
class Ran:
    """One run: monotonic ns from before the start to after the exit, and the exit code, below 0 for a signal.

    Attributes:
        wall_ns: what the wall clock was ahead of the monotonic one, before and after.
        began_s: wall clock at the start, for times of files.
        stopped: the user ended it.
        halts: times in which a signal had stopped the command's own process, at least; begin and end, monotonic ns.
    """

    t0: int
    t1: int
    code: int
    wall_ns: tuple[int, int]
    began_s: float
    stopped: bool
    halts: tuple[tuple[int, int], ...] = ()


class CommandRun(Work):
    """One run of the command is one trial."""

    sends: ClassVar[bool] = False

    def __init__(self, session: Session) -> None:
        if not isinstance(session.experiment.load, CommandLoad):
            raise LlemError("a command is of a load `command`", code="bug")
        self._session, self._load = session, session.experiment.load
        self._last: Ran | None = None
        self._given = GIVEN.get() or Given(self._load.argv, dict(os.environ))
        if any(HIDDEN in word for word in self._given.argv):
            hint = "give the whole command to `llem meter` again"
            raise ConfigError("the stored command lacks its secrets, so it cannot be run", hint)

    def warm_up(self) -> None:
        """Runs that are not measured, if any are asked for."""
        if not self._session.live_instruments.domains:
            raise MachineError("no meter reads any energy on this machine", "see `llem doctor`", "no_meter")
        for _ in range(self._session.experiment.warmup.batches):
            self._session.phase("warm-up")
            self._last = self._run()
            self.go_on()

    def calibrate(self) -> Mapping[str, Any]:
        return {}

    @property
    def trial_s(self) -> float:
        """As long as the last run, with the rests; 0 before the first."""
        last = 0.0 if self._last is None else (self._last.t1 - self._last.t0) / 1e9
        return last + 2 * self._session.live_instruments.lead_s

    def trial(self, index: int) -> Measured:
        session, instruments = self._session, self._session.live_instruments
        narrow = self._load.requests is not None and len(instruments.sampled) == len(instruments.domains)
        with traced(session, index) as trace:
            time.sleep(instruments.lead_s)
            instruments.window_begin(thin=not narrow)  # a window within the run has edges that are not known yet
            try:
                self._last = ran = self._run()
            finally:
                instruments.window_end()
            time.sleep(instruments.lead_s)
            told, rows, found = self._requests(ran)
            window = (ran.t0, ran.t1)
            if rows and narrow:
                window = min(row.start_ns for row in rows), max(row.end_ns for row in rows) + 1
            trace.window = window
        self._note(index, ran, window, told)
        found = [*_ending(ran), *halted(ran.halts, window), *found]
        if told is not None and rows:
            found += _said(told, self._load.requests or "", rows, ran, window)
        trial = finish(
            session, index, trace, findings=found, **counts(rows, *window),
            serving=_facts(rows, window) if rows else None,
            first_index=min((row.index for row in rows), default=0), output_digest="",
        )  # fmt: skip
        return trial, trace.rows, rows

    def go_on(self) -> None:
        """Nothing more is measured after a run that failed, or that the user ended."""
        if self._last is not None and self._last.stopped:
            self._session.check_stop()
        if self._last is not None and self._last.code:
            raise ExperimentFailed(
                f"the command ended {_how(self._last.code)}", "mend it, and measure again", "invalid"
            )

    def _run(self) -> Ran:
        """Start the command, and wait for its exit. It has the terminal, and the environment of the user."""
        given = self._given
        began_s, before = time.time(), time.time_ns() - time.monotonic_ns()
        t0 = time.monotonic_ns()
        try:
            process = subprocess.Popen(given.argv, env=dict(given.environment), stdout=given.output)
        except OSError as error:
            what = f"the command {self._load.argv[0]!r} cannot be run: {error.strerror or error}"
            raise ConfigError(what, "check its name and its permissions", "command_not_found") from error
        halts = Halts(process.pid)
        with _ended(process):
            stopped = self._wait(process, halts)
            code = process.wait()
        t1 = time.monotonic_ns()
        given.codes.append(code)
        wall_ns = before, time.time_ns() - time.monotonic_ns()
        return Ran(t0, t1, code, wall_ns, began_s, stopped, halts.until(t1))

    def _wait(self, process: subprocess.Popen[bytes], halts: Halts) -> bool:
        """Until the command has ended; whether the user ended it."""
        stop = self._session.process.stop
        with _exit_of(process) as exits:
            while not exits(LOOK_S):
                halts.look()
                if stop.is_set():
                    break
            else:
                return stop.is_set()
            if not _in_foreground():  # else the terminal has sent the interrupt to the command itself
                process.send_signal(signal.SIGINT)
            if not exits(INTERRUPT_S):
                process.terminate()
                if not exits(TERMINATE_S):
                    process.kill()
        return True

    def _requests(self, ran: Ran) -> tuple[Told | None, list[RequestRow], list[Finding]]:
        """What the command's file tells of requests within its run."""
        if self._load.requests is None:
            return None, [], []
        path = Path(self._load.requests)
        try:
            moved = abs(ran.wall_ns[1] - ran.wall_ns[0])
            told = read_told(path, since_s=ran.began_s, wall_ns=ran.wall_ns[1])
            if told.wall and moved > CLOCK_NS:
                raise Unreadable(f"the clock of this machine was set by {moved / 1e9:.3f} s while the command ran")
        except Unreadable as error:
            return None, [], [finding("request_file_unread", f"{path}: {error}", file=str(path))]
        if not told.rows:
            return told, [], [finding("no_work", f"{path} of {told.tool} tells of no request", file=str(path))]
        rows = [row for row in told.rows if row.start_ns >= ran.t0 and row.end_ns < ran.t1]
        if left := len(told.rows) - len(rows):
            message = f"{left} of {len(told.rows)} requests of {path} lie outside the command's run"
            return told, rows, [finding("requests_outside", message, outside=left, requests=len(told.rows))]
        return told, rows, []

    def _note(self, index: int, ran: Ran, window: tuple[int, int], told: Told | None) -> None:
        """Add to the engine's document what is known of this run."""
        session = self._session
        engine = session.live_engine
        assert isinstance(engine, CommandEngine)
        run: dict[str, Any] = {
            "trial": index,
            "exit_code": ran.code,
            "run_s": (ran.t1 - ran.t0) / 1e9,
            "window": "run" if window == (ran.t0, ran.t1) else "requests",
            "window_from_s": (window[0] - ran.t0) / 1e9,
        }
        if told is not None:
            run |= {"tool": told.tool, "model": told.model, "stated": [attrs.asdict(one) for one in told.stated]}
            engine.told["model"] = told.model
            engine.told["chunks_told"] = told.chunks and engine.told.get("chunks_told", True)
        engine.told["runs"] = [*engine.told.get("runs", ()), run]
        session.store.write_engine(session.id, session.facts(), replace=True)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process is gone afterwards, whatever happens."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TERMINATE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _exit_of(process: subprocess.Popen[bytes]) -> Iterator[Any]:
    """A function that waits so many seconds at most, and says whether the process has ended. It wakes at once."""
    file = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        yield lambda seconds: bool(poll.poll(seconds * 1000))
    finally:
        os.close(file)


def _in_foreground() -> bool:
    """Whether this process and its children are what a terminal's Ctrl-C interrupts."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _ending(ran: Ran) -> list[Finding]:
    if ran.stopped:
        return [finding("command_interrupted", f"the command was interrupted, and ended {_how(ran.code)}")]
    if ran.code:
        return [finding("command_failed", f"the command ended {_how(ran.code)}", exit_code=ran.code)]
    return []


def _facts(rows: Sequence[RequestRow], window: tuple[int, int]) -> Any:
    asked = {row.index: row.output_tokens for row in rows}
    return serving_facts(rows, *window, asked, kind="command", concurrency=None, request_rate=None, seed=0)


def _said(told: Told, path: str, rows: Sequence[RequestRow], ran: Ran, window: tuple[int, int]) -> Iterator[Finding]:
    """Whose requests these are, what the window is, and how much of it has none of them."""
    run_s, window_s = (ran.t1 - ran.t0) / 1e9, (window[1] - window[0]) / 1e9
    whole = window == (ran.t0, ran.t1)
    part = (
        f"the window is the whole run of {run_s:.2f} s, because a meter measures it as one"
        if whole
        else f"the window is from the first request to the last token, {window_s:.2f} s of a run of {run_s:.2f} s"
    )
    message = f"{len(rows)} requests are as {told.tool} tells in {path}; {part}"
    window_of = "run" if whole else "requests"
    yield finding("requests_told", message, tool=told.tool, file=path, requests=len(rows), window=window_of)
    share = (max(row.end_ns for row in rows) - min(row.start_ns for row in rows)) / 1e9 / window_s
    if share < BUSY_SHARE:
        message = f"requests took {share * window_s:.2f} s of the window's {window_s:.2f} s"
        yield finding("window_beyond_requests", message, requests_s=share * window_s, window_s=window_s)
