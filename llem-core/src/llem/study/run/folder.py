"""The folder of a run: a new one, or an existing one that holds the same study."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llem import __version__
from llem.config.layers import leaves
from llem.config.load import COMMAND
from llem.devices.locks import is_held
from llem.errors import ConfigError, Problem, StoreError
from llem.plugins.registry import Registry
from llem.store.evaluations import has_evaluations
from llem.store.files import machine_errors, make_folder
from llem.store.manifest import refuse_links
from llem.store.names import NUMBER
from llem.store.store import Store
from llem.study.plan.planned import PlannedExperiment
from llem.study.run.quiet import notify

__all__ = ["damaged", "default_folder", "differences", "joinable", "opened"]

#: Settings that do not change what is executed. They may change when a study is resumed.
MAY_CHANGE = ("max_trials", "quality", "slo", "target_half_width", "trials")
#: Bytes of a study's name in the name of its folder; a file system allows 255 in all.
LONGEST = 150
#: What llem writes into a store that has no trials.
_OURS = re.compile(
    rf"study\.json|experiments|environments|workers|events\.jsonl|journal\.sha256|\.owner|\.workers|earlier-{NUMBER}"
)
#: How many differences an error lists.
MOST_TOLD = 8
#: How long a worker of an earlier run may take to be gone, after the process that launched it has died.
WORKERS_GONE_S = 30.0


def default_folder(results_dir: str, name: str) -> Path:
    """A new folder's name under the results folder: study's name, UTC time, and a number where that is taken."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-").encode()[:LONGEST].decode(errors="ignore") or "llem"
    first = Path(results_dir) / f"{safe}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    further = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], further) if not path.exists())


@contextlib.contextmanager
def opened(
    study: Mapping[str, Any],
    path: Path,
    registry: Registry,
    planned: Sequence[PlannedExperiment],
    resume: bool,
    joins: bool = False,
) -> Iterator[Store]:
    """A store that only this process writes. Observers are called at the study's beginning and at its end.

    A store in which nothing was measured is in nobody's way: what it holds is set aside, and the study begins.

    Args:
        study: what `study.json` will hold.
        resume: continue the study in the folder, if there is one.
        joins: add experiments of commands to those of the folder, if there are some.

    Raises:
        StoreError: the folder is there already, or another run works in it, or it has a link in it.
        ConfigError: `resume`, and the folder holds another study.
    """
    document = {**study, "llem": __version__, "started_at": datetime.now(UTC).isoformat(timespec="seconds")}
    again = (resume or joins) and (path / "study.json").is_file()
    anew = not again and _measured_nothing(path)
    store = Store.open(path) if again or anew else Store.create(path, document)
    refuse_links(path)
    with _owned(store):
        if again and joins:
            _join(store, study, planned)
        elif again:
            _go_on(store, study, planned)
        elif anew:
            _set_aside(store)
            store.write_study(document)
        notify(registry, "llem_study_started", study=document, store=str(store.path))
        try:
            yield store
        finally:
            store.journal.seal_logs(workers=not is_held(store.worker_lock(shared=False)))
            notify(registry, "llem_study_finished", study=document, store=str(store.path))


@contextlib.contextmanager
def _owned(store: Store) -> Iterator[None]:
    """This process alone runs the study. Raises StoreError (store_busy) when another does."""
    lock = store.owner_lock()
    with machine_errors(lock.path):
        taken = lock.take()
    if not taken:
        raise StoreError(f"another `llem run` works in {store.path}", "wait until it has ended", "store_busy")
    try:
        yield
    finally:
        lock.let_go()


