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

__all__ = ["default_folder", "run_planned", "stop_on_interrupt"]


def default_folder(results_dir: str, name: str) -> Path:
    """A new folder's name under the results folder: study's name, UTC time, and a number where that is taken."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "llem"
    first = Path(results_dir) / f"{safe}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    further = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], further) if not path.exists())


def run_planned(
    planned: Planned,
    store_path: Path,
    launcher: Launcher,
    registry: Registry,
    *,
    name: str,
    emit: Emit,
    stop: threading.Event,
) -> Result:
    """Make the store, run every engine process of the experiment, compute and store its result.

    Raises:
        StoreError: the folder is there already.
        LlemError: the worker met the user's mistake or the machine's state; what was measured stays in the store.
    """
    study = {
        "name": name,
        "experiments": [planned.id],
        "llem": __version__,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store = Store.create(store_path, study)
    store.write_experiment(planned.id, planned.document)
    notify(registry, "llem_study_started", study=study, store=str(store.path))
    notify(registry, "llem_experiment_started", experiment=planned.document, store=str(store.path))
    try:
        error = _run_workers(planned, store, launcher, emit, stop)
        result = recompute(store, planned.id)
        store.write_result(result)
        facts = {"id": result.id, "outcome": result.outcome, "valid": result.valid, "error": result.error}
        document = dict(planned.document)
        notify(registry, "llem_experiment_finished", experiment=document, result=facts, store=str(store.path))
    finally:
        notify(registry, "llem_study_finished", study=study, store=str(store.path))
    if error is not None:
        raise error
    return result


def _run_workers(
    planned: Planned, store: Store, launcher: Launcher, emit: Emit, stop: threading.Event
) -> LlemError | None:
    """One worker per engine process. The error of a worker that was stopped by the user's or the machine's fault."""
    first = 0
    for restart, (trials, most) in enumerate(_shares(planned)):
        order = WorkOrder(str(store.path), planned.id, restart, restart, first, trials, most)
        kept = f"what was measured is in {store.path}"
        if stop.is_set():
            return _ended(planned, store, restart, "interrupted", "stopped by the user", kept)
        path = store.worker_dir(restart) / "order.json"
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
