"""What this launcher asks Slurm besides submitting: what is in the queue, how a job ended, to end one."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

import attrs

from llem.errors import ConfigError, MachineError, nearest

__all__ = ["Ended", "Queue", "Queued", "cancel", "check_cluster", "ended", "longest_array", "sbatch", "signal_job"]

#: How long one of Slurm's commands may take: they repeat by themselves what does not get through.
COMMAND_S = 120.0
#: How long Slurm may be out of reach while jobs run before it is an error; a controller may be restarted meanwhile.
LOST_S = 900.0


def _run(*command: str) -> str:
    """Standard output of a command of Slurm. Raises MachineError with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except FileNotFoundError as error:
        hint = "run llem where Slurm's commands are, e.g. on a login node"
        raise MachineError(f"there is no `{command[0]}` here", hint, "slurm_missing") from error
    except subprocess.TimeoutExpired as error:
        raise _down(f"`{command[0]}` did not answer in {COMMAND_S:.0f} s") from error
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise _down(f"`{command[0]}`: {said}")
    return done.stdout


def _down(message: str) -> MachineError:
    return MachineError(message, "see whether Slurm is up with `scontrol ping`", "slurm_down")


def check_cluster(partition: str | None) -> None:
    """Whether jobs can be submitted from here, before anything is written.

    Raises:
        MachineError: no Slurm here (slurm_missing), or its controller does not answer (slurm_down).
        ConfigError: no such partition.
    """
    for command in ("sbatch", "srun"):
        if shutil.which(command) is None:
            hint = "run llem where Slurm's commands are, e.g. on a login node, or use another launcher"
            raise MachineError(f"the launcher slurm needs `{command}`, which is not there", hint, "slurm_missing")
    known = sorted(set(_run("sinfo", "--all", "--noheader", "--format=%R").split()))
    for name in partition.split(",") if partition else ():
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"partitions: {', '.join(known)}"
            raise ConfigError(f"there is no partition {name!r}", hint)


@attrs.frozen
class Queued:
    """A job that is not over: `state` and `reason` in Slurm's words, and the comment it was submitted with."""

    state: str
    comment: str
    reason: str


@attrs.frozen
class Ended:
    """How a job ended: Slurm's word for it, and its exit status (minus the signal that killed it); None: unknown."""

    state: str
    status: int | None


def queued() -> dict[str, Queued]:
    """The user's jobs that are not over, each task of an array by itself. Raises MachineError (slurm_down)."""
    found = {}
    for line in _run("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%k|%r").splitlines():
        job, state, comment, reason = line.split("|", 3)
        found[job.strip()] = Queued(state, comment, reason)
    return found


def ended(job: str) -> Ended:
    """How a job ended that is not in the queue any more. Slurm itself forgets after minutes, its database later."""
    try:
        text = _run("scontrol", "show", "job", job, "--oneliner")
    except MachineError:
        return _from_database(job)
    state, code = (re.search(rf"\b{name}=(\S+)", text) for name in ("JobState", "ExitCode"))
    return Ended(state[1] if state else "UNKNOWN", _status(code[1]) if code else None)


def _from_database(job: str) -> Ended:
    command = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=State,ExitCode", "--jobs", job)
    try:
        line = _run(*command).strip().partition("\n")[0]
    except MachineError:  # there need not be one
        return Ended("UNKNOWN", None)
    state, _, code = line.partition("|")
    return Ended(state.partition(" ")[0] or "UNKNOWN", _status(code) if code else None)


def _status(code: str) -> int | None:
    """Slurm's `status:signal` as Python tells it. A shell tells a signal as 128 and its number."""
    match = re.fullmatch(r"(\d+):(\d+)", code)
    if match is None:
        return None
    status, signal = int(match[1]), int(match[2])
    return -signal if signal else 128 - status if status > 128 else status


def sbatch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What sbatch says. Raises MachineError (slurm_down) where it says nothing for too long."""
    try:
        return subprocess.run(("sbatch", *arguments), capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise _down(f"`sbatch` did not answer in {COMMAND_S:.0f} s") from error


@functools.cache
def longest_array() -> int | None:
    """How many jobs an array may have; None where Slurm does not tell."""
    try:
        text = _run("scontrol", "show", "config")
    except MachineError:
        return None
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE)
    return max(int(found[1]), 1) if found else None  # 0: no arrays at all


def cancel(jobs: Sequence[str], *, kill: bool = False) -> None:
    """End jobs. Those that are over are no error.

    Args:
        kill: at once. Of a job alone Slurm asks first and waits, whatever the signal is; of its step it does not.
    """
    if jobs and kill:
        _scancel("--signal=KILL", *(f"{job}.0" for job in jobs))
    if jobs:
        _scancel(*jobs)


def signal_job(job: str, name: str) -> None:
    """Send a signal to the processes of a job."""
    _scancel(f"--signal={name}", job)


def _scancel(*arguments: str) -> None:
    subprocess.run(["scancel", "--quiet", *arguments], capture_output=True, timeout=COMMAND_S, check=False)


class Queue:
    """One look at the queue for all jobs that are waited for. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Mapping[str, Queued] = {}
        self._asked = float("-inf")
        self._answered = time.monotonic()

    def look(self, job: str, *, max_age_s: float, since: float) -> tuple[bool, Queued | None]:
        """Whether Slurm was reached, and the job, None when it is over.

        Args:
            max_age_s: how old the answer may be.
            since: an answer from before this (time.monotonic) does not know the job.

        Raises MachineError (slurm_down) when Slurm has been out of reach for a quarter of an hour.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._asked >= max_age_s or self._asked < since:
                self._asked = now
                try:
                    self._seen = queued()
                    self._answered = now
                except MachineError:
                    if now - self._answered > LOST_S:
                        raise
            return self._answered >= max(since, now - LOST_S) and self._answered == self._asked, self._seen.get(job)
