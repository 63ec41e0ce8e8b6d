"""How well llem's client measures: against a server that logs the true times, beside other tools, in one run.

    python benchmarks/client.py [--guidellm PATH] [--aiperf PATH] [--vllm-python PATH] [--quick] [--loads NAMES]
                                [--tools NAMES] [--minutes N] [--realtime] [--out FILE] [--work FOLDER]
    python benchmarks/client.py --page [FILE]       write the tables of a figures file into docs/explanation/client.md

The server (`true_server.c`, compiled with `cc`) streams at chosen times and logs when it read each request and when it
handed the first and the last token to the socket. It has one core, and a tool with all its processes has another one.
Each load runs through each tool in turn, against a new server. `client_truth.py` says how requests are matched with the
log, `client_tools.py` what each tool is told. A tool whose program is not given is left out, and told.

Errors are what a tool states (mean, median and 99th percentile), less the same figure by the log over the same
requests. The log's times are of the server: from when it had read the request to when it wrote. The network between, a
loopback, is some 0.05 ms. The table says where the server itself was late, or other processes used the machine.

CPU per event is that of all processes of a tool while the load ran (the middle 80 % of it), over the tokens that the
server wrote in this time. The figures hold exact commands, versions and all errors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from client_table import costs, page, tables
from client_tools import Load, Tool, aiperf, bare, guidellm, llem, vllm_bench, write_tokenizer
from client_truth import NoTruth, Server, build, errors, events_until, lateness, matched, own, served, single, truth

TTFT_S, ITL_S = 0.1, 0.02
LONG, SHORT = (32, 256), (8, 16)
LIMIT_S = 240.0
#: A run is not begun with less than this left of the time for all.
RUN_S = 60.0
#: Loads that every tool runs before the others begin.
FIRST = ("closed-512", "open-200", "closed-64", "closed-64-short")
EVERY_S = 0.5
FIGURES = Path(__file__).parent / "figures" / "cpu-2026-11"
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "client.md"


def load(kind: str, size: int, lengths: tuple[int, int], seconds: float) -> Load:
    """A load whose tools that take a number of requests send for about so long."""
    inputs, outputs = lengths
    whole_s = TTFT_S + ITL_S * (outputs - 1)
    rounds = max(round(seconds / whole_s), 2)
    requests = size * rounds if kind == "closed" else round(size * seconds)
    name = f"{kind}-{size}" + ("-short" if lengths == SHORT else "")
    return Load(name, kind, size, requests, seconds, inputs, outputs, whole_s if kind == "closed" else 0.0)


def loads(quick: bool) -> list[Load]:
    """All, or those of a quick look."""
    seconds = 6.0
    if quick:
        return [load("closed", 64, SHORT, seconds), load("closed", 512, LONG, seconds)]
    closed = [load("closed", size, LONG, seconds) for size in (16, 64, 256, 512)]
    opened = [load("open", rate, LONG, seconds) for rate in (50, 200)]
    return [*closed, *opened, load("closed", 64, SHORT, seconds), load("open", 200, SHORT, seconds)]


@attrs.frozen
class Cores:
    """Which core the server has, and which ones a tool: None where there is one only."""

    server: set[int] | None
    tool: set[int] | None
    two: set[int] | None

    @classmethod
    def here(cls) -> Cores:
        """Of the cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            return cls(None, None, None)
        return cls({usable[0]}, {usable[1]}, set(usable[1:3]) if len(usable) > 2 else None)


# CPU time of a tool


