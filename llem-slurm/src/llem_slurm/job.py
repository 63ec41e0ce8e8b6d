"""What a job runs. submitit stores a reference to `begin` and the texts it is called with, nothing else of llem."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

from llem.foreign.files import growing

__all__ = ["ALL_GPUS", "BEGAN", "begin"]

#: In the worker's folder: what the job found, among it the token by which the parent knows that both see one folder.
BEGAN = "slurm.jsonl"
#: Set in a job of a cluster that does not count GPUs: the worker may use any of its node.
ALL_GPUS = "LLEM_SLURM_ALL_GPUS"
#: How Slurm tells a job its GPUs; unset in a job without any, which may see those of others all the same.
ASSIGNED = "CUDA_VISIBLE_DEVICES"


def begin(order: str, token: str) -> None:
    """Become `llem worker ORDER`: signals of Slurm reach it directly, and its exit status is the job's.

    Nothing is left beside it on the measured node. Its events go to events.jsonl, all that it prints to log.txt.
    """
    folder = Path(order).parent
    _tell(folder / BEGAN, token)
    nothing = os.open(os.devnull, os.O_RDWR)
    with growing(folder / "log.txt") as log:
        for number, to in ((0, nothing), (1, nothing), (2, log.fileno())):
            os.dup2(to, number)
    if ALL_GPUS not in os.environ:
        os.environ.setdefault(ASSIGNED, "")
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # submitit's sign to requeue; what is ignored stays so
    os.execv(sys.executable, [sys.executable, "-P", "-m", "llem", "worker", order])


def _tell(path: Path, token: str) -> None:
    facts = {
        "token": token,
        "job": os.environ.get("SLURM_JOB_ID"),
        "node": socket.gethostname(),
        "gpus": os.environ.get(ASSIGNED),
    }
    with growing(path) as file:
        file.write((json.dumps(facts) + "\n").encode())
        os.fsync(file.fileno())
