"""Measuring configurations again, to see whether they are where it was stated: the study, its folder, its outcome."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from llem.analysis.confirm import Confirmation, Remeasured, judged, process_mean
from llem.analysis.limits import ATTAINMENT, Limit
from llem.analysis.prices import gpus_in, priced
from llem.analysis.sides import read_side
from llem.analysis.statement import Statement, in_order
from llem.errors import ConfigError, StoreError
from llem.metrics.quality import is_score
from llem.metrics.result import recompute
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Event
from llem.protocol.study_events import StudyBegan
from llem.store.convert import dump, load
from llem.store.documents import with_version
from llem.store.models import SCHEMA_VERSION, Result
from llem.store.store import Store
from llem.study.plan.again import measured_again

if TYPE_CHECKING:
    from llem.api import Ready

__all__ = [
    "PreparedConfirmation",
    "confirmation_study",
    "folder_beside",
    "outcome",
    "read_statement",
    "refuse_other",
    "software_of",
    "write_statement",
]

FILE = "confirm.json"
#: Sections of a stored environment that hold something else than versions.
NO_VERSIONS = ("host", "container")


def confirmation_study(store: Store, statement: Statement, registry: Registry) -> Mapping[str, Any]:
    """The study that measures the statement's configurations again: their processes take turns, in random order.

    Quality is evaluated again only where a limit is on a score itself.

    Raises as `llem.study.plan.again.measured_again`.
    """
    quality = any(is_score(limit.metric) and not limit.against for limit in statement.limits)
    name = f"{store.study().get('name') or 'llem'}-confirm"
    again = measured_again(
        store, statement.ids, registry, processes=statement.processes, quality=quality, name=name
    ).document
    order = {**again.get("order", {}), "kind": "blocks"}
    study = {**again, "order": {**order, "seed": order.get("seed", 0) + 1}}
    each = _requests_limits(statement.limits)
    return study if each is None else _with_slo(study, each)


def _requests_limits(limits: Sequence[Limit]) -> Mapping[str, float] | None:
    """The limits that each request must keep, where there is one set of them."""
    sets = [dict(limit.each) for limit in limits if limit.metric == ATTAINMENT and limit.each]
    return sets[0] if sets and all(one == sets[0] for one in sets) else None


def _with_slo(study: Mapping[str, Any], each: Mapping[str, float]) -> dict[str, Any]:
    """The study judged by these limits, in place of its own. They change no id."""
    base = {**study["base"], "slo": dict(each)}
    points = [
        {path: value for path, value in point.items() if path.partition(".")[0] != "slo"}
        for point in study.get("experiments", ())
    ]
    return {**study, "base": base, **({"experiments": points} if points else {})}


def folder_beside(folder: Path) -> Path:
    """The first name beside a result folder that is free: `DIR-confirm-1`, `DIR-confirm-2`, …"""
    whole = folder.resolve()
    names = (whole.with_name(f"{whole.name}-confirm-{number}") for number in itertools.count(1))
    return next(path for path in names if not path.exists())


def write_statement(store: Store, statement: Statement) -> None:
    """Store what is stated, once and before anything is measured; the same statement again changes nothing.

    Raises StoreError: another statement is there (statement_differs), or trials without one.
    """
    found = read_statement(store.path)
    if found is not None:
        refuse_other(store.path, found, statement)
    elif any(store.trial_indices(name) for name in store.experiment_ids()):
        what = f"{store.path} holds trials that were measured before anything was stated"
        raise StoreError(what, "confirm into another folder with `-o`", "statement_differs")
    else:
        store.journal.write_json(store.path / FILE, {"schema_version": SCHEMA_VERSION, **dump(statement)})


def read_statement(folder: Path) -> Statement | None:
    """What was stated in a folder; None where nothing is. Raises StoreError for a damaged document."""
    path = folder / FILE
    if not path.exists():
        return None
    document, _ = with_version(path)
    return load({key: value for key, value in document.items() if key != "schema_version"}, Statement, str(path))


def refuse_other(folder: Path, found: Statement, asked: Statement) -> None:
    """Raise ConfigError where a folder's statement is on something else. Its figures may differ: they stay."""
    same = ("metric", "processes", "ids", "limits", "prices")
    apart = [name for name in same if getattr(found, name) != getattr(asked, name)]
    if apart:
        was, now = (getattr(one, apart[0]) for one in (found, asked))
        what = f"{folder} confirms another statement: its {apart[0]} is {was}, and {now} is asked for"
        raise ConfigError(what, "ask as before, or confirm into another folder with `-o`", "statement_differs")


