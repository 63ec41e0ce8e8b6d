"""SIGKILL, or SIGSTOP and SIGCONT, at random moments: to the worker, to the command that launched it, and to both.
Prints a table as JSON.

    python benchmarks/kills.py [ROUNDS] [SEED]

Each round begins a study of two engines on the echo backend, kills or pauses at a random moment, looks at what is left,
and goes on with `--resume` to the end. Counted over all rounds:

lost       trials that had begun and are not stored, in one round at most
doubled    trials that were measured again although they were stored
changed    stored trials whose file is another after the study went on
false_done experiments said to be done that lack trials, before or after going on
unlike     what `llem verify` names in the store as the kill left it, and when the study has gone on
unfinished studies that did not come to their end when they went on
left_over  processes that were still there some seconds after the kill
untold     windows that a pause reached into, and that no finding is with
leases     leases that are still there at the end
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from llem.metrics.verify import verify
from llem.store.journal import compared
from llem.store.store import Store

STUDY = """
name: kills
base:
  backend: echo
  device: cpu
  preset: quick
  window_s: 0.15
  warmup: {seconds: 0}
  baseline: {seconds: 0}
  workload: {input_tokens: 8, output_tokens: 8}
axes:
  load.batch_size: [1, 2, 4]
  echo.token_seconds: [0.001, 0.002]
trials: 3
"""
VICTIMS = ("worker", "parent", "both", "worker paused", "parent paused", "both paused")
#: Longest pause, and how much of one in a window has to be told.
PAUSE_S, TOLD_S = 2.0, 0.1
TRIALS, EXPERIMENTS = 3, 6
#: Longest time until the kill: a little more than the study takes.
LATEST_S = 7.0
GONE_S = 10.0


def start(folder: Path) -> subprocess.Popen[bytes]:
    """`llem run --resume` on the study, in the background."""
    command = [sys.executable, "-m", "llem", "run", str(folder / "study.yaml"), "-o", str(folder / "out"), "--resume"]
    return subprocess.Popen([*command, "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def workers(parent: int) -> list[psutil.Process]:
    """Worker processes of a command, their guards and other children left out."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(parent).children() if "worker" in child.cmdline()]
    return []


def events(store: Path) -> Iterator[dict]:
    """What all workers told; a last line that is cut off is left out."""
    for path in store.glob("workers/*/events.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


def stored(store: Path) -> dict[tuple[str, int], bytes]:
    """Trials that are stored, and the content of their files."""
    found = store.glob("experiments/*/trial-*.json")
    return {(path.parent.name, int(path.stem.split("-")[1])): path.read_bytes() for path in found}


def false_done(store: Path) -> int:
    """Experiments whose result or last outcome is `done` and that lack trials."""
    if not (store / "study.json").exists():
        return 0
    opened = Store.open(store)
    wrong = 0
    for name in opened.experiment_ids():
        result, outcomes = opened.read_result(name), opened.outcomes(name)
        said = (result is not None and result.outcome == "done") or (outcomes and outcomes[-1]["outcome"] == "done")
        wrong += bool(said and len(opened.trial_indices(name)) < TRIALS)
    return wrong


def unlike(store: Path) -> list[str]:
    """Whatever `llem verify` names."""
    if not (store / "study.json").exists():
        return []
    written = compared(store)
    return [*map(str, verify(Store.open(store))), *(map(str, written.altered) if written else ["no journal"])]


def one_round(folder: Path, victim: str, after_s: float, pause_s: float = 0.0) -> dict[str, int]:
    """Run, kill or pause, look, go on, look."""
    (folder / "study.yaml").write_text(STUDY)
    out = folder / "out"
    process = start(folder)
    time.sleep(after_s)
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    who, _, how = victim.partition(" ")
    doomed = [worker.pid for worker in workers(process.pid)] if who != "parent" else []
    doomed += [process.pid] if who != "worker" else []
    begin = time.monotonic_ns()
    killed = send(doomed, signal.SIGSTOP if how else signal.SIGKILL)
    if how:
        time.sleep(pause_s)
        send(doomed, signal.SIGCONT)
    pause = (begin, time.monotonic_ns() if how and who != "parent" else begin)
    process.communicate(timeout=120)
    left_over = sum(_remains(pid) for pid in family)
    before = stored(out)
    begun = Counter((e["id"], e["trial"]) for e in events(out) if e["event"] == "phase" and e["phase"] == "trial")
    lost = sum(1 for turn in begun if turn not in before)
    wrong, named = false_done(out), unlike(out)
    again = start(folder)
    _, told = again.communicate(timeout=180)
    after = stored(out)
    ended = Counter((e["id"], e["trial"]) for e in events(out) if e["event"] == "phase" and e["phase"] == "trial")
    fine = (0, 1) if how else (0,)  # a result with a pause in a window is not valid
    whole = len(after) == TRIALS * EXPERIMENTS and again.returncode in fine
    named += unlike(out)
    if named or not whole:
        print(told.decode(), *named, sep="\n", file=sys.stderr)
    return {
        "killed": killed,
        "lost": lost,
        "doubled": sum(1 for turn in before if ended[turn] > begun[turn]),
        "changed": sum(1 for turn, content in before.items() if after.get(turn) != content),
        "false_done": wrong + false_done(out),
        "unlike": len(named),
        "unfinished": int(not whole),
        "left_over": left_over,
        "untold": untold(out, pause),
        "leases": len(list(out.glob("experiments/*/.lease*"))),
    }


def send(pids: list[int], number: signal.Signals) -> int:
    """A signal to processes; 1 if any of them was there."""
    reached = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            reached = 1
    return reached


def untold(out: Path, pause: tuple[int, int]) -> int:
    """Windows that had a good part of a pause in them, and whose result does not say that something was paused."""
    store = Store.open(out)
    silent = 0
    for name in store.experiment_ids():
        result = store.read_result(name)
        told = {one.code for one in result.findings} if result is not None else set()
        for trial in store.trials(name):
            within_s = (min(pause[1], trial.t1_ns) - max(pause[0], trial.t0_ns)) / 1e9
            silent += within_s > TOLD_S and "paused" not in told
    return silent


def _remains(pid: int) -> int:
    until = time.monotonic() + GONE_S
    while time.monotonic() < until:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
                continue
        return 0
    return 1


def table(rounds: int, seed: int, latest_s: float = LATEST_S) -> dict[str, dict[str, int]]:
    """So many rounds, as many for each victim."""
    chance = random.Random(seed)
    found: dict[str, dict[str, int]] = {}
    for number in range(rounds):
        victim = VICTIMS[number % len(VICTIMS)]
        with tempfile.TemporaryDirectory() as folder:
            moment, pause_s = chance.uniform(0.2, latest_s), chance.uniform(0.2, PAUSE_S)
            seen = one_round(Path(folder), victim, moment, pause_s)
        row = found.setdefault(victim, {"rounds": 0, "most_lost": 0, **dict.fromkeys(seen, 0)})
        row["rounds"] += 1
        row["most_lost"] = max(row["most_lost"], seen["lost"])
        for name, count in seen.items():
            row[name] += count
    return found


if __name__ == "__main__":
    print(
        json.dumps(
            table(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 0),
            indent=2,
        )
    )
