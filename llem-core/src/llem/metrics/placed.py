"""Whether each file of a store is in its place, and what must be there is: read from the documents alone."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from llem.errors import StoreError
from llem.metrics.points import unlike
from llem.protocol.events import TrialEnded
from llem.protocol.lines import stored_events
from llem.protocol.study_events import ResultComputed, StudyBegan, WorkerLaunched
from llem.store.documents import read_json
from llem.store.files import DIGEST, computed_from, digest, read_document
from llem.store.manifest import JOURNAL
from llem.store.names import WORKER, is_odd, numbered
from llem.store.store import HASH_LENGTH, LOCKS, Store

__all__ = ["Difference", "contained", "misplaced", "missing_files"]


@attrs.frozen
class Difference:
    """What is not as its sources give it: in which file, the dotted path to it, and both values.

    `what` says it in words, where it is no value: a file that is in no place of its own, or cannot be read.
    """

    file: str
    path: str
    stored: Any = None
    recomputed: Any = None
    what: str = ""

    def __str__(self) -> str:
        if self.what:
            return f"{self.file}: {self.what}"
        return f"{self.file}: {self.path}: stored {self.stored!r}, recomputed {self.recomputed!r}"


def contained(file: str, part: Callable[[], Iterable[Difference]]) -> Iterator[Difference]:
    """The differences of a part; that it cannot be read is one, and keeps nobody from the other parts."""
    try:
        yield from part()
    except StoreError as error:
        yield Difference(file, "", what=error.message)


def misplaced(store: Store) -> Iterator[Difference]:
    """What of a store is not in its place, or is not there."""
    names = store.experiment_ids()
    yield from contained("study.json", partial(_listed, store, names))
    for name in names:
        yield from contained(f"experiments/{name}", partial(_in_folder, store, name))
    for path in sorted(store.path.glob("environments/*.json")):
        yield from contained(f"environments/{path.name}", partial(_named, path))
    yield from _twice(store, names)
    yield from _odd(store)
    yield from contained("events.jsonl", partial(_told_of_study, store))
    last: dict[str, TrialEnded] = {}
    for worker in numbered(store.path / "workers", WORKER):
        log = worker / "events.jsonl"
        yield from contained(log.relative_to(store.path).as_posix(), partial(_told_of_trials, log, last))
    for file, event in last.items():
        yield from contained(file, partial(_unlike_told, store, file, event))


def _points(store: Store, study: Mapping[str, Any], name: str) -> Iterator[Difference]:
    """What the study says that an experiment sets, and it does not."""
    for path, said, configured in unlike(study, name, store.read_experiment(name)["config"]):
        yield Difference("study.json", path, said, configured)


def _listed(store: Store, names: Iterable[str]) -> Iterator[Difference]:
    study = store.study()
    listed = study.get("experiments")
    if listed is not None:
        for name in sorted(set(names) - set(listed)):
            yield Difference(f"experiments/{name}", "", what="study.json lists no such experiment")
    points = study.get("points")
    if listed is not None and points is not None and set(points) != set(listed):
        yield Difference("study.json", "points", sorted(points), sorted(listed))
    for name in names:
        yield from contained(f"experiments/{name}", partial(_points, store, study, name))
    for path in sorted(store.path.glob("experiments/*")):
        if path.name not in names and not path.is_symlink() and any(path.glob("[!.]*")):
            yield Difference(f"experiments/{path.name}", "", what="experiment.json is missing")


def _in_folder(store: Store, name: str) -> Iterator[Difference]:
    """Documents of one experiment that are of another place (`llem.store.documents`), and those that others name."""
    folder, documents = f"experiments/{name}", {}
    for path in sorted(store.folder(name).glob("[!.]*.json")):
        if is_odd(f"{folder}/{path.name}"):
            continue
        try:
            documents[path.name] = read_json(path)
        except StoreError as error:
            yield Difference(f"{folder}/{path.name}", "", what=error.message)
    for file, document in documents.items():
        for named in _named_in(folder, file, document):
            if not os.path.isfile(store.path / named):  # also of a name that no file can have
                again = f". Restore it, or remove {file}, which `llem run --resume` then measures again"
                told = again if file.startswith("trial-") else ""
                yield Difference(named, "", what=f"missing: {folder}/{file} names it{told}")


def missing_files(store: Store, names: Iterable[str]) -> Iterator[Difference]:
    """Files of these experiments that documents of theirs name, and that are not there."""
    for name in names:
        yield from (one for one in _in_folder(store, name) if one.what.startswith("missing: "))


def _named_in(folder: str, file: str, document: Mapping[str, Any]) -> Iterator[str]:
    """The files that a document of an experiment needs."""
    if file.startswith("engine-") and (environment := document.get("environment")):
        yield f"environments/{environment}.json"
    if file.startswith("trial-"):
        yield f"{folder}/engine-{document.get('process')}.json"
    if file.startswith(("trial-", "baseline-")):
        yield f"{folder}/{file.removesuffix('.json')}.power.csv.gz"
    if file.startswith("trial-"):
        yield f"{folder}/{file.removesuffix('.json')}.requests.csv.gz"


def _named(path: Path) -> Iterator[Difference]:
    """An environment is named by the hash of what it says."""
    _, document = read_document(path)
    document.pop(DIGEST, None)
    with computed_from(path):
        found = digest(document)[:HASH_LENGTH]
    if found != path.stem:
        yield Difference(f"environments/{path.name}", "", what=f"its name is not the hash of what it says, {found}")


def _twice(store: Store, names: Iterable[str]) -> Iterator[Difference]:
    """A trial that says what another one says, but for its place, is that one, copied."""
    seen: dict[str, str] = {}
    for name in names:
        for index in sorted(store.trial_indices(name)):
            file = f"experiments/{name}/trial-{index}.json"
            try:
                document = read_json(store.path / file)
                with computed_from(store.path / file):
                    said = digest({key: one for key, one in document.items() if key not in ("experiment_id", "index")})
            except StoreError:  # told elsewhere
                continue
            if said in seen:
                yield Difference(file, "", what=f"it is a copy of {seen[said]}")
            seen.setdefault(said, file)


def _odd(store: Store) -> Iterator[Difference]:
    """What looks like a file of a trial or a process, a worker's folder, a lock or a lease, and is none."""
    for path in sorted([*store.path.glob("experiments/*/[!.]*"), *store.path.glob("workers/[!.]*")]):
        if is_odd(name := path.relative_to(store.path).as_posix()):
            what = "llem writes no such name: numbers have up to nine digits and no zeros before them. Remove it"
            yield Difference(name, "", what=what)
    for name in LOCKS:
        path = store.path / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            yield Difference(name, "", what="no regular file, as locks are. Remove it")
    for path in sorted(store.path.glob("experiments/*/.lease-*")):
        with contextlib.suppress(FileNotFoundError):  # it was let go meanwhile
            if not stat.S_ISDIR(path.lstat().st_mode):
                what = "no folder, as leases are. Remove it"
                yield Difference(path.relative_to(store.path).as_posix(), "", what=what)


