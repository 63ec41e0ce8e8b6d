"""How the experiments of one worker end: each outcome stored and told once; and what may fail when all is measured."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from llem.config.models import Experiment
from llem.errors import ExperimentFailed, LlemError
from llem.findings import Finding, finding
from llem.protocol.events import Emit, Failure, Outcome
from llem.protocol.order import WorkOrder
from llem.store.store import Store

__all__ = ["AFTER_PHASES", "AfterPhase", "Outcomes", "after_finding", "failure", "outcome_document"]


@attrs.frozen
class AfterPhase:
    """A phase of an engine process that comes when all is measured, so that the trials stand when it fails.

    Attributes:
        code: of the finding when it fails.
        name: in words.
        concerns: whether it is for this experiment.
    """

    code: str
    name: str
    concerns: Callable[[Experiment], bool] = lambda _: True


AFTER_PHASES: Mapping[str, AfterPhase] = {
    "baseline after": AfterPhase("baseline_failed", "the idle baseline after the trials"),
    "quality": AfterPhase("quality_failed", "the evaluation of quality", lambda one: one.quality is not None),
}


def after_finding(phase: str, why: str, process: int) -> Finding:
    """What is told with the experiments that it concerns when one of `AFTER_PHASES` fails."""
    failed = AFTER_PHASES[phase]
    return finding(failed.code, f"{failed.name} failed: {why}", process=process)


def failure(error: BaseException) -> Failure:
    """What an error means for the experiment that met it. A crash's traceback goes to the log."""
    if isinstance(error, MemoryError):
        return Failure("oom", _told(error), "use a smaller batch or model", "oom", 1)
    if isinstance(error, ExperimentFailed):
        return Failure(error.code, _told(error), error.hint, error.code, error.exit_code)
    if isinstance(error, LlemError):
        return Failure("invalid", _told(error), error.hint, error.code, error.exit_code)
    traceback.print_exception(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Failure("crash", _told(error), "see the worker's log", "crash", 3 if full else 1)


def _told(error: BaseException) -> str:
    kind = type(error).__name__
    message = error.message if isinstance(error, LlemError) else f"{kind}: {error}" if str(error) else kind
    return "\n  ".join([message, *(str(problem) for problem in getattr(error, "problems", ()))])


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