def _stat(pid: int) -> tuple[int, int] | None:
    """Parent and ticks of a process, those of its ended children included; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return int(fields[1]), sum(map(int, fields[11:15]))


def ticks_below(root: int) -> int:
    """Clock ticks of a process and all below it."""
    found = {
        int(one.name): told for one in Path("/proc").iterdir() if one.name.isdigit() if (told := _stat(int(one.name)))
    }
    below, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _) in found.items() if parent in below} - below
        below |= more
        grown = bool(more)
    return sum(found[pid][1] for pid in below if pid in found)


def busy_s() -> float:
    """CPU seconds that the whole machine has used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Reads a tool's CPU time now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.ended = threading.Event()
        self.samples: list[tuple[int, float]] = []

    def run(self) -> None:
        """Until it is told to end."""
        while not self.ended.wait(EVERY_S):
            self.samples.append((time.monotonic_ns(), ticks_below(self.pid) / os.sysconf("SC_CLK_TCK")))

    def at(self, when: float) -> float:
        """CPU seconds used by a time, ns."""
        before = [one for one in self.samples if one[0] <= when]
        after = [one for one in self.samples if one[0] > when]
        if not before or not after:
            raise ValueError("the load ran while no CPU time was read")
        (t0, cpu0), (t1, cpu1) = before[-1], after[0]
        return cpu0 + (cpu1 - cpu0) * (when - t0) / (t1 - t0)


@attrs.frozen
class Ran:
    """How a command ran."""

    code: int | None
    wall_s: float
    cpu_s: float
    since_s: float
    watch: Watch
    output: str


@attrs.frozen
class Place:
    """Where a tool runs: its cores, None where they are not chosen, and whether it comes before all else on them."""

    cores: set[int] | None
    realtime: bool = False

    def take(self) -> None:
        """In the tool's first process, before it begins."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        if self.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def named(word: str, folder: Path) -> str:
    """A word of a command without the folders of this machine."""
    word = word.replace(str(folder), "WORK").replace(str(folder.parent), "WORK")
    return Path(word).name if word.startswith("/") else word


def execute(command: Sequence[str], environment: Mapping[str, str], place: Place, folder: Path) -> Ran:
    """Run a tool's command in its place. Past the limit it is ended with all its processes, and its code is None."""
    log = folder / "output.txt"
    since_s, begin = time.time(), time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=place.take,
        )  # fmt: skip
        watch = Watch(process.pid)
        watch.start()
        late = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            in_time = late.is_alive()
            late.cancel()
            watch.ended.set()
            watch.join()
            if process.returncode is None:  # interrupted
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    wall_s = time.monotonic() - begin
    code = process.returncode if in_time else None
    return Ran(code, wall_s, used.ru_utime + used.ru_stime, since_s, watch, log.read_text(errors="replace")[-2000:])


# One run


def measure(
    tool: Tool, asked: Load, program: Path, core: set[int] | None, folder: Path, place: Place
) -> dict[str, Any]:
    """A load through a tool, held against the log. Raises NoTruth."""
    folder.mkdir(parents=True)
    before = busy_s()
    with served(program, folder, TTFT_S, ITL_S, core) as server:
        command = tool.command(asked, server.url, folder)
        ran = execute(command, tool.environment, place, folder)
    others_s = busy_s() - before - ran.cpu_s - server.cpu_s
    report: dict[str, Any] = {
        "tool": tool.name, "load": asked.name, "command": [named(word, folder) for word in command],
        "environment": {name: value for name, value in tool.environment.items() if name != "PYTHONPATH"},
        "wall_s": ran.wall_s, "cpu_s": ran.cpu_s, "others_cpu_share": max(others_s, 0.0) / ran.wall_s,
        "code": ran.code,
    }  # fmt: skip
    try:
        report |= judged(tool, asked, ran, server, folder)
    except Exception as error:  # a tool that fails does not end the others: its row says why
        report["failed"] = f"{type(error).__name__}: {error}" if ran.code == 0 else f"ended with {ran.code}"
        report["output"] = ran.output
    return report


