"""The launcher `slurm`: each worker is a job of a Slurm cluster."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from llem.config.load import stored_experiment
from llem.config.models import Experiment
from llem.errors import MachineError
from llem.foreign.files import growing
from llem.launchers.base import Launcher
from llem.plugins.registry import registry
from llem.protocol.events import Emit
from llem.protocol.order import Task, Turn, WorkOrder
from llem.protocol.study_events import Left, OutOfMemory
from llem.store.files import machine_errors
from llem.store.store import Store
from llem_slurm import cluster
from llem_slurm.cluster import Ended, Queue, check_cluster
from llem_slurm.config import SlurmOptions
from llem_slurm.parameters import check_options, gpus_of, parameters
from llem_slurm.submission import Job, Submitter, comment_of, try_out
from llem_slurm.watch import Watch, not_shared, tail

__all__ = ["SlurmLauncher"]

#: Shared by the launchers of one process: what they submit together is one array, and they ask Slurm once for all.
SUBMITTER, QUEUE = Submitter(), Queue()
#: Stores in which no job of an earlier process is left.
CLEARING, CLEARED = threading.Lock(), set[Path]()
#: Slurm's words for what it does to a job by itself. What somebody cancelled (CANCELLED) is not done again.
EARLY = frozenset({"TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"})
#: Slurm's word for a job that used more memory than it was given.
MEMORY = "OUT_OF_MEMORY"
#: What it writes into such a job's log: after the kernel has ended a process, and before it ends one itself. Only lines
#: that Slurm begins count, since engines write there too. Several nodes of one machine are named in the first word.
TOO_MUCH = re.compile(
    r"^(slurmstepd(-\S+)?: error: .*(oom[-_ ]kill|exceeded .*memory limit)|srun: error: .*: out of memory$)",
    re.IGNORECASE,
)
#: Those of them after which its processes may live on, on a node that Slurm cannot reach.
LOST = frozenset({"NODE_FAIL", "BOOT_FAIL"})
#: How many jobs of a store that had this turn, or this task, before them were ended so.
EARLY_ENDS: Counter[tuple[Path, Turn | Task]] = Counter()
#: How long jobs that an earlier `llem` left behind may take to be gone.
LEFT_BEHIND_S = 60.0


class SlurmLauncher(Launcher):
    """A job for each worker. Its events and results come through the store's folder, which the node has to see."""

    name: ClassVar[str] = "slurm"
    same_machine: ClassVar[bool] = False

    def __init__(self, options: SlurmOptions | None = None) -> None:
        """Raises ConfigError for settings that submitit or this launcher would not take."""
        super().__init__(options or SlurmOptions())
        check_options(self.options)
        self._killed = threading.Event()

    def check(self, experiments: Sequence[Experiment]) -> None:
        """That Slurm answers, knows the partition, and takes jobs with as many GPUs as each experiment uses."""
        parameters(self.options, gpus_of(experiments), "", "")
        check_cluster(self.options.partition)
        for gpus in sorted({gpus_of([one]) for one in experiments}):
            try_out(parameters(self.options, gpus, "llem-check", "llem check"))

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        work = WorkOrder.read(order)
        store = Store.open(work.store)
        folder = store.path.resolve()
        clear_left_behind(folder)
        asked = parameters(self.options, _gpus(work, store), f"llem-{folder.name}", comment_of(folder))
        limit = self.options.pending_limit_min
        watch = Watch(
            job=SUBMITTER.submit(order.resolve(), folder / "slurm", asked),
            folder=order.parent,
            emit=emit,
            stop=stop,
            killed=self._killed,
            queue=QUEUE,
            pending_limit_s=None if limit is None else limit * 60,
        )
        ended = _await(watch)
        if _early(watch, ended) and self._another(folder, work):
            _note(watch, ended)
            emit(Left(why=f"job {watch.job.id} ended as {ended.state}", gone=ended.state not in LOST))
            return ended.status or 1
        for event in watch.held:
            emit(event)
        if ended.status != 0 and (said := _memory(watch, ended)):
            emit(OutOfMemory(why=said))
        return _status(watch, ended)

    def _another(self, store: Path, work: WorkOrder) -> bool:
        """Whether another job may try what this one was to begin with."""
        begun: Turn | Task = work.turns[0] if work.turns else work.tasks[0]
        first = (store, begun)
        EARLY_ENDS[first] += 1
        return EARLY_ENDS[first] <= self.options.requeue

    def kill(self) -> None:
        """End the job at once. A launcher that was killed launches nothing more."""
        self._killed.set()


