"""Submitting through submitit: orders that come together go as one job array."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.errors import ConfigError, MachineError
from llem_slurm.cluster import cancel, longest_array, sbatch
from llem_slurm.job import begin

__all__ = ["Job", "Submitter", "comment_of", "try_out"]

#: How long the first of several orders waits for the others to come.
GATHER_S = 0.5
#: Variables that a job has and must not hand on to the jobs that it submits. Its GPUs are not theirs.
OF_A_JOB, HIDDEN = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"), ("CUDA_VISIBLE_DEVICES",)


@attrs.frozen
class Job:
    """A submitted job.

    Attributes:
        id: as Slurm names it, `17` or `17_3` for a task of an array.
        token: what the job writes into the worker's folder when it begins.
        submitted: when (time.monotonic).
        logs: what Slurm and the job write before the worker has a log of its own.
        leftovers: files of submitit, of no use when the job is over.
    """

    id: str
    token: str
    submitted: float
    logs: tuple[Path, ...]
    leftovers: tuple[Path, ...]

    def clear(self) -> None:
        """Remove what a job needed only to begin."""
        for path in self.leftovers:
            path.unlink(missing_ok=True)


def comment_of(store: Path) -> str:
    """The comment of a store's jobs, by which they are told from all others."""
    return f"llem {hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:16]}"


@attrs.define
class _Batch:
    orders: list[Path] = attrs.field(factory=list)
    jobs: Sequence[Job] = ()
    error: BaseException | None = None
    done: threading.Event = attrs.field(factory=threading.Event)


class Submitter:
    """Gathers orders that several threads submit at about the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Batch] = {}
        self._submitting = threading.Lock()

    def submit(self, order: Path, folder: Path, parameters: Mapping[str, Any]) -> Job:
        """Submit an order, in one array with those that want the same and come within half a second.

        Args:
            folder: where submitit keeps its files; the jobs must see it.

        Raises:
            ConfigError: sbatch refused it, with what it said.
            MachineError: Slurm's controller is out of reach (slurm_down), or the folder cannot be written.
        """
        key = json.dumps([str(folder), parameters], sort_keys=True, default=str)
        with self._lock:
            batch = self._open.setdefault(key, _Batch())
            number = len(batch.orders)
            batch.orders.append(order)
        if number == 0:
            time.sleep(GATHER_S)
            with self._lock:
                del self._open[key]
            try:
                with self._submitting:
                    batch.jobs = _submit(batch.orders, folder, parameters)
            except BaseException as error:  # every thread of the batch has to hear of it
                batch.error = error
            finally:
                batch.done.set()
        batch.done.wait()
        if batch.error is not None:
            raise batch.error
        return batch.jobs[number]


def try_out(parameters: Mapping[str, Any]) -> None:
    """Whether sbatch takes jobs that ask for this, before anything is written where the results go.

    `sbatch --test-only` says it without submitting. What it refuses may only not be free now, which sbatch itself lets
    wait; so a job is submitted then, held, and taken back.

    Raises ConfigError: sbatch refuses. MachineError: Slurm's controller is out of reach (slurm_down).
    """
    from submitit import SlurmExecutor

    with tempfile.TemporaryDirectory(prefix="llem-slurm-") as folder, _outside_a_job():
        executor = SlurmExecutor(folder)
        executor.update_parameters(**parameters)
        script = Path(folder) / "try.sh"
        script.write_text(executor._make_submission_file_text("true", "try"), encoding="utf-8")
        if sbatch("--test-only", str(script)).returncode == 0:
            return
        held = sbatch("--hold", "--parsable", "--mail-type=NONE", str(script))
        if held.returncode:
            raise _refused(held.stderr)
        cancel([held.stdout.strip().partition(";")[0]])


def _submit(orders: Sequence[Path], folder: Path, parameters: Mapping[str, Any]) -> list[Job]:
    """One array, or as many as it takes where the cluster's arrays may not be so long."""
    jobs: list[Job] = []
    most = longest_array() or len(orders)
    try:
        for begin_at in range(0, len(orders), most):
            jobs += _array(orders[begin_at : begin_at + most], folder, parameters)
    except BaseException:
        cancel([job.id for job in jobs])  # nobody would follow them
        raise
    return jobs


def _array(orders: Sequence[Path], folder: Path, parameters: Mapping[str, Any]) -> list[Job]:
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    tokens = [secrets.token_hex(8) for _ in orders]
    try:
        with _outside_a_job():
            executor = SlurmExecutor(folder)
            executor.update_parameters(**parameters)
            jobs = executor.map_array(begin, [str(order) for order in orders], tokens)
    except (FailedJobError, FailedSubmissionError) as error:
        raise _refused(str(error)) from error
    except OSError as error:
        raise MachineError(f"cannot submit from {folder}: {error}", "choose another folder with `-o`") from error
    now = time.monotonic()
    return [
        Job(
            str(job.job_id),
            token,
            now,
            (job.paths.stdout, job.paths.stderr),
            (job.paths.submitted_pickle, job.paths.result_pickle),
        )
        for job, token in zip(jobs, tokens, strict=True)
    ]


@contextlib.contextmanager
def _outside_a_job() -> Iterator[None]:
    """As from a login node, also from within a job; sbatch's complaint is in the error and need not be printed too.

    submitit's `clean_env` would also hide where Slurm's configuration is, and the user's own defaults for sbatch.
    """
    names = [name for name in os.environ if name in HIDDEN or (name.startswith(OF_A_JOB) and name != "SLURM_CONF")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.environ.update(hidden)


def _refused(said: str) -> ConfigError | MachineError:
    said = "; ".join(
        line.removeprefix("sbatch: ").removeprefix("error: ") for line in said.splitlines() if line.strip()
    )
    if "contact slurm controller" in said.lower():
        return MachineError(f"sbatch: {said}", "see whether Slurm is up with `scontrol ping`", "slurm_down")
    return ConfigError(
        f"sbatch refused the job: {said}", "change the settings of the launcher slurm", code="slurm_refused"
    )