def judged(tool: Tool, asked: Load, ran: Ran, server: Server, folder: Path) -> dict[str, Any]:
    """What a tool says, held against the log."""
    said = tool.read(asked, folder, ran.since_s)
    pairs = matched(said.requests, server.log)
    counted = [pair for pair in pairs if pair[0].counts]
    if not counted:
        raise ValueError(
            f"of its {len(said.requests)} requests {len(pairs)} are in the log, and none ended in its window"
        )
    true, rows = truth(counted), own(counted)
    stated = dict(said.figures) or rows
    begin, end = min(row.first for _, row in pairs), max(row.last for _, row in pairs)
    low, high = begin + 0.1 * (end - begin), begin + 0.9 * (end - begin)
    cpu_s = ran.watch.at(high) - ran.watch.at(low)
    events = events_until(server.log, high) - events_until(server.log, low)
    requests = sum(low <= row.received < high for row in server.log)
    return {
        "requests": len(counted), "seen": len(said.requests), "logged": len(server.log), "lost": said.lost,
        "unmatched": len(said.requests) - len(pairs), "truth": true, "stated": stated, "rows": rows,
        "error": errors(stated, true), "error_of_rows": errors(rows, true), "single": single(counted),
        "wrong_counts": sum(seen.tokens != row.tokens for seen, row in counted),
        "server": lateness(counted, server), "findings": list(said.findings), "facts": dict(said.facts),
        "during": {"cpu_s": cpu_s, "seconds": (high - low) / 1e9, "events": events, "requests": requests,
                   "us_per_event": 1e6 * cpu_s / events if events else None},
    }  # fmt: skip


def tools(options: argparse.Namespace, folder: Path) -> tuple[list[Tool], list[str]]:
    """Those that are given, and a line on each one that is not."""
    found, left = [bare(), llem()], []
    given = {
        "guidellm": lambda path: guidellm(path),
        "aiperf": lambda path: aiperf(path, folder / "hf"),
        "vllm_python": lambda path: vllm_bench(path),
    }
    for name, make in given.items():
        path = getattr(options, name)
        if path is None:
            left.append(f"--{name.replace('_', '-')} is not given: left out")
        elif not path.exists():
            left.append(f"{path} is not there: left out")
        else:
            found.append(make(path.absolute()))
    if options.tools:
        found = [tool for tool in found if tool.name.lower().startswith(tuple(options.tools.lower().split(",")))]
    return found, left


def plan(found: Sequence[Tool], asked: Sequence[Load], cores: Cores) -> list[tuple[Load, Tool, set[int] | None]]:
    """Which runs there are, with the cores of the tool, and what matters most first."""
    here = [tool for tool in found if tool.name in ("bare protocol", "llem")]
    first = [one for one in asked if one.name in FIRST]
    others = [one for one in asked if one.name not in FIRST]
    runs = [(one, tool, cores.tool) for one in first for tool in found]
    runs += [(one, tool, cores.tool) for one in others for tool in here]
    hard = next((one for one in asked if one.name == "closed-512"), None)
    if hard is not None and any(tool.name == "llem" for tool in here):  # the other tools begin all at once
        runs += [(hard, llem("llem, all at once", "load.ramp_s=0"), cores.tool)]
        runs += [(hard, bare("bare protocol, all at once", at_once=True), cores.tool)]
        for count in (1, 2) if cores.two else ():
            tool = llem(f"llem, {count} of 2 client processes", f"openai.client_processes={count}")
            runs += [(hard, tool, cores.two)]
    return runs + [(one, tool, cores.tool) for one in others for tool in found if tool not in here]