def _go_on(store: Store, study: Mapping[str, Any], planned: Sequence[PlannedExperiment]) -> None:
    """Make the store ready to resume: it holds the same study, no worker is left, no file is half-written.

    Raises:
        ConfigError: the store holds another study; the error lists the differences.
        StoreError: a worker of an earlier run still runs.
    """
    if found := list(differences(store, study, planned)):
        told = (
            found
            if len(found) <= MOST_TOLD
            else [*found[:MOST_TOLD], Problem("", f"and {len(found) - MOST_TOLD} more")]
        )
        file = "" if study.get("texts") else next(iter(store.study().get("texts", {})), "")
        hint = f"run it into another folder with `-o`, or go on with the study as it was{file and f', {file}'}"
        raise ConfigError(f"this is not the study of {store.path}", hint, problems=tuple(told))
    _wait_for_workers(store)
    store.clean()
    _write_again(store, study, planned)


def joinable(store: Store) -> None:
    """Raise StoreError where a store holds anything but metered commands, which alone can be added to one another."""
    if any(store.read_experiment(name)["config"].get("backend") != COMMAND for name in store.experiment_ids()):
        hint = "choose another folder with `-o`"
        raise StoreError(f"{store.path} holds a study that is not of commands", hint, "store_exists")


def _join(store: Store, study: Mapping[str, Any], planned: Sequence[PlannedExperiment]) -> None:
    """Add experiments of commands to a store of such. Raises StoreError: it holds others, or a worker still runs."""
    joinable(store)
    _wait_for_workers(store)
    store.clean()
    before = store.study()
    listed = {name: list(dict.fromkeys((*before.get(name, ()), *study[name]))) for name in ("experiments", "axes")}
    points = {**before.get("points", {}), **study["points"]}
    joined = {**study, **listed, "points": points, "declared": len(listed["experiments"])}
    _write_again(store, joined, planned)


def _write_again(store: Store, study: Mapping[str, Any], planned: Sequence[PlannedExperiment]) -> None:
    """The study as it is asked for now, with when it began and went on."""
    before = store.study()
    resumed = [*before.get("resumed_at", []), datetime.now(UTC).isoformat(timespec="seconds")]
    began = {name: value for name, value in before.items() if name in ("llem", "started_at")}
    store.write_study({**study, **began, "resumed_at": resumed})
    for one in planned:
        if _config(store, one.id) not in (None, (document := one.document())["config"]):
            store.remove_result(one.id)
            store.write_experiment(one.id, document, replace=True)


def _config(store: Store, experiment_id: str) -> Mapping[str, Any] | None:
    """What an experiment was configured with; nothing where that cannot be read, None where it has not begun."""
    if not (store.folder(experiment_id) / "experiment.json").exists():
        return None
    try:
        return store.read_experiment(experiment_id)["config"]  # type: ignore[no-any-return]
    except StoreError:  # the study says it again, and the folder's name is its hash
        return {}


def damaged(store: Store, names: Iterable[str]) -> dict[str, StoreError]:
    """Experiments of which a file cannot be read that a result is computed from, with what is wrong."""
    found = {}
    for name in names:
        try:
            store.read_experiment(name)
            for read in (store.trials, store.engines, store.outcomes, store.baselines):
                read(name)
        except StoreError as error:
            found[name] = error
    return found


def _wait_for_workers(store: Store) -> None:
    """Return when no worker of an earlier run is left. Raises StoreError: one still runs."""
    lock, until = store.worker_lock(shared=False), time.monotonic() + WORKERS_GONE_S
    with machine_errors(lock.path):
        while not lock.take():
            if time.monotonic() > until:
                raise StoreError(f"a worker of an earlier run is still at work in {store.path}", "end it", "store_busy")
            time.sleep(0.1)
    lock.let_go()


def _measured_nothing(path: Path) -> bool:
    """Whether a folder is a store without any trial or evaluation, and holds nothing that llem did not write."""
    if not (path / "study.json").is_file() or not all(_OURS.fullmatch(one.name) for one in path.iterdir()):
        return False
    try:
        store = Store.open(path)
    except StoreError:  # it cannot be read, so nobody can tell what it holds
        return False
    return not any(store.path.glob("experiments/*/trial-*")) and not has_evaluations(store)


