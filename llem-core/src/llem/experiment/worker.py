"""The child process: an order in, trials into the store, events out."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from llem.config.load import stored_experiment
from llem.errors import LlemError, StoreError
from llem.experiment.leases import leased, not_stored
from llem.experiment.placement import hold, place, restrict
from llem.experiment.procedure import AFTER, BEFORE, check, let_go, record, trial
from llem.experiment.quality import check_engine
from llem.experiment.session import EngineProcess, Session
from llem.metrics.precision import is_wanted
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Ended, Failure, Outcome, Warned
from llem.protocol.lifeline import children, end_strays
from llem.protocol.order import Outcomes, Turn, WorkOrder, after_finding, failure, last_engine
from llem.protocol.study_events import Left
from llem.store.store import Store

__all__ = ["open_sessions", "work"]

#: Outcomes after which the engine is asked to go on with other experiments.
ENGINE_LIVES = ("oom", "invalid")


def work(
    order: WorkOrder,
    registry: Registry,
    emit: Emit,
    stop: threading.Event,
    events_fd: int | None = None,
    end: Callable[[], None] | None = None,
) -> str:
    """Carry out an order; how it ended. Each experiment's outcome is stored and emitted as it comes.

    Never raises for what can go wrong in it. Experiments without an outcome are left to another worker.

    Args:
        end: as of `leased`.
    """
    folder = Path(order.store).absolute()  # an engine may change this process's working folder
    store, outcome = Store.open(folder, order.worker), "unfinished"
    with store.attended():
        try:
            with contextlib.ExitStack() as held:
                todo = _begin(held, order, store, registry, emit, stop, end)
                if todo is not None:
                    outcome = _carry_out(todo, order, store, registry, emit, stop, events_fd)
        except StoreError as error:
            if error.code != "lease_lost":
                raise
            emit(Left(why=error.message))
    emit(Ended())
    return outcome


def _begin(
    held: contextlib.ExitStack,
    order: WorkOrder,
    store: Store,
    registry: Registry,
    emit: Emit,
    stop: threading.Event,
    end: Callable[[], None] | None,
) -> WorkOrder | None:
    """What is to be done, when its leases are had; None, told as outcomes, where they cannot be."""
    try:
        held.enter_context(leased(order, store, emit, stop, end))
        return not_stored(order, store, registry)
    except BaseException as error:  # a file system may answer anything
        failed = failure(error)
        if failed.outcome != "interrupted":  # while it waited: none of its experiments had begun
            Outcomes(order, store, emit).rest_failed(failed, order.measures)
        return None


def _carry_out(
    todo: WorkOrder,
    order: WorkOrder,
    store: Store,
    registry: Registry,
    emit: Emit,
    stop: threading.Event,
    events_fd: int | None,
) -> str:
    """Do what is still to be done of an order; what another worker has done meanwhile is told as done."""
    for name in order.experiments:
        if name not in todo.experiments:
            emit(Outcome(id=name, outcome="done"))
    if not todo.experiments:
        return "done"
    outcomes = Outcomes(todo, store, emit)
    shift = _Shift(outcomes)
    try:
        shift.run(todo, store, registry, emit, stop, events_fd)
    except BaseException as error:  # an engine may raise anything; it is recorded with all that it ended
        failed = failure(error)
        if failed.outcome == "interrupted":
            outcomes.rest_failed(failed, shift.was_interrupted)
        elif not shift.lost and not shift.measured:
            outcomes.rest_failed(failed, todo.measures)
            if not todo.turns:
                _not_evaluated(todo, store, emit, failed, todo.experiments)
    return outcomes.outcome


def _not_evaluated(order: WorkOrder, store: Store, emit: Emit, failed: Failure, names: Sequence[str]) -> None:
    """Experiments that are here for their quality alone cannot be evaluated: their trials stand."""
    found = after_finding("quality", failed.message, order.process)
    emit(Warned(message=found.message))
    for name in names:
        store.add_engine_finding(name, last_engine(store, name), found)


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

    def was_interrupted(self, experiment_id: str) -> bool:
        """Whether an experiment has begun and has trials to come; one alone has begun from the start."""
        session = self._sessions.get(experiment_id)
        if session is None or not session.order.measures(experiment_id):
            return False
        return session.begun or len(self._sessions) == 1

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
        before = children()
        self._sessions = open_sessions(order, store, registry, emit, stop, events_fd)
        try:
            checked = [session for session in self._sessions.values() if self._try(session, check)]
            if checked:
                self._measure(order, checked)
        finally:
            lead = self._sessions[order.experiment_id]
            try:
                let_go(lead.process)
            finally:
                if strays := end_strays(before):
                    who = f"the backend {lead.experiment.backend!r}, or another plugin,"
                    left = f"left {', '.join(sorted(strays))} running in a session of its own; it was ended"
                    emit(Warned(message=f"{who} {left}"))

    def _measure(self, order: WorkOrder, checked: Sequence[Session]) -> None:
        lead = checked[0]
        for step in BEFORE:
            step(lead)
        able = [session for session in checked if self._try(session, check_engine)]
        self._turns([(name, index) for name, index in order.turns if name not in self._outcomes.found])
        if self.lost:
            return
        self.measured = True
        for session in able:
            if not order.measures(session.id):  # its trials are stored
                record(session)
                self._outcomes.done(session.id)
        begun = [session for session in checked if session.begun]
        done = [session for session in begun if self._outcomes.found.get(session.id) == "done"]
        self._after("baseline after", lead, begun)
        self._after("quality", lead, [session for session in done if session.tasks])

    def _after(self, phase: str, lead: Session, concerned: Sequence[Session]) -> None:
        """One step of `AFTER`; that it failed is told with every experiment that it was for.

        Raises ExperimentFailed (interrupted).
        """
        if not concerned:
            return
        try:
            AFTER[phase](lead, concerned)
        except BaseException as error:  # a meter or an engine may raise anything
            found = after_finding(phase, _no_stop(error).message, lead.order.process)
            lead.process.emit(Warned(message=found.message))
            for one in concerned:
                one.store.add_engine_finding(one.id, lead.order.process, found)

    def _try(self, session: Session, step: Callable[[Session], None]) -> bool:
        """Whether a step that asks whether an experiment can be measured, or evaluated, passes."""
        try:
            step(session)
        except BaseException as error:  # a backend or an evaluator may raise anything
            failed = failure(error)
            if session.order.measures(session.id):
                self._outcomes.failed(session.id, failed)
            else:
                _not_evaluated(session.order, session.store, session.process.emit, failed, [session.id])
            return False
        return True

    def _turns(self, turns: Sequence[Turn]) -> None:
        """Each trial in order, until the engine is lost; experiments that failed or are done are passed over."""
        left: dict[str, list[int]] = {}
        for name, index in turns:
            left.setdefault(name, []).append(index)
        for name, index in turns:
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
        except BaseException as error:  # an engine may raise anything
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


def _no_stop(error: BaseException) -> Failure:
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
