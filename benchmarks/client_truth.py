"""The server of `true_server.c`, its log, and how far a tool's times are from it."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

SOURCE = Path(__file__).with_name("true_server.c")
MODEL = "truth"

#: If the server itself wrote this late, a tool is not blamed for what it measured.
LATE_S = 0.002


class NoTruth(Exception):
    """Why there is no server to hold clients against, in words."""


def build(folder: Path) -> Path:
    """The server, compiled. Raises NoTruth."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoTruth("no C compiler (cc, gcc, clang) is here: the server with true times cannot be built")
    program = folder / "true_server"
    done = subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True)
    if done.returncode:
        raise NoTruth(f"{compiler} does not compile {SOURCE.name}: {done.stderr.strip()[-500:]}")
    return program


@attrs.frozen
class Asked:
    """A request as the server logged it; times are monotonic nanoseconds.

    Attributes:
        received, first, last: when it was read, and when its first and its last token were handed to the socket.
        asked, tokens: asked for and written.
        late: the latest of its writes, behind the time at which it was due.
        held: writes that the socket did not take at once.
    """

    received: int
    first: int
    last: int
    asked: int
    tokens: int
    late: int
    held: int

    @property
    def whole(self) -> bool:
        """Every token was written."""
        return self.tokens == self.asked

    @property
    def ttft_s(self) -> float:
        """From the request's arrival to its first token."""
        return (self.first - self.received) / 1e9

    @property
    def itl_s(self) -> float:
        """Mean time between tokens, after the first."""
        return (self.last - self.first) / 1e9 / (self.tokens - 1)

    @property
    def e2el_s(self) -> float:
        """From the request's arrival to its last token."""
        return (self.last - self.received) / 1e9


@attrs.define
class Server:
    """A server that runs; `log`, `turn_s` and `cpu_s` are there once it has ended.

    `realtime` says whether it comes before all else that wants its core, so that other processes do not make it late.
    """

    url: str
    realtime: bool = False
    log: list[Asked] = attrs.field(factory=list)
    turn_s: float = 0.0
    cpu_s: float = 0.0


def first_of_all(pid: int) -> bool:
    """Give a process the scheduler's lowest real-time priority, where this user may."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    return True


@contextmanager
def served(program: Path, folder: Path, ttft_s: float, itl_s: float, cores: set[int] | None) -> Iterator[Server]:
    """The server on these cores while the block runs. Raises NoTruth."""
    path = folder / "truth.csv"
    command = [str(program), str(path), str(round(ttft_s * 1e9)), str(round(itl_s * 1e9))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if cores:
            os.sched_setaffinity(process.pid, cores)
        told = process.stdout.readline() if process.stdout else ""
        if not told.startswith("port "):
            raise NoTruth(f"the server did not start: {told.strip() or 'it says nothing'}")
        server = Server(f"http://127.0.0.1:{told.split()[1]}", realtime=first_of_all(process.pid))
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.stdout:
            process.stdout.close()
    server.cpu_s = used.ru_utime + used.ru_stime
    server.log, server.turn_s = read_log(path)


def read_log(path: Path) -> tuple[list[Asked], float]:
    """Its requests in order of arrival, and the server's longest turn, seconds."""
    lines = path.read_text().splitlines()
    turn = next((int(line.split()[-1]) for line in lines if line.startswith("# turn")), 0)
    names = [field.name for field in attrs.fields(Asked)]
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    log = [Asked(**{name: int(row[name]) for name in names}) for row in rows]
    return sorted(log, key=lambda one: one.received), turn / 1e9


@attrs.frozen
class Seen:
    """A request that a tool saw whole; times are monotonic nanoseconds.

    Attributes:
        start: when the tool says that it sent it.
        first, last: when it says that the first and the last token came.
        tokens: as the tool counts them.
        counts: whether the tool's own figures count it.
    """

    start: int
    first: int
    last: int
    tokens: int
    counts: bool = True


Pair = tuple[Seen, Asked]

#: A tool may stamp a request a little after the server had it: the two clocks of AIPerf and GuideLLM are two reads.
BEFORE_NS = 2_000_000