def _set_aside(store: Store) -> None:
    """Move what an earlier run left, such as its logs, into a folder `earlier-<n>` within the store."""
    _wait_for_workers(store)
    names = [one.name for one in store.path.iterdir()]
    aside = next(store.path / name for n in itertools.count(1) if (name := f"earlier-{n}") not in names)
    make_folder(aside)
    with machine_errors(aside):
        for name in sorted(name for name in names if not name.startswith((".", "earlier-"))):
            os.replace(store.path / name, aside / name)


def differences(store: Store, study: Mapping[str, Any], planned: Sequence[PlannedExperiment]) -> Iterator[Problem]:
    """Differences between a study and the stored one, apart from settings that change no execution."""
    before = store.study()
    if before.get("order") != study.get("order"):
        yield Problem("order", f"is {_short(study.get('order'))}, and was {_short(before.get('order'))}")
    if before.get("reference") != study.get("reference"):
        yield Problem("reference", f"is {_short(study.get('reference'))}, and was {_short(before.get('reference'))}")
    was, now = _points(before), _points(study)
    if _varies(was) != _varies(now):
        here, there = (_counted(points) for points in (now, was))
        yield Problem("", f"this is {here}, and the folder has {there}")
        return
    by_values = {values: name for name, values in was.items()}
    settings: dict[str, Problem] = {}
    same: set[str] = set()  # experiments of the folder that are in the study, however the study writes them
    for one in planned:
        old = one.id if one.id in was else by_values.get(now[one.id])
        if old is None:
            yield Problem("", f"a point is new: {now[one.id]}")
            continue
        same.add(old)
        stored = _config(store, old) or {}
        found = list(_settings(one.document()["config"], stored)) if stored else []
        if old != one.id and not found:  # what the settings lead to: a file's content, say; or it has not begun
            what = f"a point is another experiment than it was: {now[one.id]}"
            found = [Problem("", what if _varies(now) else "the experiment is another one than it was")]
            found += _asked(study, before)
        settings.update((str(problem), problem) for problem in found)
    yield from settings.values()
    yield from (Problem("", f"a point is gone: {values}") for name, values in was.items() if name not in same)


def _varies(points: Mapping[str, str]) -> bool:
    """Whether the points differ in any setting."""
    return list(points.values()) != [_short({})]


def _counted(points: Mapping[str, str]) -> str:
    if not _varies(points):
        return "one experiment that varies nothing"
    return f"a study of {len(points)} experiment" + ("" if len(points) == 1 else "s")


def _asked(study: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[Problem]:
    """Differences in files, and in settings given beside them."""
    now, was = study.get("texts", {}), before.get("texts", {})
    yield from (Problem(name, "is not as it was") for name in {**was, **now} if now.get(name) != was.get(name))
    now, was = _overrides(study), _overrides(before)
    for path in {**was, **now}:
        if now.get(path) != was.get(path):
            here, there = (_short(one[path]) if path in one else "not given" for one in (now, was))
            yield Problem(path, f"is {here}, and was {there}")


def _overrides(study: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for layer in study.get("overrides", ()) for path, value in leaves(layer["values"])}


def _points(study: Mapping[str, Any]) -> dict[str, str]:
    """Ids to what each point sets, as text."""
    points = study.get("points", {})
    return {name: _short(points.get(name, {}).get("values", {})) for name in study.get("experiments", ())}


def _settings(now: Mapping[str, Any], was: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings that differ, without those that may change."""
    flat_now, flat_was = dict(leaves(now)), dict(leaves(was))
    for path in dict.fromkeys((*flat_now, *flat_was)):
        here, there = flat_now.get(path), flat_was.get(path)
        if here == there:
            continue
        name = path.partition(".")[0]
        if name == "trials" and isinstance(here, int) and isinstance(there, int) and here < there:
            yield Problem("trials", f"is {here}, and was {there}", "trials that are measured are kept: ask for more")
        elif name not in MAY_CHANGE:
            yield Problem(path, f"is {_short(here)}, and was {_short(there)}")


def _short(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
