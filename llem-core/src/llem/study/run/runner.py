"""Running: a store of our own, and in it the course of a study."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llem import __version__
from llem.launchers.base import Launcher
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Event
from llem.store.store import Store
from llem.study.run.observers import notify
from llem.study.run.preflight import Planned
from llem.study.run.resume import go_on, is_begun, owned
from llem.study.run.study_run import Ran, StudyRun, Terms

__all__ = ["Ran", "Terms", "default_folder", "run_all"]


def default_folder(results_dir: str, name: str) -> Path:
    """A new folder's name under the results folder: study's name, UTC time, and a number where that is taken."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "llem"
    first = Path(results_dir) / f"{safe}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    further = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], further) if not path.exists())


def run_all(
    planned: Sequence[Planned],
    store_path: Path,
    make_launcher: Callable[[], Launcher],
    registry: Registry,
    *,
    study: Mapping[str, Any],
    emit: Emit,
    stop: threading.Event,
    terms: Terms | None = None,
) -> Ran:
    """Measure many experiments into one store, going on after one that fails.

    Before all comes the event `study` (experiments, done, processes, parallel, gap_s, and for each engine process what
    `job_plan` says of it), and a `warning` (message) where experiments go on on other boards; after each experiment
    `result` (id, outcome, valid, error); workers' events have the number of their `worker`.

    Raises:
        StoreError: the folder is there already, or another run works in it.
        ConfigError: `terms.resume`, and the folder holds another study.
        LlemError: the store cannot be written any more; what was measured stays in it.
    """
    terms = terms or Terms()
    with _opened(study, store_path, registry, planned, terms.resume) as store:
        return StudyRun(store, planned, make_launcher, registry, terms, _one_by_one(emit), stop).run()


@contextmanager
def _opened(
    study: Mapping[str, Any], store_path: Path, registry: Registry, planned: Sequence[Planned], resume: bool
) -> Iterator[Store]:
    """A store of our own, with observers told of the study's beginning and, in whatever way, its end."""
    document = {**study, "llem": __version__, "started_at": datetime.now(UTC).isoformat(timespec="seconds")}
    again = resume and is_begun(store_path)
    store = Store.open(store_path) if again else Store.create(store_path, document)
    with owned(store):
        if again:
            go_on(store, study, planned)
        notify(registry, "llem_study_started", study=document, store=str(store.path))
        try:
            yield store
        finally:
            notify(registry, "llem_study_finished", study=document, store=str(store.path))


def _one_by_one(emit: Emit) -> Emit:
    """Events of several workers come from several threads."""
    lock = threading.Lock()

    def told(event: Event) -> None:
        with lock:
            emit(event)

    return told
