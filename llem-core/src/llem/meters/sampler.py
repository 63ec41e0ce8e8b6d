"""Reading instruments in a process of their own, so that the engine's process never pays for it.

The child is `python -m llem.meters.sampler`; JSON lines go to its standard input and come from its standard output:

    {"meters": […], "gpu_uuids": […], "power": …}            first line; answered by {"domains": …, "failed": …}
    begin                                                    start reading
    thin, dense                                              a window opens, has closed
    end                                                      stop; answered by {"rows": …, "errors": …, "gaps": …}
    (end of input)                                           leave
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import attrs

from llem.errors import LlemError, MachineError
from llem.meters.base import Domain, Meter
from llem.meters.trace import TraceRow

__all__ = ["Sampler", "SamplerError", "main"]

Opened = list[tuple[str, Domain]]
Answer = Callable[[Mapping[str, Any]], None]
Tell = Callable[[Mapping[str, float]], object]
#: The reader wakes this often, also where nothing is due, and is late by more than `LATE_NS` where it was held up.
WAKE_S, LATE_NS = 0.05, 80_000_000


@attrs.frozen
class SamplerError(MachineError):
    """The sampling process ended."""


class Sampler:
    """The parent's side: start, begin, end, close. Close it in a `finally`.

    `domains` lists what can be read, as (meter, Domain); `failed` has the error of each meter that would not open;
    `gaps` the times of the last trace in which the child did not read (begin and end, monotonic ns).

    Args:
        meters: per meter {"name", "target", "config", "options"}, as a `Reference` names them.
        gpu_uuids: GPUs to read.
        events_fd: a file descriptor on which the child writes a line with the watts each second; None for none.
        power_line: reference of the function that makes the line from watts by domain.
    """

    def __init__(
        self,
        meters: Sequence[Mapping[str, Any]],
        gpu_uuids: Sequence[str],
        events_fd: int | None = None,
        power_line: str = "",
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llem.meters.sampler"],  # -P: no module of the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=() if events_fd is None else (events_fd,),
        )
        try:
            power = None if events_fd is None else {"fd": events_fd, "line": power_line}
            self._send(json.dumps({"meters": list(meters), "gpu_uuids": list(gpu_uuids), "power": power}))
            answer = self._receive()
            self.domains: Opened = [(name, Domain(**domain)) for name, domain in answer["domains"]]
            self.failed = {name: MachineError(**error) for name, error in answer["failed"]}
            self.gaps: list[tuple[int, int]] = []
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Start reading; what was read before is forgotten."""
        self._send("begin")

    def thin(self) -> None:
        """A window opens: counters are read less often once its edge is known."""
        self._send("thin")

    def dense(self) -> None:
        """The window has closed: every tick is looked for again."""
        self._send("dense")

    def end(self) -> tuple[list[TraceRow], list[tuple[str, str, str]]]:
        """Stop reading. The rows since `begin`, and (meter, domain, message) of instruments that failed."""
        self._send("end")
        answer = self._receive()
        self.gaps = [(begin, end) for begin, end in answer["gaps"]]
        return [TraceRow(*row) for row in answer["rows"]], [tuple(error) for error in answer["errors"]]

    def close(self) -> None:
        """End the child. Safe to call twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise SamplerError("the process that reads the meters has ended", "see the worker's log") from error

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SamplerError("the process that reads the meters has ended", "see the worker's log")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _meter(entry: Mapping[str, Any], gpu_uuids: Sequence[str]) -> Meter:
    from llem.config.converter import structure
    from llem.plugins.reference import resolve

    config = resolve(entry["config"]) if entry["config"] else None
    options = structure(config, entry["options"] or {}, path=entry["name"]) if config else None
    made: Meter = resolve(entry["target"])(options, gpu_uuids)
    return made


def _answers() -> Answer:
    """Standard output as the pipe for answers alone: what a meter's library prints goes to standard error instead."""
    sys.stdout.flush()
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(data: Mapping[str, Any]) -> None:
        pipe.write(json.dumps(data) + "\n")
        pipe.flush()

    return answer


