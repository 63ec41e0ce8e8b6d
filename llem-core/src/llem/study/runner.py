"""Running: orders to a launcher, events to whoever watches, results computed from what was stored."""

from __future__ import annotations

import itertools
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from llem import __version__
from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError
from llem.experiment.events import Emit, Event
from llem.experiment.order import WorkOrder
from llem.findings import finding
from llem.launchers.base import Launcher
from llem.plugins.registry import Registry
from llem.results.models import Result
from llem.results.store import Store
from llem.results.verify import recompute
from llem.study.preflight import Planned

__all__ = ["Ran", "default_folder", "run_all", "run_planned", "stop_on_interrupt"]


def default_folder(results_dir: str, name: str) -> Path:
    """A new folder's name under the results folder: study's name, UTC time, and a number where that is taken."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "llem"
    first = Path(results_dir) / f"{safe}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    further = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], further) if not path.exists())


@attrs.frozen
class Ran:
    """How the experiments of a study ended, in running order; those that never began are not among them.

    Attributes:
        results: one for each experiment that began, failed ones included.
        errors: by id, of those whose worker did not end well.
        interrupted: the user's wish to stop, which left the rest undone.
    """

    results: tuple[Result, ...]
    errors: Mapping[str, LlemError]
    interrupted: LlemError | None = None


def run_planned(
    planned: Planned,
    store_path: Path,
    launcher: Launcher,
    registry: Registry,
    *,
    study: Mapping[str, Any],
    emit: Emit,
    stop: threading.Event,
) -> Result:
    """Make the store, run every engine process of the experiment, compute and store its result.

    Raises:
        StoreError: the folder is there already.
        LlemError: the worker met the user's mistake or the machine's state; what was measured stays in the store.
    """
    with _made(study, store_path, registry) as store:
        result, error = _run_experiment(planned, store, launcher, registry, 0, emit, stop)
    if error is not None:
        raise error
    return result


def run_all(
    planned: Sequence[Planned],
    store_path: Path,
    launcher: Launcher,
    registry: Registry,
    *,
    study: Mapping[str, Any],
    emit: Emit,
    stop: threading.Event,
) -> Ran:
    """The same for many experiments, one after the other into one store, going on after one that fails.

    Before each comes the event `experiment` (number, of, id, trials), after it `result` (id, outcome, valid, error).

    Raises:
        StoreError: the folder is there already.
        LlemError: the store cannot be written any more; what was measured stays in it.
    """
    results: list[Result] = []
    errors: dict[str, LlemError] = {}
    workers = 0
    with _made(study, store_path, registry) as store:
        for number, one in enumerate(planned, 1):
            emit({"event": "experiment", "number": number, "of": len(planned), "id": one.id, "trials": one.trials})
            result, error = _run_experiment(one, store, launcher, registry, workers, emit, stop)
            workers += one.restarts
            results.append(result)
            emit({"event": "result", **_facts(result)})
            if error is not None:
                errors[one.id] = error
            if error is not None and error.code == "interrupted":
                return Ran(tuple(results), errors, error)
            if stop.is_set() and number < len(planned):
                kept = f"what was measured is in {store.path}"
                return Ran(tuple(results), errors, ExperimentFailed("stopped by the user", kept, "interrupted"))
    return Ran(tuple(results), errors)


@contextmanager
def _made(study: Mapping[str, Any], store_path: Path, registry: Registry) -> Iterator[Store]:
    """A new store, with observers told of the study's beginning and, in whatever way, its end."""
    document = {**study, "llem": __version__, "started_at": datetime.now(UTC).isoformat(timespec="seconds")}
    store = Store.create(store_path, document)
    notify(registry, "llem_study_started", study=document, store=str(store.path))
    try:
        yield store
    finally:
        notify(registry, "llem_study_finished", study=document, store=str(store.path))