def matched(seen: Sequence[Seen], log: Sequence[Asked]) -> list[Pair]:
    """Each request that a tool saw whole, with the server's row of it.

    Both are in the order of their beginning. Of the rows that arrived after a request was sent, the first one that is
    free is taken: requests that begin together have the same true times, so which of them it is does not matter.
    """
    pairs: list[Pair] = []
    rows = iter(sorted((row for row in log if row.whole), key=lambda row: row.received))
    row = next(rows, None)
    for one in sorted(seen, key=lambda one: one.start):
        while row is not None and row.received < one.start - BEFORE_NS:
            row = next(rows, None)
        if row is None:
            break
        pairs.append((one, row))
        row = next(rows, None)
    return pairs


def percentile(values: Sequence[float], q: float) -> float:
    """By linear interpolation, as the tools do it."""
    ordered, at = sorted(values), q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles."""
    return {"mean": statistics.fmean(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


def truth(pairs: Sequence[Pair]) -> dict[str, float]:
    """What is true of the requests of these pairs, seconds: `ttft_mean`, `ttft_p50`, … of TTFT, ITL and E2EL."""
    many = [row for _, row in pairs if row.tokens > 1]
    columns = {
        "ttft": [row.ttft_s for _, row in pairs],
        "itl": [row.itl_s for row in many],
        "e2el": [row.e2el_s for _, row in pairs],
    }
    return {f"{name}_{part}": value for name, values in columns.items() for part, value in summary(values).items()}


def own(pairs: Sequence[Pair]) -> dict[str, float]:
    """The same by the tool's times of single requests, from the time at which it says that it sent them."""
    many = [one for one, _ in pairs if one.tokens > 1]
    columns = {
        "ttft": [(one.first - one.start) / 1e9 for one, _ in pairs],
        "itl": [(one.last - one.first) / 1e9 / (one.tokens - 1) for one in many],
        "e2el": [(one.last - one.start) / 1e9 for one, _ in pairs],
    }
    return {f"{name}_{part}": value for name, values in columns.items() for part, value in summary(values).items()}


def errors(said: Mapping[str, float], true: Mapping[str, float]) -> dict[str, float]:
    """Of each figure what is said, less what is true: TTFT and E2EL in milliseconds, ITL in percent."""
    found = {}
    for name, value in said.items():
        if name.startswith("itl"):
            found[f"{name}_percent"] = 100 * (value / true[name] - 1)
        elif name in true:
            found[f"{name}_ms"] = 1000 * (value - true[name])
    return found


def single(pairs: Sequence[Pair]) -> dict[str, float]:
    """How far the times of single requests are off: how late the first token was read, and the request written."""
    ttft = [((one.first - one.start) - (row.first - row.received)) / 1e6 for one, row in pairs]
    read = [(one.first - row.first) / 1e6 for one, row in pairs]
    sent = [(row.received - one.start) / 1e6 for one, row in pairs]
    parts = {"ttft_error": ttft, "first_read_late": read, "written_late": sent}
    return {
        f"{name}_{part}_ms": value
        for name, values in parts.items()
        for part, value in (*summary(values).items(), ("max", max(values)))
    }


def lateness(pairs: Sequence[Pair], server: Server) -> dict[str, Any]:
    """How the server itself fared over these requests."""
    late = [row.late / 1e6 for _, row in pairs]
    return {
        "late_p50_ms": percentile(late, 0.5),
        "late_p99_ms": percentile(late, 0.99),
        "late_max_ms": max(late),
        "longest_turn_ms": server.turn_s * 1000,
        "held_writes": sum(row.held for _, row in pairs),
        "cpu_s": server.cpu_s,
        "realtime": server.realtime,
        "was_late": percentile(late, 0.99) > LATE_S * 1000,
    }


def events_until(log: Sequence[Asked], at: float) -> float:
    """Tokens that the server had written by a time, ns; even between first and last."""
    count = 0.0
    for row in log:
        if at >= row.last:
            count += row.tokens
        elif at >= row.first:
            count += 1 + (row.tokens - 1) * (at - row.first) / max(row.last - row.first, 1)
    return count
