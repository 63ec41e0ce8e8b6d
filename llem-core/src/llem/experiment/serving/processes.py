"""The client processes of an engine that is a server: started once for all its loads, and ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.wire import WireReference
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.frames import Frames, frame, untold

__all__ = ["ClientProcess", "Clients", "client_processes"]

#: Requests in flight that one process takes.
PER_PROCESS = 256
#: Part of the processor cores that client processes may use: the server needs them more.
CORE_SHARE = 0.25
#: A process has this long to start, and to end when it is told to.
START_LIMIT_S, END_LIMIT_S = 60.0, 5.0
POLL_S = 0.02
PIECE_BYTES = 2**20

Hear = Callable[[Mapping[str, Any], bytes], None]


def client_processes(in_flight: float, cores: int) -> int:
    """How many processes send a load that has so many requests in flight, on so many usable cores."""
    return max(1, min(math.ceil(in_flight / PER_PROCESS), math.floor(cores * CORE_SHARE)))


class ClientProcess:
    """The worker's side of one client process, in the event loop that runs.

    Attributes:
        hear: called with each frame that comes.
        lost: what is to be told when the process cannot send or has ended by itself; None while it is well.
        busy: a load has begun and was not heard to its end.
    """

    def __init__(self, reference: WireReference) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llem.experiment.serving.client"],  # -P: no module of the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._frames, self._unwritten = Frames(), deque[memoryview]()
        self.hear: Hear = lambda head, body: None
        self.lost: LlemError | None = None
        self.busy = False
        self._greeted = False
        for pipe in (self._input, self._output):
            os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(self._output.fileno(), self._read)
        self.write(frame("wire", reference=attrs.asdict(reference)))

    async def greeted(self, check_stop: Callable[[], None]) -> None:
        """Wait until it can send. Raises ExperimentFailed where it cannot."""
        until = time.monotonic() + START_LIMIT_S
        while not self._greeted:
            await asyncio.sleep(POLL_S)
            check_stop()
            if self.lost is not None:
                break
            if time.monotonic() > until:
                raise ExperimentFailed(f"a client process did not start within {START_LIMIT_S:g} s", "", "timeout")
        if self.lost is not None:
            raise self.lost

    def write(self, data: bytes) -> None:
        """Send it, in the background where the pipe is full."""
        if not self._unwritten:
            self._loop.add_writer(self._input.fileno(), self._flush)
        self._unwritten.append(memoryview(data))

    def _flush(self) -> None:
        try:
            while self._unwritten:
                view = self._unwritten[0]
                self._unwritten[0] = view[os.write(self._input.fileno(), view[:PIECE_BYTES]) :]
                if not self._unwritten[0]:
                    self._unwritten.popleft()
        except BlockingIOError:
            return
        except BrokenPipeError:  # its end is heard from the other pipe
            self._unwritten.clear()
        self._loop.remove_writer(self._input.fileno())

    def _read(self) -> None:
        try:
            piece = os.read(self._output.fileno(), PIECE_BYTES)
        except BlockingIOError:
            return
        if not piece:
            self._loop.remove_reader(self._output.fileno())
            code = self._process.poll()
            how = "" if code is None else f" (status {code})"
            message = f"a client process of the load generator has ended by itself{how}"
            self.lost = ExperimentFailed(message, "see the worker's log", "crash")
            return
        for head, body in self._frames.feed(piece):
            if head["name"] == "ready":
                self._greeted = True
                self.lost = None if head["error"] is None else untold(head["error"])
            else:
                self.hear(head, body)

    def close(self) -> None:
        """End the process. Safe to call twice; the event loop need not run."""
        if self._input.closed:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._output.fileno())
            self._loop.remove_writer(self._input.fileno())
        self._input.close()
        if self.busy:  # it may be at work for long
            self._process.kill()
        try:
            self._process.wait(timeout=END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


class Clients:
    """The client processes of one engine. Close them before the engine."""

    def __init__(self, reference: WireReference) -> None:
        self._reference = reference
        self._all: list[ClientProcess] = []

    async def have(self, count: int, check_stop: Callable[[], None]) -> Sequence[ClientProcess]:
        """So many that are at rest (or as many as the engine asks for); started where they are missing."""
        count = self._reference.processes or count
        for one in [one for one in self._all if one.busy or one.lost is not None]:
            one.close()
            self._all.remove(one)
        while len(self._all) < count:
            self._all.append(ClientProcess(self._reference))
        chosen = self._all[:count]
        for one in chosen:
            await one.greeted(check_stop)
        return chosen

    def close(self) -> None:
        """End all."""
        with contextlib.ExitStack() as held:
            for one in self._all:
                held.callback(one.close)
        self._all.clear()
