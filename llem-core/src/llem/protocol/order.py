"""What a worker is told (which trials of which experiments, in which order), and how each of its experiments ends."""

from __future__ import annotations

import errno
import json
import signal
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError, StoreError, described
from llem.findings import Finding, finding
from llem.foreign.secrets import without_secrets
from llem.plugins.culprit import culprit
from llem.plugins.registry import registry
from llem.protocol.events import Emit, Failure, Outcome
from llem.store.convert import load
from llem.store.files import corrupt, read_document, write

if TYPE_CHECKING:  # a plan reads orders, and has no store
    from llem.store.store import Store

__all__ = [
    "AFTER_PHASES",
    "AfterPhase",
    "Gap",
    "Outcomes",
    "Task",
    "Turn",
    "WorkOrder",
    "after_finding",
    "error_of",
    "failure",
    "last_engine",
    "outcome_document",
]

#: Characters of an error that are stored.
LONGEST = 10_000
#: A trial whose turn it is: the experiment's id, and the trial's index.
Turn = tuple[str, int]
#: A task of an experiment's section `quality` that is to be evaluated: the experiment's id, and the task's name.
Task = tuple[str, str]


@attrs.frozen
class Gap:
    """The pause before every trial but the first.

    Attributes:
        seconds: it lasts this long at least.
        until_c: and until every GPU is at most this many degrees warmer than when the first trial began; None for no
            such wait.
        timeout_s: but no longer than this.
    """

    seconds: float = 0.0
    until_c: float | None = None
    timeout_s: float = 300.0


@attrs.frozen
class WorkOrder:
    """What one worker does: its job of the trials of experiments that are measured with one engine.

    Attributes:
        store: the store's folder.
        worker: number of the worker's folder in the store.
        process: which engine process of its experiments this is; new for each worker.
        experiments: ids of experiments, whose `experiment.json` hold the configurations. The engine is constructed
            for the first of them.
        turns: trials in order. Those beyond the number that its configuration asks for at least are taken only while
            an experiment's interval is too wide. An experiment without any has all its trials, and is here for its
            tasks.
        gap: before every trial but the first.
        gpus: UUIDs of the GPUs to use; None leaves the choice to the worker.
        beside: other workers run on this machine at the same time.
        tasks: of quality, to be evaluated after the last trial.
        part: which of the engine processes that the plan has for each experiment this is. It is measured by one worker
            at a time, however many try.
        lease_s: after so long without a sign of life another worker may take over.
    """

    store: str
    worker: int
    process: int
    experiments: tuple[str, ...]
    turns: tuple[Turn, ...]
    gap: Gap = Gap()
    gpus: tuple[str, ...] | None = None
    beside: bool = False
    tasks: tuple[Task, ...] = ()
    part: int = 0
    lease_s: float = 90.0

    @property
    def experiment_id(self) -> str:
        """The experiment that the engine is constructed for."""
        return self.experiments[0]

    def measures(self, experiment_id: str) -> bool:
        """Whether the experiment has trials here, and is not only evaluated."""
        return any(name == experiment_id for name, _ in self.turns)

    @classmethod
    def read(cls, path: Path) -> WorkOrder:
        """From its JSON file. Raises StoreError (store_corrupt) for one that is damaged."""
        order = load(read_document(path)[1], cls, str(path))
        if not order.experiments:
            raise corrupt(path, "it has no experiments")
        return order

    def write(self, path: Path) -> None:
        """To a JSON file. Raises MachineError for a full disk or a missing permission."""
        write(path, (json.dumps(attrs.asdict(self), indent=1) + "\n").encode(), replace=True)


@attrs.frozen
class AfterPhase:
    """A phase of an engine process that comes when all is measured, so that the trials stand when it fails.

    Attributes:
        code: of the finding when it fails.
        name: in words.
    """

    code: str
    name: str


AFTER_PHASES: Mapping[str, AfterPhase] = {
    "baseline after": AfterPhase("baseline_failed", "the idle baseline after the trials"),
    "quality": AfterPhase("quality_failed", "the evaluation of quality"),
}


