"""The child process: an order in, trials into the store, events out."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import attrs

from llem.config.load import stored_experiment
from llem.errors import LlemError
from llem.experiment.placement import hold, place, restrict
from llem.experiment.procedure import AFTER, BEFORE, check, let_go, record, trial
from llem.experiment.session import EngineProcess, Session
from llem.metrics.precision import is_wanted
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Ended, Failure, Warned
from llem.protocol.order import AFTER_PHASES, Outcomes, WorkOrder, after_finding, failure
from llem.store.store import Store

__all__ = ["open_sessions", "work"]

#: Outcomes after which the engine is asked to go on with other experiments.
ENGINE_LIVES = ("oom", "invalid")


def work(order: WorkOrder, registry: Registry, emit: Emit, stop: threading.Event, events_fd: int | None = None) -> str:
    """Carry out an order; how it ended. Each experiment's outcome is stored and emitted as it comes.

    Never raises for what can go wrong in it. Experiments without an outcome are left to another worker.
    """
    store = Store.open(Path(order.store))
    outcomes = Outcomes(order, store, emit)
    shift = _Shift(outcomes)
    with store.attended():
        try:
            shift.run(order, store, registry, emit, stop, events_fd)
        except Exception as error:  # an engine may raise anything; it is recorded with all that it ended
            failed = failure(error)
            if failed.outcome == "interrupted":
                outcomes.rest_failed(failed, shift.has_begun)
            elif not order.turns:
                _not_evaluated(order, store, outcomes, failed)
            elif not shift.lost and not shift.measured:
                outcomes.rest_failed(failed)
    emit(Ended())
    return outcomes.outcome


def _not_evaluated(order: WorkOrder, store: Store, outcomes: Outcomes, failed: Failure) -> None:
    """An engine that was to evaluate quality alone did not load: told with each experiment's last one that did."""
    for name in (name for name in order.experiments if name not in outcomes.found):
        last = store.engines(name)[-1]["process"]
        store.add_engine_finding(name, last, after_finding("quality", failed.message, order.process))
        outcomes.done(name)


class _Shift:
    """The worker's time at its engine.

    Attributes:
        lost: the engine is of no use any more, through a failure that is recorded.
        measured: every turn was taken.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._sessions: dict[str, Session] = {}
        self._doubtful = False  # the engine ran out of memory, and has not measured anything since
        self.lost = self.measured = False

    def has_begun(self, experiment_id: str) -> bool:
        """Whether an experiment has begun; one alone has from the start."""
        if len(self._sessions) == 1:
            return True
        session = self._sessions.get(experiment_id)
        return session is not None and session.begun

    def run(
        self,
        order: WorkOrder,
        store: Store,
        registry: Registry,
        emit: Emit,
        stop: threading.Event,
        events_fd: int | None,
    ) -> None:
        """Open, take every turn, close."""
        self._sessions = open_sessions(order, store, registry, emit, stop, events_fd)
        try:
            checked = [session for session in self._sessions.values() if self._check(session)]
            if checked:
                self._measure(order, checked)
        finally:
            let_go(self._sessions[order.experiment_id].process)

    def _measure(self, order: WorkOrder, checked: Sequence[Session]) -> None:
        lead = checked[0]
        for step in BEFORE:
            step(lead)
        self._turns(order)
        if not self.lost:
            self.measured = True
            begun = [session for session in checked if session.begun]
            for phase in AFTER:
                if concerned := [one for one in begun if AFTER_PHASES[phase].concerns(one.experiment)]:
                    self._after(phase, lead, concerned)

    def _after(self, phase: str, lead: Session, concerned: Sequence[Session]) -> None:
        """One step of `AFTER`; that it failed is told with every experiment that it was for.

        Raises ExperimentFailed (interrupted).
        """
        try:
            AFTER[phase](lead, concerned)
        except Exception as error:  # a meter or an engine may raise anything
            found = after_finding(phase, _no_stop(error).message, lead.order.process)
            lead.process.emit(Warned(message=found.message))
            for one in concerned:
                one.store.add_engine_finding(one.id, lead.order.process, found)

    def _check(self, session: Session) -> bool:
        try:
            check(session)
        except Exception as error:  # a backend may raise anything
            self._outcomes.failed(session.id, failure(error))
            return False
        return True

    def _turns(self, order: WorkOrder) -> None:
        """Each trial in order, until the engine is lost; experiments that failed or are done are passed over.

        An order without trials is for what comes after them: then every trial is stored.
        """
        for session in self._sessions.values() if not order.turns else ():
            record(session)
            self._outcomes.done(session.id)
        left: dict[str, list[int]] = {}
        for name, index in order.turns:
            left.setdefault(name, []).append(index)
        for name, index in order.turns:
            left[name].remove(index)
            if name in self._outcomes.found:
                continue
            if self._is_wanted(name, index) and not self._take(self._sessions[name], index):
                if self.lost:
                    return
                continue
            if not any(self._is_wanted(name, later) for later in left[name]):
                self._outcomes.done(name)

    def _is_wanted(self, name: str, index: int) -> bool:
        session = self._sessions[name]
        trials = session.trials if session.begun else session.store.trials(name)
        return is_wanted(session.experiment, trials, index)

    def _take(self, session: Session, index: int) -> bool:
        """Whether the trial was measured. Raises ExperimentFailed (interrupted)."""
        try:
            trial(session, index)
        except Exception as error:  # an engine may raise anything
            failed = _no_stop(error)
            # after an engine ran out of memory, what fails next may fail for that: another engine shall decide
            if self._doubtful:
                self.lost = True
                return False
            self._outcomes.failed(session.id, failed)
            self._doubtful = failed.outcome == "oom"
            self.lost = failed.outcome not in ENGINE_LIVES or failed.exit_code == 3
            return False
        self._doubtful = False
        return True


def _no_stop(error: Exception) -> Failure:
    """What an error means. Raises it on where it is the user's wish to stop, which is not for one experiment alone."""
    failed = failure(error)
    if failed.outcome == "interrupted":
        raise error
    return failed


def open_sessions(
    order: WorkOrder, store: Store, registry: Registry, emit: Emit, stop: threading.Event, events_fd: int | None
) -> dict[str, Session]:
    """A session for each experiment of an order, by id, in one process."""
    documents = [store.read_experiment(name) for name in order.experiments]
    experiments = [stored_experiment(one, registry) for one in documents]
    lead = experiments[0]
    if order.gpus is None:
        placement, locks = hold(lead, f"process {os.getpid()}, {order.store}")
    else:
        placement, locks = place(attrs.evolve(lead, gpus=order.gpus)), {}
    restrict(placement, os.environ)
    process = EngineProcess(order, placement, registry, store, emit, stop, events_fd, locks=locks.values())
    if any(one.backend != lead.backend for one in experiments):
        raise LlemError("an order's experiments have different backends", code="bug")
    models = [process.model(one.model, revision=one.revision, seed=one.weights_seed) for one in experiments]
    named = zip(order.experiments, experiments, models, strict=True)
    return {name: Session(name, process, experiment, model) for name, experiment, model in named}
