"""A round of `kills.py`: a study in a folder of its own, the processes that belong to it, and what its store holds."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil

from llem.metrics.verify import verify
from llem.store.journal import compared
from llem.store.store import Store

STUDY = """
name: kills
base: {{device: cpu, preset: quick, baseline: {{seconds: 0}}, workload: {{input_tokens: 8, output_tokens: 5}}, {more}}}
axes:
  load: {loads}
trials: 4
"""
ECHO = "backend: echo, echo: {token_seconds: 0.02}, window_s: 0.6, warmup: {seconds: 0}"
#: A server, whose tokens are the only sign that it was stopped.
SERVED = (
    'backend: openai, model: "shape:tiny", dtype: auto, window_s: 1, warmup: {seconds: 0.3}, '
    'openai: {base_url: "http://127.0.0.1:%d/v1"}'
)
BATCHES = [{"kind": "offline", "batch_size": size} for size in (1, 2)]
CLIENTS = [{"kind": "closed", "concurrency": count} for count in (2, 4)]
TRIALS = 8
#: By this variable of its environment every process of a round is known, wherever it runs.
MARK = "LLEM_ROUND"
#: How long a pause lasts, and how much of one in a window has to be told.
PAUSE_S, TOLD_S = (0.5, 4.0), 0.15
TOLD = {"paused", "stalled", "stalls_recur", "window_off_plan"}
LATEST_S, END_S = 3.0, 240.0


@attrs.define
class Round:
    """One study in one folder, and what was done to it."""

    folder: Path
    chance: random.Random
    launcher: str = "process"
    cluster: Any = None
    served: int | None = None
    hit: bool = False
    pauses: list[tuple[int, int]] = attrs.field(factory=list)
    told: list[tuple[int, str]] = attrs.field(factory=list)
    running: list[subprocess.Popen[str]] = attrs.field(factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self, loads: list[dict[str, Any]] | None = None) -> subprocess.Popen[str]:
        """`llem run --resume`, in the background; of another study where loads are given."""
        path = self.folder / f"study-{len(self.told) + len(self.running)}.yaml"
        usual, more = (BATCHES, ECHO) if self.served is None else (CLIENTS, SERVED % self.served)
        path.write_text(STUDY.format(more=more, loads=json.dumps(loads or usual)))
        command = [sys.executable, "-m", "llem", "run", str(path), "-o", str(self.out), "--resume", "-q"]
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        whole = {**os.environ, MARK: str(self.folder)}
        started = subprocess.Popen([*command, "--launcher", self.launcher], env=whole, start_new_session=True, **pipes)
        self.running.append(started)
        return started

    def end(self) -> list[int]:
        """Wait until every command has ended; their statuses."""
        statuses = []
        for process in self.running:
            try:
                _, told = process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                _, told = process.communicate()
                told += "\nnot at its end in time"
            statuses.append(process.returncode)
            self.told.append((process.returncode, told))
        self.running.clear()
        return statuses

    def close(self) -> None:
        """Kill whatever is left of the round."""
        send([one.pid for one in self.family()], signal.SIGKILL)
        self.end()

    def family(self, *words: str) -> list[psutil.Process]:
        """Processes of this round, those with one of the words in their command; all where none is given."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if one.environ().get(MARK) != str(self.folder) or one.status() == psutil.STATUS_ZOMBIE:
                    continue
                if not words or set(words) & set(one.cmdline()):
                    found.append(one)
        return found

    def workers(self) -> list[int]:
        return [one.pid for one in self.family("worker")]

    def moment(self) -> None:
        """Let a random time pass: from the start, or from a random trial on."""
        least = self.chance.randrange(-3, TRIALS - 2)
        seconds = self.chance.uniform(0.0, LATEST_S if least < 0 else 0.6)
        self.until(lambda: least < 1 or len(list(self.out.glob("experiments/*/trial-*.json"))) >= least)
        time.sleep(seconds)
        self.hit = any(process.poll() is None for process in self.running)

    def within_a_trial(self) -> None:
        """Go on to the next trial that is under way, and a random part of a short window into it."""

        def last(path: Path) -> bytes:
            return path.read_bytes().rstrip().rpartition(b"\n")[2]

        self.until(lambda: any(b'"phase": "trial"' in last(path) for path in self.out.glob("workers/*/events.jsonl")))
        time.sleep(self.chance.uniform(0.0, 0.2))

    def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> bool:
        """Wait for the condition, or until every command has ended."""
        late = time.monotonic() + seconds
        while not (found := bool(condition())) and time.monotonic() < late:
            if all(process.poll() is not None for process in self.running):
                break
            time.sleep(0.05)
        return found

    def pause(self, pids: list[int], measures: bool = True) -> None:
        """SIGSTOP, some time, SIGCONT."""
        begin = time.monotonic_ns()
        send(pids, signal.SIGSTOP)
        time.sleep(self.chance.uniform(*PAUSE_S))
        end = time.monotonic_ns()
        send(pids, signal.SIGCONT)
        if pids and measures:
            self.pauses.append((begin, end))


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stored(store: Path) -> dict[tuple[str, int], bytes]:
    """Trials that are stored, and the content of their files."""
    found = store.glob("experiments/*/trial-*.json")
    return {(path.parent.name, int(path.stem.split("-")[1])): path.read_bytes() for path in found}


def events(store: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """What all workers told, with their numbers; a last line that is cut off is left out."""
    for path in store.glob("workers/*/events.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield int(path.parent.name), json.loads(line)


def begun(store: Path) -> Counter[tuple[str, int]]:
    """How often each trial began."""
    return Counter((one["id"], one["trial"]) for _, one in events(store) if one.get("phase") == "trial")


def at_once(store: Path) -> int:
    """Trials that a worker began while another was at one of the same experiment, by their windows and by events."""
    spans: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    since: dict[int, int] = {}
    for worker, event in events(store):
        if event.get("phase") == "trial":
            since[worker] = event["at"]["monotonic_ns"]
        elif event["event"] == "trial" and worker in since:
            spans[event["id"]].append((since.pop(worker), event["at"]["monotonic_ns"], worker))
    for name, _ in stored(store):
        windows = [(one.t0_ns, one.t1_ns, -1 - one.index) for one in Store.open(store).trials(name)]
        spans[f"windows of {name}"] = windows
    found = 0
    for one in spans.values():
        ordered = sorted(one)
        found += sum(1 for first, then in itertools.pairwise(ordered) if then[0] < first[1] and first[2] != then[2])
    return found


def named(store: Path) -> list[str]:
    """Whatever `llem verify` names."""
    if not (store / "study.json").exists():
        return []
    written = compared(store)
    return [*map(str, verify(Store.open(store))), *(map(str, written.altered) if written else ["no journal"])]


def paused_windows(out: Path, pauses: list[tuple[int, int]]) -> tuple[int, int]:
    """Windows that had a good part of a pause in them, and those of them whose result does not say so."""
    store, reached, silent = Store.open(out), 0, 0
    for name in store.experiment_ids() if pauses else ():
        result = store.read_result(name)
        told = {one.code for one in result.findings} if result is not None else set()
        for trial in store.trials(name):
            within_s = max((min(end, trial.t1_ns) - max(begin, trial.t0_ns)) / 1e9 for begin, end in pauses)
            reached += within_s > TOLD_S
            silent += within_s > TOLD_S and not told & TOLD
    return reached, silent


def results(store: Path) -> list[Any]:
    """Those that are there; experiments without one are not."""
    opened = Store.open(store)
    return [found for name in opened.experiment_ids() if (found := opened.read_result(name)) is not None]