def outcome(store: Store, statement: Statement) -> Confirmation:
    """The outcome of a confirmation, from the trials that its store holds."""
    began = set(store.experiment_ids())
    found = {name: _remeasured(store, name, statement) for name in statement.ids if name in began}
    return judged(statement, found, software_of(store, list(found)))


def software_of(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """Versions by name, of llem, the driver and the packages that measured experiments; several are told with "or"."""
    names = {str(engine["environment"]) for one in ids for engine in store.engines(one) if engine.get("environment")}
    found: dict[str, set[str]] = {}
    for name in sorted(names):
        for package, version in _versions(store.read_environment(name)):
            found.setdefault(package, set()).add(version)
    return {package: " or ".join(sorted(versions)) for package, versions in sorted(found.items())}


def _versions(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of environments/<hash>.json: also what plugins tell of their engines, a section each."""
    yield from ((name, str(facts[name])) for name in ("llem", "driver") if facts.get(name))
    sections = (inner for name, inner in facts.items() if name not in NO_VERSIONS and isinstance(inner, Mapping))
    yield from ((name, one) for section in sections for name, one in section.items() if isinstance(one, str))


def _remeasured(store: Store, name: str, statement: Statement) -> Remeasured:
    result = store.read_result(name) or recompute(store, name)
    if result.outcome != "done":
        return Remeasured(None, why=f"{result.outcome}: {result.error or 'it did not end'}")
    side = read_side(store, name, [statement.metric], statement.prices)
    if statement.prices is not None:
        result = attrs.evolve(result, metrics=priced(result.metrics, statement.prices, gpus_in(store, name)))
    processes, places = len({run.process for run in side.runs}), in_order(side.places)
    found = [_limit_value(result, limit, statement.limits) for limit in statement.limits]
    told = Remeasured(
        None,
        processes,
        places,
        tuple(value for value, _ in found),
        tuple(why for _, why in found),
        findings=tuple(dict.fromkeys(one.code for one in result.findings if one.severity == "error")),
    )
    if told.findings:
        return attrs.evolve(told, why=f"its result is not valid: {', '.join(told.findings)}")
    if statement.metric in side.lacking:
        return attrs.evolve(told, why=f"{statement.metric} is not known: {side.lacking[statement.metric]}")
    if statement.basis is not None and side.basis != statement.basis:
        return attrs.evolve(told, why=f"its energy covers {side.basis}, and the statement is on {statement.basis}")
    return attrs.evolve(told, value=process_mean(side, statement.metric))


def _limit_value(result: Result, limit: Limit, limits: Sequence[Limit]) -> tuple[float | None, str]:
    """The value that a limit bounds, over all new trials; or why it is not known."""
    if limit.against:
        return None, "a change against the reference is not measured again: the reference is not"
    if limit.metric == ATTAINMENT and limit.each and _requests_limits(limits) is None:
        return None, "limits on requests of several kinds are not judged again"
    quantity = result.metrics.get(limit.metric)
    if quantity is None or quantity.value is None:
        return None, "it was not measured" if quantity is None else f"it was not measured ({quantity.reason})"
    return quantity.value, ""


@attrs.frozen
class PreparedConfirmation:
    """A statement, and the study that will show whether it holds."""

    statement: Statement
    ready: Ready

    def run(self, emit: Emit, stop: threading.Event) -> Confirmation:
        """Store the statement, measure, and judge.

        Raises LlemError: interrupted, or stopped after many failures in a row; what was measured is in the folder, and
        the same call with `resume` goes on.
        """
        store = Store(self.ready.folder)

        def told(event: Event) -> None:
            if isinstance(event, StudyBegan):  # the folder is there, and nothing is measured
                write_statement(store, self.statement)
            emit(event)

        ran = self.ready.run(told, stop)
        if ran.stopped is not None:
            raise ran.stopped
        return outcome(store, self.statement)