def _await(watch: Watch) -> Ended:
    """How the job ended. Whatever happens here, it is not left in the queue."""
    try:
        return watch.wait()
    finally:
        if not watch.over:
            cluster.cancel([watch.job.id], kill=True)
        watch.job.clear()


def _early(watch: Watch, ended: Ended) -> bool:
    """Whether it was Slurm that ended the job, by a rule of its own or with its node."""
    if watch.asked_to_end or ended.state == "CANCELLED":
        return False
    return ended.state in EARLY or watch.gave_way  # a worker that ends in time is no TIMEOUT


def _gpus(work: WorkOrder, store: Store) -> int:
    documents = [store.read_experiment(name) for name in work.experiments]
    return gpus_of([stored_experiment(document, registry()) for document in documents])


def _status(watch: Watch, ended: Ended) -> int:
    """The worker's exit status. What Slurm says of a worker that did not end by itself goes to its log."""
    if not watch.began and not watch.asked_to_end:
        raise _not_begun(watch.job, watch.folder, ended)
    if ended.status not in (0, 1):
        _note(watch, ended)
    if ended.status is None:  # Slurm has forgotten
        return int(watch.last not in ("outcome", "ended"))
    return ended.status


def _not_begun(job: Job, folder: Path, ended: Ended) -> MachineError:
    if ended.state == "FAILED" and not any(log.exists() for log in job.logs):  # Slurm itself makes them
        return not_shared(job, folder)
    said, status = tail(job.logs), "" if ended.status is None else f", exit status {ended.status}"
    what = f"job {job.id} ended as {ended.state}{status} before its worker began"
    hint = "see `setup`, and whether the nodes see this Python environment"
    return MachineError(f"{what}:\n{said}" if said else what, hint)


def _words(watch: Watch, ended: Ended) -> str:
    status = "" if ended.status is None else f", exit status {ended.status}"
    return f"slurm: job {watch.job.id} ended as {ended.state}{status}"


def _memory(watch: Watch, ended: Ended) -> str:
    """Slurm's words for a job that used more memory than it was given; "" for any other."""
    lines = (line.strip() for line in tail(watch.job.logs).splitlines())
    said = next((line for line in lines if TOO_MUCH.search(line)), "")
    return f"{_words(watch, ended)}: {said}" if said else _words(watch, ended) if ended.state == MEMORY else ""


def _note(watch: Watch, ended: Ended) -> None:
    lines = [_words(watch, ended), tail(watch.job.logs)]
    path = watch.folder / "log.txt"
    with machine_errors(path), growing(path) as log:
        log.write(("\n".join(line for line in lines if line) + "\n").encode(errors="replace"))


def clear_left_behind(store: Path) -> None:
    """End jobs of this store that an `llem` left behind which was killed; once for each store and process.

    Raises MachineError when they do not end.
    """
    with CLEARING:  # a further thread must not take what the first has submitted for a job left behind
        if store not in CLEARED:
            _clear(store)
            CLEARED.add(store)


def _clear(store: Path) -> None:
    comment = comment_of(store)
    until = time.monotonic() + LEFT_BEHIND_S
    while left := [job for job, queued in cluster.queued().items() if queued.comment == comment]:
        cluster.cancel(left, kill=True)
        if time.monotonic() > until:
            hint = f"end them with `scancel {' '.join(left)}`, then resume"
            raise MachineError(f"jobs of an earlier run do not end: {', '.join(left)}", hint, "slurm_left_behind")
        time.sleep(1)