def _told_of_study(store: Store) -> Iterator[Difference]:
    """Experiments that the study's log tells of, and that are not there."""
    begun: set[str] = set()
    computed: set[str] = set()
    for event in stored_events(store.path / "events.jsonl"):
        if isinstance(event, WorkerLaunched):
            begun |= set(event.experiments)
        elif isinstance(event, ResultComputed):
            computed.add(event.id)
        elif isinstance(event, StudyBegan):  # the study went on
            computed.clear()
    there, results = set(store.experiment_ids()), set(store.result_ids())
    for name in sorted(begun - there):
        yield Difference(f"experiments/{name}", "", what="missing: events.jsonl tells that a worker had it")
    kept = (store.path / JOURNAL).is_file()  # it says what was removed, to be computed again
    for name in () if kept else sorted((computed - results) & there):
        yield Difference(f"experiments/{name}/result.json", "", what="missing: events.jsonl tells that it was computed")


def _told_of_trials(log: Path, last: dict[str, TrialEnded]) -> Iterable[Difference]:
    """Puts what a log tells of each trial into `last`, by the trial's file. A later worker measured it again."""
    for event in stored_events(log):
        if isinstance(event, TrialEnded):
            last[f"experiments/{event.id}/trial-{event.trial}.json"] = event
    return ()


def _unlike_told(store: Store, file: str, event: TrialEnded) -> Iterator[Difference]:
    """That a trial is not there, or is another one than was told of last."""
    path = store.path / file
    if not os.path.isfile(path):  # also of a name that no file can have
        yield Difference(file, "", what="missing: the log of its worker tells of it")
        return
    try:
        document = read_json(path)
    except StoreError:  # told elsewhere
        return
    for field in ("t0_ns", "t1_ns"):
        if document.get(field) != getattr(event, field) and not _is_later(document, event):
            yield Difference(file, field, document.get(field), getattr(event, field))


def _is_later(document: Mapping[str, Any], event: TrialEnded) -> bool:
    """Whether a stored trial began after the event: it was measured again, by a worker killed before it told of it.

    By the wall clock: another machine, or another start of this one, has another monotonic clock.
    """
    try:
        return datetime.fromisoformat(document["started_at"]) > datetime.fromisoformat(event.at.utc)
    except (KeyError, TypeError, ValueError):  # told elsewhere
        return False