def after_finding(phase: str, why: str, process: int, task: str | None = None) -> Finding:
    """What is told with the experiments that it concerns when one of `AFTER_PHASES` fails.

    Args:
        task: of quality, where one of them failed and not all.
    """
    failed = AFTER_PHASES[phase]
    if task is None:
        return finding(failed.code, f"{failed.name} failed: {why}", process=process)
    return finding(failed.code, f"{failed.name} failed: {task}: {why}", process=process, task=task)


def last_engine(store: Store, experiment_id: str) -> int:
    """The last engine process of an experiment that loaded an engine; 0 where none did. What is told of an engine that
    did not load is told with this one."""
    engines = store.engines(experiment_id)
    return int(engines[-1]["process"]) if engines else 0


def failure(error: BaseException) -> Failure:
    """What an error means for the experiment that met it. A crash's traceback goes to the log.

    Raises the error if the experiment is another worker's now: nothing of it is for this one to tell; and the user's
    Ctrl-C. A worker's process hears none, so that there KeyboardInterrupt is an engine's own.
    """
    if isinstance(error, StoreError) and error.code == "lease_lost":
        raise error
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        raise error
    if isinstance(error, MemoryError):
        return Failure("oom", _told(error), "use a smaller batch or model", "oom", 1)
    if isinstance(error, ExperimentFailed):
        return Failure(error.code, _told(error), error.hint, error.code, error.exit_code)
    if isinstance(error, LlemError):
        return Failure("invalid", _told(error), error.hint, error.code, error.exit_code)
    traceback.print_exception(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    where = culprit(error, registry())
    told = f"{_told(error)}, in {where}" if where else _told(error)
    return Failure("crash", told, "see the worker's log", "crash", 3 if full else 1)


def error_of(failed: Failure) -> LlemError:
    """The error that a worker told of."""
    kinds: dict[int, Callable[..., LlemError]] = {1: ExperimentFailed, 2: ConfigError, 3: MachineError}
    return kinds[failed.exit_code](failed.message, failed.hint, failed.code)


def _told(error: BaseException) -> str:
    """What is stored of an error: of a plugin's it may be long, and quote an address or a header."""
    message = error.message if isinstance(error, LlemError) else described(error)
    told = "\n  ".join([message, *(str(problem) for problem in getattr(error, "problems", ()))])
    return without_secrets(told[:LONGEST])


def outcome_document(process: int, outcome: str, message: str | None = None, code: str | None = None) -> dict[str, Any]:
    """What `outcome-<process>.json` holds of an experiment: how an engine process ended it, and with which error."""
    return {"process": process, "outcome": outcome, "error": message, "code": code, "findings": []}


class Outcomes:
    """Those of one worker, by experiment."""

    def __init__(self, order: WorkOrder, store: Store, emit: Emit) -> None:
        self._order, self._store, self._emit = order, store, emit
        self.found: dict[str, str] = {}

    def done(self, experiment_id: str) -> None:
        """Every trial of its job is stored."""
        self._end(experiment_id, "done", None)

    def failed(self, experiment_id: str, failed: Failure) -> None:
        """It did not come to its end."""
        self._end(experiment_id, failed.outcome, failed)

    def rest_failed(self, failed: Failure, which: Callable[[str], bool] = lambda _: True) -> None:
        """What ended the engine process ended those that had not ended before."""
        for experiment_id in self._order.experiments:
            if experiment_id not in self.found and which(experiment_id):
                self.failed(experiment_id, failed)

    def _end(self, experiment_id: str, outcome: str, error: Failure | None) -> None:
        self.found[experiment_id] = outcome
        told = (None, None) if error is None else (error.message, error.code)
        # told first: a full disk must not keep the parent from hearing of it
        self._emit(Outcome(id=experiment_id, outcome=outcome, error=error))
        self._store.write_outcome(experiment_id, outcome_document(self._order.process, outcome, *told))

    @property
    def outcome(self) -> str:
        """Of the whole order: "done", or how the first that was not done ended."""
        unfinished = len(self.found) < len(self._order.experiments)
        return next((one for one in self.found.values() if one != "done"), "unfinished" if unfinished else "done")
