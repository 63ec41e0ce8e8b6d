"""Compute every derived number of a store again from its raw rows, and say where the stored one differs; and whether
each file is in its place (`llem.metrics.placed`)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from llem.errors import StoreError
from llem.evaluators.items import follows, value_of
from llem.meters.base import Domain
from llem.meters.trace import TraceRow
from llem.meters.window import energy_readings
from llem.metrics.accounts import SINCE, counted, stated, unbalanced
from llem.metrics.catalogue import is_metric, metric_of
from llem.metrics.designs import part_counts
from llem.metrics.placed import Difference, contained, misplaced
from llem.metrics.result import recompute
from llem.store.convert import dump
from llem.store.documents import read_model
from llem.store.evaluations import Evaluation, evaluations, items_sha256, read_items
from llem.store.files import computed_from, stored_digest, stored_version
from llem.store.models import SCHEMA_VERSION, EnergyReading, RequestRow, Result, Trial
from llem.store.store import Store

__all__ = ["Difference", "older_documents", "sampled_domains", "verify"]

#: Sums of fractions differ in their last digits between machines: `sum` is compensated from Python 3.12 on, and the
#: order in which numpy adds depends on the processor. Nothing that is stated is as fine as this.
RELATIVE = 1e-12
#: First version with the present error budgets.
BUDGETS_SINCE = 4


def verify(store: Store) -> list[Difference]:
    """Every difference in the store: what is not as its sources give it, not in its place, not there, or unreadable.

    The journals are compared by `llem.store.journal.compared`.
    """
    found = [*misplaced(store)]
    for path in store.documents():
        found += contained(path.relative_to(store.path).as_posix(), partial(_digest, store, path))
    for experiment_id in store.experiment_ids():
        found += _experiment(store, experiment_id)
    return list({str(told): told for one in found for told in [_within(store, one)]}.values())


def _within(store: Store, one: Difference) -> Difference:
    """Named by the file that cannot be read, on whatever way it was met, and by its path within the store."""
    what = one.what.replace(f"{store.path}/", "")
    for mark, verb in ((": ", ""), (" is ", "is "), (" has ", "has ")):
        file, found, rest = what.partition(mark)
        if found and os.path.lexists(store.path / file):  # of any name, also one that no file can have
            return attrs.evolve(one, file=file, what=f"{verb}{rest}")
    return attrs.evolve(one, what=what)


def _digest(store: Store, path: Path) -> Iterator[Difference]:
    stored, now = stored_digest(path)
    if stored != now:
        yield Difference(path.relative_to(store.path).as_posix(), "digest", stored, now)


def older_documents(store: Store) -> dict[int, int]:
    """How many results, trials and baselines an older version wrote, by that version: not all in them is compared."""
    found = [path for path in store.documents() if path.name.startswith(("result", "trial-", "baseline-"))]
    versions = [version for path in found if (version := _version(path)) < SCHEMA_VERSION]
    return {version: versions.count(version) for version in sorted(set(versions))}


def _version(path: Path) -> int:
    """Of a document; the present one where it cannot be read, which `verify` tells."""
    try:
        return stored_version(path)
    except StoreError:
        return SCHEMA_VERSION


def _experiment(store: Store, experiment_id: str) -> Iterator[Difference]:
    """Part by part: one that cannot be read hides no other."""
    folder = f"experiments/{experiment_id}"
    for part in (_baselines, _trials, _evaluations, _result):
        yield from contained(folder, partial(part, store, experiment_id, folder))


def _domains(store: Store, experiment_id: str) -> dict[int, tuple[tuple[str, Domain], ...]]:
    return {engine["process"]: sampled_domains(engine) for engine in store.engines(experiment_id)}


def _baselines(store: Store, experiment_id: str, folder: str) -> Iterator[Difference]:
    domains = _domains(store, experiment_id)
    for baseline in store.baselines(experiment_id):
        file = f"{folder}/baseline-{baseline.process}-{baseline.phase}.json"
        rows = store.baseline_trace(experiment_id, baseline.process, baseline.phase)
        with computed_from(store.path / file):
            again = _energies(rows, domains.get(baseline.process, ()), baseline.t0_ns, baseline.t1_ns)
        yield from _compare_energies(store, file, "readings", baseline.readings, again)


def _trials(store: Store, experiment_id: str, folder: str) -> Iterator[Difference]:
    domains = _domains(store, experiment_id)
    for index in sorted(store.trial_indices(experiment_id)):
        file = f"{folder}/trial-{index}.json"
        yield from contained(file, partial(_trial, store, experiment_id, index, file, domains))


def _trial(
    store: Store, experiment_id: str, index: int, file: str, domains: Mapping[int, Sequence[tuple[str, Domain]]]
) -> Iterator[Difference]:
    trial = read_model(store.path / file, Trial)
    rows = store.trace(experiment_id, index)
    requests = store.requests(experiment_id, index)
    with computed_from(store.path / file):
        again = _energies(rows, domains.get(trial.process, ()), trial.t0_ns, trial.t1_ns)
        found = [*_requests(store, trial, requests, file), *_parts(trial, requests, file)]
        of_parts = [_energies(rows, domains.get(trial.process, ()), part.t0_ns, part.t1_ns) for part in trial.parts]
    yield from _compare_energies(store, file, "energies", trial.energies, again)
    for number, (part, once_more) in enumerate(zip(trial.parts, of_parts, strict=True)):
        yield from _compare_energies(store, file, f"parts[{number}].energies", part.energies, once_more)
    yield from found


def _evaluations(store: Store, experiment_id: str, folder: str) -> Iterator[Difference]:
    for evaluation in evaluations(store, experiment_id):
        file = f"{folder}/quality-{evaluation.key}.json"
        yield from contained(file, partial(_evaluation, store, experiment_id, evaluation, file))


def _result(store: Store, experiment_id: str, folder: str) -> Iterator[Difference]:
    if (found := store.read_any_result(experiment_id)) is None:
        recompute(store, experiment_id, _items_or_none)
        return
    stored, version = found
    file, now = f"{folder}/result.json", recompute(store, experiment_id, _items_or_none)
    if version == SCHEMA_VERSION:
        yield from _compare(file, "", dump(stored), dump(now))
    else:
        yield from _compare(file, "", _unchanged(stored, version), _unchanged(now, version))


def _requests(store: Store, trial: Trial, rows: Sequence[RequestRow], file: str) -> Iterator[Difference]:
    """What a trial says of its requests against their rows, and that no request of a load is without an outcome."""
    version = stored_version(store.path / file)
    yield from _compare(file, "", stated(trial, version), counted(trial, rows, version))
    if version >= SINCE and trial.serving is not None and (lost := unbalanced(trial.serving)) is not None:
        yield Difference(file, "serving: in_flight_start + sent = completed + failed + in_flight_end", *lost)


def _parts(trial: Trial, rows: Sequence[RequestRow], file: str) -> Iterator[Difference]:
    """What the parts of a trial count against the rows of its whole window."""
    for number, part in enumerate(trial.parts):
        counts = part_counts(trial, part, rows)
        path = f"parts[{number}]"
        if counts is None:
            yield Difference(file, f"{path}.name", part.name, None)
            continue
        said = {name: getattr(part, name) for name in counts}
        yield from _compare(file, path, {**said, "batch_s": len(part.batch_s)}, counts)


def _items_or_none(store: Store, experiment_id: str, evaluation: Evaluation) -> Evaluation:
    """With its items where they can be read; that they cannot is a difference of its own."""
    try:
        return read_items(store, experiment_id, evaluation)
    except StoreError:
        return evaluation


def _evaluation(store: Store, experiment_id: str, evaluation: Evaluation, file: str) -> Iterator[Difference]:
    """Of each score what its items give: their number, that each is once, and the value."""
    try:
        whole = read_items(store, experiment_id, evaluation)
        rows = items_sha256(store, experiment_id, evaluation)
    except StoreError as error:
        yield Difference(file, "items", "the rows of its items", error.message)
        return
    if evaluation.items_sha256 not in ("", rows):
        yield Difference(file, "items_sha256", evaluation.items_sha256, rows)
    for place, score in enumerate(whole.scores):
        path = f"scores[{place}]"
        if not score.items:  # an evaluator may keep none
            continue
        if score.n != len(score.items):
            yield Difference(file, f"{path}.n", score.n, len(score.items))
        distinct = len({item.id for item in score.items})
        if distinct != len(score.items):
            yield Difference(file, f"{path}.items: different names", len(score.items), distinct)
        if not follows(score):
            yield Difference(file, f"{path}.value", score.value, value_of(score.items, score.aggregation))


#: Parts of a result that follow from the trials alone, by whatever rules it is computed.
FACTS = ("id", "outcome", "error", "config", "sources", "effective", "environment", "weights", "trials")


def _unchanged(result: Result, version: int) -> dict[str, Any]:
    """What of a result is still computed as that older version did: its facts, and values of metrics.

    Intervals and findings follow the present rules; a metric whose `since` is later has another rule for its value.
    """
    facts = {name: value for name, value in dump(result).items() if name in FACTS}
    kept = {name: one for name, one in result.metrics.items() if _since(name) <= version}
    return {**facts, "metrics": {name: {"value": one.value, "unit": one.unit} for name, one in kept.items()}}


def _since(name: str) -> int:
    """First version with the present rule of a metric; of one that this llem does not know, any."""
    return metric_of(name).since if is_metric(name) else 0


def sampled_domains(engine: Mapping[str, Any]) -> tuple[tuple[str, Domain], ...]:
    """Domains that are read from the trace; a library that measures a window by itself leaves no rows."""
    known = [field.name for field in attrs.fields(Domain)]
    found = []
    for entry in engine.get("domains", ()):
        domain = Domain(**{name: entry[name] for name in known if name in entry})
        if domain.method != "window":
            found.append((entry["meter"], domain))
    return tuple(found)


def _energies(
    rows: Sequence[TraceRow], domains: Sequence[tuple[str, Domain]], t0_ns: int, t1_ns: int
) -> dict[str, dict[str, Any]]:
    return {f"{r.meter}.{r.domain}": dump(r) for r in energy_readings(rows, domains, t0_ns, t1_ns)}


def _compare_energies(
    store: Store, file: str, path: str, stored: Sequence[EnergyReading], again: Mapping[str, dict[str, Any]]
) -> Iterator[Difference]:
    """Energies of a document; of one that an older version wrote without error budgets, which have other rules now."""
    named = {f"{reading.meter}.{reading.domain}": dump(reading) for reading in stored}
    if stored_version(store.path / file) < BUDGETS_SINCE:
        for reading in (*named.values(), *again.values()):
            reading.pop("budget", None)
    yield from _compare(file, path, {name: named.get(name) for name in again}, dict(again))


def _compare(file: str, path: str, stored: Any, again: Any) -> Iterator[Difference]:
    """Differences between two JSON values, leaf by leaf; 1 and 1.0 differ, as their files do."""
    if isinstance(stored, dict) and isinstance(again, dict):
        for name in sorted({*stored, *again}):
            inner = f"{path}.{name}" if path else name
            yield from _compare(file, inner, stored.get(name), again.get(name))
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for i, (one, other) in enumerate(zip(stored, again, strict=True)):
            yield from _compare(file, f"{path}[{i}]", one, other)
    elif not _same(stored, again):
        yield Difference(file, path, stored, again)


def _same(stored: Any, again: Any) -> bool:
    if isinstance(stored, float) and isinstance(again, float):
        return math.isclose(stored, again, rel_tol=RELATIVE, abs_tol=RELATIVE**2)
    return type(stored) is type(again) and bool(stored == again)