def _teller(power: Mapping[str, Any] | None) -> Tell | None:
    """What writes the watts for the live display."""
    from llem.plugins.reference import resolve

    if power is None:
        return None
    line: Callable[[Mapping[str, float]], bytes] = resolve(power["line"])
    # below PIPE_BUF, so it is one piece among the worker's own lines
    return lambda watts: os.write(power["fd"], line(watts))


def _commands(lines: IO[str]) -> queue.Queue[str]:
    """Lines of standard input as a queue, ended by "": a thread waits for them so that the reader need not look."""
    found: queue.Queue[str] = queue.Queue()

    def pump() -> None:
        for line in lines:
            found.put(line.strip())
        found.put("")

    threading.Thread(target=pump, daemon=True).start()
    return found


def main() -> None:
    """The child: open the meters, then read between `begin` and `end` until the input ends."""
    # the terminal's Ctrl-C reaches the whole group; only the parent decides when to stop reading
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer = _answers()
    spec = json.loads(sys.stdin.readline())
    opened: list[tuple[Meter, Sequence[Domain]]] = []
    failed = []
    with contextlib.ExitStack() as held:  # each is closed, whatever becomes of the others
        for entry in spec["meters"]:
            meter = _meter(entry, spec["gpu_uuids"])
            held.callback(meter.close)
            try:
                opened.append((meter, list(meter.open())))
            except LlemError as error:
                failed.append((meter.name, {"message": error.message, "hint": error.hint, "code": error.code}))
            except Exception as error:  # a meter may raise anything; the parent tells which one it was
                traceback.print_exc()
                told = {
                    "message": f"the meter {meter.name} cannot be opened: {type(error).__name__}: {error}",
                    "code": "meter_failed",
                }
                failed.append((meter.name, {**told, "hint": "see the worker's log, and `llem doctor`"}))
        domains = [(meter.name, attrs.asdict(domain)) for meter, listed in opened for domain in listed]
        answer({"domains": domains, "failed": failed})
        _serve(opened, spec, answer)


def _serve(opened: Sequence[tuple[Meter, Sequence[Domain]]], spec: Mapping[str, Any], answer: Answer) -> None:
    from llem.devices.nvml import Nvml
    from llem.meters.sampling import Sampling

    nvml = Nvml.open() if spec["gpu_uuids"] else None
    commands, tell = _commands(sys.stdin), _teller(spec["power"])
    try:
        while commands.get() == "begin":
            sampling = Sampling(opened, time.monotonic_ns)
            if nvml is not None:
                for uuid in spec["gpu_uuids"]:
                    sampling.add_health(nvml, uuid)
            gaps = _read_until_end(sampling, commands, tell)
            if gaps is None:
                return
            rows, errors = sampling.take()
            answer({"rows": [attrs.astuple(row) for row in rows], "errors": errors, "gaps": gaps})
    finally:
        if nvml is not None:
            nvml.close()


def _read_until_end(sampling: Any, commands: queue.Queue[str], tell: Tell | None) -> list[tuple[int, int]] | None:
    """Read until `end`, or the end of input (None); times in which it was held up, by the system or in a read."""
    told_ns = begin_ns = time.monotonic_ns()
    gaps: list[tuple[int, int]] = []
    wait_s = 0.0
    while True:
        last_ns, begin_ns = begin_ns, time.monotonic_ns()
        if begin_ns - last_ns > wait_s * 1e9 + LATE_NS:
            gaps.append((last_ns, begin_ns))
        due_ns = sampling.step()
        now_ns = time.monotonic_ns()
        if tell is not None and now_ns - told_ns > 1_000_000_000:
            told_ns = now_ns
            tell(sampling.watts())
        wait_s = min(max(due_ns - now_ns, 0) / 1e9, WAKE_S)
        try:
            command = commands.get(timeout=wait_s)
        except queue.Empty:
            continue
        if command == "thin":
            sampling.thin()
        elif command == "dense":
            sampling.dense()
        else:
            return gaps if command == "end" else None


if __name__ == "__main__":
    main()