def machine(cores: Cores) -> dict[str, Any]:
    """Where the figures come from."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(), "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), "python": platform.python_version(),
        "server_core": sorted(cores.server or ()), "tool_core": sorted(cores.tool or ()),
        "load_average_before": os.getloadavg()[0],
    }  # fmt: skip


def commit() -> str:
    """Of the repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def benchmark(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs. Raises NoTruth."""
    program, cores = build(folder), Cores.here()
    here = machine(cores)
    write_tokenizer(folder)
    found, left = tools(options, folder)
    asked = [one for one in loads(options.quick) if not options.loads or one.name in options.loads.split(",")]
    if cores.server is None:
        left.append("one core only: the server and the tools share it, and errors are of both")
    else:
        os.sched_setaffinity(0, cores.server)  # what watches does not take the tool's core
    if options.realtime:
        left.append("the tools came before all other processes on their core (`--realtime`)")
    if cores.two is None:
        left.append("fewer than three cores: one and two client processes are not compared")
    for line in left:
        print(line, file=sys.stderr)
    report: dict[str, Any] = {
        "machine": here, "commit": commit(), "versions": {tool.name: tool.version for tool in found},
        "true": {"ttft_s": TTFT_S, "itl_s": ITL_S}, "realtime": options.realtime, "left_out": left,
        "loads": [attrs.asdict(one) for one in asked], "runs": [],
    }  # fmt: skip
    begin = time.monotonic()
    runs = plan(found, asked, cores)
    for number, (one, tool, on) in enumerate(runs):
        if time.monotonic() - begin > 60 * options.minutes - RUN_S:
            missing = ", ".join(f"{tool.name} on {one.name}" for one, tool, _ in runs[number:])
            left.append(f"the time was over before {missing}")
            report["left_out"] = left
            break
        run = measure(tool, one, program, cores.server, folder / f"run-{number}", Place(on, options.realtime))
        report["runs"].append(run)
        print(f"{time.monotonic() - begin:5.0f} s  {line_of(run)}", file=sys.stderr, flush=True)
        keep(report, time.monotonic() - begin, options.out, folder)
    keep(report, time.monotonic() - begin, options.out, folder)
    return report


def keep(report: dict[str, Any], took_s: float, out: Path, folder: Path) -> None:
    """Write what there is by now."""
    report["took_s"], report["costs"] = took_s, costs(report["runs"])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rounded(report, folder), indent=1) + "\n")


def line_of(run: Mapping[str, Any]) -> str:
    """A run, as it is told while the others are still to come."""
    if "failed" in run:
        return f"{run['load']:16} {run['tool']:26} failed: {run['failed']}"
    error, cost = run["error"], run["during"]["us_per_event"] or float("nan")
    return (
        f"{run['load']:16} {run['tool']:26} "
        f"TTFT {error['ttft_mean_ms']:+8.2f} ms, p99 {error['ttft_p99_ms']:+8.2f} ms, "
        f"ITL {error['itl_mean_percent']:+6.2f} %, {run['requests']} requests, CPU {run['cpu_s']:.1f} s, "
        f"{cost:.1f} µs an event, {run['wall_s']:.0f} s, server late {run['server']['late_p99_ms']:.2f} ms"
    )


def rounded(value: Any, folder: Path) -> Any:
    """Floats with six digits, and no path of this machine."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, str):
        return value.replace(str(folder), "WORK").replace(str(Path.home()), "~")
    if isinstance(value, Mapping):
        return {key: rounded(one, folder) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [rounded(one, folder) for one in value]
    return value


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description="How well llem's client measures, beside other tools.")
    parser.add_argument("--guidellm", type=Path, metavar="PROGRAM", help="GuideLLM's command")
    parser.add_argument("--aiperf", type=Path, metavar="PROGRAM", help="AIPerf's command")
    parser.add_argument("--vllm-python", type=Path, metavar="PYTHON", help="interpreter of an environment with vLLM")
    parser.add_argument("--quick", action="store_true", help="two loads only")
    parser.add_argument("--loads", default="", help="only these, by name, with commas between")
    parser.add_argument("--tools", default="", help="only those whose names begin so, with commas between")
    parser.add_argument("--minutes", type=float, default=15.0, help="no run begins that would end after this time")
    parser.add_argument(
        "--realtime", action="store_true", help="tools come before all else: on a machine with other work"
    )
    parser.add_argument("--out", type=Path, default=FIGURES / "client.json", help="the figures")
    parser.add_argument("--work", type=Path, help="keep the tools' own files here")
    parser.add_argument("--page", type=Path, nargs="?", const=FIGURES / "client.json", help="only write the page")
    return parser.parse_args()


def main() -> int:
    """Run what is asked for."""
    options = arguments()
    if options.page:
        PAGE.write_text(page(PAGE.read_text(), json.loads(options.page.read_text())))
        return 0
    with tempfile.TemporaryDirectory(prefix="llem-client-") as name:
        folder = (options.work or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report = benchmark(options, folder)
        except NoTruth as error:
            print(f"not measured: {error}", file=sys.stderr)
            return 3
    text = tables(report)
    options.out.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