def _run_experiment(
    planned: Planned,
    store: Store,
    launcher: Launcher,
    registry: Registry,
    first_worker: int,
    emit: Emit,
    stop: threading.Event,
) -> tuple[Result, LlemError | None]:
    """Run, compute and store one experiment; its error, where a worker did not end well."""
    store.write_experiment(planned.id, planned.document)
    notify(registry, "llem_experiment_started", experiment=planned.document, store=str(store.path))
    error = _run_workers(planned, store, launcher, first_worker, emit, stop)
    result = recompute(store, planned.id)
    store.write_result(result)
    document = dict(planned.document)
    notify(registry, "llem_experiment_finished", experiment=document, result=_facts(result), store=str(store.path))
    return result, error


def _facts(result: Result) -> dict[str, Any]:
    return {"id": result.id, "outcome": result.outcome, "valid": result.valid, "error": result.error}


def _run_workers(
    planned: Planned, store: Store, launcher: Launcher, first_worker: int, emit: Emit, stop: threading.Event
) -> LlemError | None:
    """One worker per engine process, in folders numbered from `first_worker`.

    Returns the error of a worker that did not end well, after which no further one is started.
    """
    first = 0
    for restart, (trials, most) in enumerate(_shares(planned)):
        worker = first_worker + restart
        order = WorkOrder(str(store.path), planned.id, restart, worker, first, trials, most)
        kept = f"what was measured is in {store.path}"
        if stop.is_set():
            return _ended(planned, store, restart, "interrupted", "stopped by the user", kept)
        path = store.worker_dir(worker) / "order.json"
        order.write(path)
        seen: dict[str, Any] = {}

        def watch(event: Event, seen: dict[str, Any] = seen) -> None:
            if event.get("event") == "outcome":
                seen.update(event)
            emit(event)

        emit({"event": "worker", "restart": restart, "log": str(path.parent / "log.txt")})
        try:
            status = launcher.launch(path, watch, stop)
        except KeyboardInterrupt:
            if seen:
                return ExperimentFailed("killed by the user", kept, "interrupted")
            return _ended(planned, store, restart, "interrupted", "killed by the user", kept)
        if not seen and stop.is_set():  # told to stop before it could listen
            return _ended(planned, store, restart, "interrupted", "stopped by the user", kept)
        if not seen:  # it died without a word: killed, or a crash below Python
            error = f"the worker ended with status {status} and no outcome"
            return _ended(planned, store, restart, "crash", error, f"see {path.parent / 'log.txt'}")
        if seen["outcome"] != "done":
            return _worker_error(seen["error"])
        first += most
    return None


def _ended(planned: Planned, store: Store, restart: int, code: str, message: str, hint: str) -> LlemError:
    """Store the outcome of a worker that could not tell it itself; the error that says the same."""
    outcome = {"restart": restart, "outcome": code, "error": message, "code": code, "findings": []}
    store.write_outcome(planned.id, outcome)
    return ExperimentFailed(message, hint, code)


def _shares(planned: Planned) -> Sequence[tuple[int, int]]:
    """Trials (least, most) of each engine process, spread evenly and never none."""
    return list(zip(*(_spread(count, planned.restarts) for count in (planned.trials, planned.max_trials)), strict=True))


def _spread(count: int, parts: int) -> list[int]:
    each, more = divmod(count, parts)
    return [max(each + (part < more), 1) for part in range(parts)]


def _worker_error(error: Mapping[str, Any]) -> LlemError:
    kinds: dict[int, Callable[..., LlemError]] = {1: ExperimentFailed, 2: ConfigError, 3: MachineError}
    return kinds[error["exit_code"]](error["message"], error["hint"], error["code"])


def notify(registry: Registry, hook: str, **arguments: Any) -> None:
    """Call observers one by one; one that raises is named on standard error and stops nobody else."""
    pm = registry.found.pm
    for implementation in getattr(pm.hook, hook).get_hookimpls():
        wanted = {name: arguments[name] for name in implementation.argnames}
        try:
            implementation.function(**wanted)
        except Exception as error:  # a stranger's observer may raise anything; the measurement goes on
            told = finding("plugin_observer_failed", f"{implementation.plugin_name}: {type(error).__name__}: {error}")
            print(f"warning: {hook}: {told.message}", file=sys.stderr)


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises KeyboardInterrupt. Only in the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def first(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("stopping after this trial; press Ctrl-C again to stop at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
