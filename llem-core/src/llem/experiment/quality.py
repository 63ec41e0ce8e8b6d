"""Quality of an engine, evaluated once when all its trials are measured, and stored with every experiment it is for."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from llem.config.converter import unstructure
from llem.errors import TELL_AUTHORS, ExperimentFailed
from llem.evaluators.base import Context, Evaluator, check_loaded
from llem.evaluators.contract import score_breaches
from llem.experiment.session import EngineProcess, Session
from llem.experiment.trial import LEAD_S
from llem.meters.base import EnergyReading
from llem.protocol.events import Warned
from llem.protocol.order import after_finding, failure
from llem.store.evaluations import (
    Evaluation,
    evaluation_key,
    read_evaluation,
    remaining_tasks,
    terms_of,
    write_evaluation,
)

__all__ = ["check_engine", "quality"]

#: Time between two events of one task.
TOLD_EVERY_S = 1.0


def check_engine(session: Session) -> None:
    """What only the loaded engine tells of an evaluation, before anything is measured that it would belong to."""
    wanted = session.experiment.quality
    if wanted is not None and remaining_tasks(session.store, session.id, wanted):
        check_loaded(session.experiment, session.live_engine, session.process.registry)


def quality(lead: Session, sessions: Collection[Session]) -> None:
    """Every task of the order that is not stored yet; what experiments of one engine ask alike is evaluated once.

    A task that fails is told with the experiments that ask for it, and the others are evaluated.

    Raises ExperimentFailed: interrupted.
    """
    asked: dict[str, list[Session]] = {}
    tasks: dict[str, str] = {}
    for session in sessions:
        for task in session.tasks:
            key = evaluation_key(session.experiment.quality, task)
            tasks[key] = task
            asked.setdefault(key, []).append(session)
    for key, those in asked.items():
        try:
            _once(key, tasks[key], those)
        except BaseException as error:  # an evaluator may raise anything
            told = failure(error)
            if told.outcome == "interrupted":
                raise
            found = after_finding("quality", told.message, lead.order.process, tasks[key])
            lead.process.emit(Warned(message=found.message))
            for one in those:
                one.store.add_engine_finding(one.id, lead.order.process, found)


def _once(key: str, task: str, sessions: Sequence[Session]) -> None:
    """Evaluate a task unless it is stored with any of these experiments, and store it with all of them."""
    found, without = None, []
    for one in sessions:
        stored = read_evaluation(one.store, one.id, key)
        found = found or stored
        if stored is None:
            without.append(one)
    if without:
        found = found or _evaluate(sessions[0], task)
    for one in without:
        assert found is not None
        write_evaluation(one.store, one.id, found)


def _evaluate(session: Session, task: str) -> Evaluation:
    process, experiment, wanted = session.process, session.experiment, session.experiment.quality
    tell = _Told(process, task)
    tell(0, 0)
    process.check_stop()
    session.live_engine.turn_to(experiment)
    process.current = session.id
    evaluator: Evaluator = process.registry.load("evaluator", wanted.evaluator)(wanted)
    own = session.live_engine.tokenizer_model(session.model)
    tokenizer = None if own is None else process.tokenizer(own, trust_remote_code=experiment.trust_remote_code)
    if tokenizer is None:
        raise ExperimentFailed("the model has no tokenizer", "name a model that has one", "quality")
    context = Context(task, experiment, session.model, tell, process.check_stop)
    evaluator.prepare(tokenizer, context)
    with _Metered(process) as metered:
        scores = tuple(evaluator.evaluate(session.live_engine, tokenizer, context))
    if not scores:
        raise ExperimentFailed("the evaluator gave no score", "report it to its authors", "quality")
    if empty := [score.metric for score in scores if score.n < 1]:
        message = f"no item of {task} is behind the score {empty[0]}"
        raise ExperimentFailed(message, "raise `quality.limit`, or see what the task's data holds", "quality")
    for breach in score_breaches(scores):
        message = f"the evaluator {wanted.evaluator} breaks a rule of evaluators: {breach}"
        raise ExperimentFailed(message, TELL_AUTHORS, "quality")
    about, terms = dict(evaluator.describe()), terms_of(unstructure(wanted))
    number, seconds = process.order.process, metered.duration_s
    return Evaluation(wanted.evaluator, task, terms, number, scores, seconds, metered.energies, about)


class _Told:
    """Tells how far a task is, once a second at most: an evaluator may call for every one of 100,000 items."""

    def __init__(self, process: EngineProcess, task: str) -> None:
        self._process, self._task = process, task
        self._at, self._last = float("-inf"), (-1, -1)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if (done, total) != self._last and (done == total or now >= self._at + TOLD_EVERY_S):
            self._at, self._last = now, (done, total)
            self._process.phase("quality", None, task=self._task, done=done, total=total)


class _Metered:
    """Time and energy of what is done within; no window, so that nothing is said of its edges."""

    def __init__(self, process: EngineProcess) -> None:
        self._process = process
        self.duration_s = 0.0
        self.energies: tuple[EnergyReading, ...] = ()

    def __enter__(self) -> _Metered:
        instruments = self._process.instruments
        if instruments is not None:
            instruments.begin()
            self._process.rest(LEAD_S)
            instruments.window_begin()
        self._t0 = time.monotonic_ns()
        return self

    def __exit__(self, *raised: object) -> None:
        t1 = time.monotonic_ns()
        self.duration_s = (t1 - self._t0) / 1e9
        instruments = self._process.instruments
        if instruments is not None:
            instruments.window_end()
            time.sleep(LEAD_S)
            self.energies, _, _ = instruments.end(self._t0, t1)  # a reading that failed has its reason
