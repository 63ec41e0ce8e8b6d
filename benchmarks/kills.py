"""Kills, pauses and failing nodes at random moments of a study; what is lost, doubled or not told. Prints a table.

    python benchmarks/kills.py [ROUNDS] [SEED] [local | slurm | all] [KIND …]

Each round begins a study, does one thing to it at a random moment, looks at what is left, and goes on with `--resume`
to the end. Rounds under Slurm are on one of their own, started as the tests of llem-slurm start it: they need root,
Debian's packages and pytest. A full disk is a small file system of its own, which needs root too. A server that is
paused is that of the tests of llem-openai. Counted for each kind of round:

hit         rounds in which the study still ran
reached     windows that a pause reached into
lost        trials that were stored, and then are not, or are others; and those that are missing in the end
doubled     trials measured again although they were stored; and trials of one experiment that two workers were at
untold      those of the windows reached that no finding is with
verify      whatever `llem verify` names, in the store as the fault left it and in the end; and a status other than 0
unfinished  studies that did not come to their end when they went on
orphans     processes of a round that were still there some seconds after its end
leases      leases that are still there in the end
tracebacks  commands that ended with a traceback, or with status 70
repeated    trials that had begun when the fault came, were not stored, and were measured again: no fault
invalid     results that are not valid although nothing was paused, as may be where the machine is busy
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from fault_rounds import TRIALS, Round, at_once, begun, named, paused_windows, results, send, stored

TESTS = Path(__file__).parents[1] / "tests"
COUNTED = ("lost", "doubled", "untold", "verify", "unfinished", "orphans", "leases", "tracebacks")
GONE_S, DISK_BYTES = 15.0, 6 << 20


# what is done


def _who(one: Round, who: str) -> list[int]:
    command = [process.pid for process in one.running]
    return {"worker": one.workers(), "command": command, "both": [*one.workers(), *command]}[who]


def signalled(one: Round, who: str, number: signal.Signals) -> None:
    one.start()
    one.moment()
    send(_who(one, who), number)


def paused(one: Round, who: str) -> None:
    one.start()
    one.moment()
    one.within_a_trial()
    one.pause(_who(one, who), who != "command")


def killed_while_it_writes(one: Round) -> None:
    """A file that has no name yet lies in the folder of a lease, or a line of a journal has no end."""
    one.start()
    one.moment()
    one.hit = one.until(lambda: any(path.name != "holder.json" for path in one.out.glob("experiments/*/.lease*/*/*")))
    send(_who(one, "both"), signal.SIGKILL)


def killed_twice(one: Round) -> None:
    """The second time while it resumes."""
    signalled(one, "both", signal.SIGKILL)
    one.end()
    signalled(one, one.chance.choice(("worker", "command", "both")), signal.SIGKILL)


def resumed_twice(one: Round) -> None:
    """By two commands at once."""
    signalled(one, "both", signal.SIGKILL)
    one.end()
    one.start()
    one.start()


def resumed_beside_an_old_worker(one: Round) -> None:
    """Which is stopped when its command is killed, and then goes on."""
    one.start()
    one.moment()
    workers = one.workers()
    send(workers, signal.SIGSTOP)
    send(_who(one, "command"), signal.SIGKILL)
    one.end()
    one.start()
    time.sleep(one.chance.uniform(0.5, 4.0))
    send(workers, signal.SIGCONT)


def two_studies(one: Round) -> None:
    """Another one is begun into the same folder."""
    one.start()
    one.moment()
    one.start([{"kind": "offline", "batch_size": 3}])


def full_disk(one: Round) -> None:
    ballast = one.out / "experiments" / "ballast"
    one.out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "kills", str(one.out)], check=True)
    one.start()
    one.moment()
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    one.end()
    ballast.unlink(missing_ok=True)


def paused_server(one: Round) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        one.served = free.getsockname()[1]
    command = [sys.executable, str(TESTS / "openai" / "endpoint.py"), "--port", str(one.served), "--delay", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            time.sleep(1.0)
            one.start()
            one.moment()
            one.within_a_trial()
            one.pause([server.pid])
            one.end()
            go_on(one)
        finally:
            server.kill()


# what is done under Slurm


def node(one: Round, state: str) -> None:
    """The node is set to a state, and comes back."""
    one.start()
    one.moment()
    _set_node(one, state)
    time.sleep(one.chance.uniform(0.0, 3.0))
    _set_node(one, "RESUME")


def cut_off(one: Round) -> None:
    """The node fails, and the worker there lives on, since nobody can end it; it may be paused too."""
    one.start()
    one.moment()
    for pid in one.workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            keepers = [keeper.pid for keeper in psutil.Process(pid).parents() if "slurmstepd" in keeper.name()]
            send(keepers, signal.SIGKILL)
    _set_node(one, "DOWN")
    _set_node(one, "RESUME")
    if one.chance.random() < 0.5:
        one.pause(one.workers())


def slurmd_killed(one: Round) -> None:
    one.start()
    one.moment()
    pid_file = one.cluster.folder / "slurmd.pid"
    send([int(pid_file.read_text())], signal.SIGKILL)
    time.sleep(one.chance.uniform(0.5, 4.0))
    subprocess.run(["slurmd", "-N", "node0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def asked(one: Round, *command: str) -> None:
    """A command of Slurm for every job."""
    one.start()
    one.moment()
    for job in one.cluster.jobs():
        one.cluster.ask(*(word.replace("JOB", job) for word in command))


def resumed_beside_a_job(one: Round) -> None:
    """The command is killed, its job goes on."""
    signalled(one, "command", signal.SIGKILL)
    one.end()


def _set_node(one: Round, state: str) -> None:
    one.cluster.ask("scontrol", "update", "NodeName=node0", f"State={state}", "Reason=round")


Kind = Callable[[Round], None]
LOCAL: dict[str, Kind] = {
    **{f"kill {who}": functools.partial(signalled, who=who, number=signal.SIGKILL) for who in ("worker", "command")},
    "kill both": functools.partial(signalled, who="both", number=signal.SIGKILL),
    "kill while a file is written": killed_while_it_writes,
    "kill, and kill while it resumes": killed_twice,
    **{f"term {who}": functools.partial(signalled, who=who, number=signal.SIGTERM) for who in ("worker", "command")},
    **{f"pause {who}": functools.partial(paused, who=who) for who in ("worker", "command", "both")},
    "pause server": paused_server,
    "two resume at once": resumed_twice,
    "resume beside an old worker": resumed_beside_an_old_worker,
    "two studies in one folder": two_studies,
    "full disk": full_disk,
}
SLURM: dict[str, Kind] = {
    "slurm: node set DOWN": functools.partial(node, state="DOWN"),
    "slurm: node set FAIL": functools.partial(node, state="FAIL"),
    "slurm: node cut off": cut_off,
    "slurm: kill slurmd": slurmd_killed,
    "slurm: kill worker": functools.partial(signalled, who="worker", number=signal.SIGKILL),
    "slurm: pause worker": functools.partial(paused, who="worker"),
    "slurm: kill step": lambda one: asked(one, "scancel", "--signal=KILL", "JOB.0"),
    "slurm: scancel": lambda one: asked(one, "scancel", "JOB"),
    "slurm: requeue": lambda one: asked(one, "scontrol", "requeue", "JOB"),
    "slurm: resume beside a job": resumed_beside_a_job,
}


def go_on(one: Round) -> bool:
    """Resume to the end. A result that is not valid ends a command with 1, and not the study."""
    one.start()
    [status] = one.end()
    done = [result.outcome for result in results(one.out)] == ["done"] * 2
    return status in (0, 1) and done and len(stored(one.out)) == TRIALS


def one_round(one: Round, do: Kind) -> Counter[str]:
    """Do it, look, go on, look."""
    do(one)
    one.end()
    found = named(one.out) if not one.family() else []  # beside a worker that lives on the store is not as it will be
    before, began = stored(one.out), begun(one.out)
    whole = go_on(one) if one.served is None else len(before) == TRIALS
    after, again = stored(one.out), begun(one.out)
    found += named(one.out)
    checked = subprocess.run([sys.executable, "-m", "llem", "verify", str(one.out)], capture_output=True, check=False)
    late = time.monotonic() + GONE_S
    while (orphans := one.family()) and time.monotonic() < late:
        time.sleep(0.1)
    send([process.pid for process in orphans], signal.SIGKILL)
    reached, untold = paused_windows(one.out, one.pauses)
    seen = Counter(
        hit=one.hit,
        reached=reached,
        lost=sum(1 for turn, content in before.items() if after.get(turn) != content) + TRIALS - len(after),
        doubled=sum(1 for turn in before if again[turn] > began[turn]) + at_once(one.out),
        untold=untold,
        verify=len(found) + (checked.returncode != 0),
        unfinished=not whole,
        orphans=len(orphans),
        leases=len(list(one.out.glob("experiments/*/.lease*"))),
        tracebacks=sum(1 for status, told in one.told if status == 70 or "Traceback" in told),
        repeated=sum(1 for turn in began if turn not in before),
        invalid=0 if one.pauses else sum(1 for result in results(one.out) if not result.valid),
    )
    if any(seen[name] for name in COUNTED):
        print(seen, *one.told, *found, checked.stdout.decode(), sep="\n", file=sys.stderr, flush=True)
    return seen


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Any]:
    """The Slurm of the tests, in this process's environment."""
    spec = importlib.util.spec_from_file_location("slurm_of_tests", TESTS / "slurm" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.started(folder) as cluster:
        os.environ.update(cluster.environment)
        try:
            yield cluster
        finally:
            with contextlib.suppress(OSError, ValueError):
                send([int((folder / "slurmd.pid").read_text())], signal.SIGTERM)


def table(rounds: int, seed: int, kinds: dict[str, Kind], cluster: Any = None) -> dict[str, Counter[str]]:
    """So many rounds, as many of each kind; a round's chances are by its number."""
    found: dict[str, Counter[str]] = {name: Counter(rounds=0) for name in kinds}
    for number in range(rounds):
        name = list(kinds)[number % len(kinds)]
        launcher = "process" if cluster is None else "slurm"
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            one = Round(Path(folder), random.Random(f"{seed} {number}"), launcher, cluster)
            try:
                seen = one_round(one, kinds[name])
            finally:
                one.close()
                if os.path.ismount(one.out):
                    subprocess.run(["umount", "--lazy", str(one.out)], check=True)
        found[name].update(rounds=1, **seen)
        print(f"{number} {name}: {dict(+seen)}", file=sys.stderr, flush=True)
    return found


def hit(seed: int, name: str, do: Kind, cluster: Any = None, most: int = 4) -> Counter[str]:
    """Rounds of a kind until one is hit, at most so many: what all of them counted."""
    found: Counter[str] = Counter()
    for draw in range(most):
        found += table(1, seed + 1000 * draw, {name: do}, cluster)[name]
        if found["hit"]:
            break
    return found


def shown(found: dict[str, Counter[str]]) -> str:
    """The table, as Markdown."""
    columns = ("rounds", "hit", "reached", *COUNTED, "repeated", "invalid")
    rows = [*found.items(), ("all", sum(found.values(), Counter()))]
    lines = [["kind", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *(str(row[column]) for column in columns)] for name, row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    asked_for = dict(enumerate(sys.argv[1:]))
    many, first, where = int(asked_for.get(0, 100)), int(asked_for.get(1, 0)), asked_for.get(2, "local")
    only = sys.argv[4:]
    local, remote = ({n: k for n, k in kinds.items() if not only or n in only} for kinds in (LOCAL, SLURM))
    result: dict[str, Counter[str]] = {}
    if where in ("local", "all"):
        result |= table(many, first, local)
    if where in ("slurm", "all"):
        with tempfile.TemporaryDirectory(prefix="slurm-") as place, slurm(Path(place)) as started:
            result |= table(many, first, remote, started)
    print(shown(result))
