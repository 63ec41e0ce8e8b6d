"""One experiment of a report at length: configuration, environment, findings, figures, power traces, latencies."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.errors import LlemError
from llem.findings import FINDINGS, REASONS
from llem.metrics.metric import Measured
from llem.reports.figures import figure, setting
from llem.reports.page.experiments import MANY
from llem.reports.page.gather import Gathered, significant
from llem.reports.page.latencies import latencies_of
from llem.reports.page.method import experiment_method, facts_of
from llem.reports.page.trace import traces_of
from llem.reports.views import result_view
from llem.store.models import DomainMetrics, Result, Trial
from llem.store.store import Store

__all__ = ["details"]

#: Longest text of one value.
LONGEST = 300


def details(found: Gathered, name: str, reference: str | None) -> dict[str, Any]:
    """One experiment as JSON values. What of it is damaged is told in `damaged`, and ends nothing.

    Of more than `MANY` experiments the first trial of each has a trace, and no latency a distribution.

    Args:
        name: its id.
        reference: id of the experiment that its configuration is compared with.
    """
    told: list[str] = [found.damaged[name]] if name in found.damaged else []
    many = len(found.results) > MANY
    made: dict[str, Any] = {**_EMPTY, "reference": reference, "damaged": told}
    parts = (_configured, _measured) if name not in found.damaged else (_configured,)
    for part in parts:
        try:
            made.update(part(found, name, reference, many, told))
        except LlemError as error:
            told.append(error.message)
    made["damaged"] = list(dict.fromkeys(told))
    return made


_EMPTY: Mapping[str, Any] = {
    "config": [], "environment": [], "effective": [], "findings": [], "figures": [], "traces": [], "tracesLeftOut": 0,
    "latencies": [], "energies": [], "method": [],
}  # fmt: skip


# what was asked for, and what ran


def _configured(
    found: Gathered, name: str, reference: str | None, many: bool, told: list[str]
) -> Mapping[str, Any]:
    store = found.results.store
    document = store.read_experiment(name)
    other = None if reference in (None, name) else _settings(store, str(reference))
    sources = document.get("sources") or {}
    config = [
        [path, text, sources.get(path, ""), other is not None and other.get(path) != text]
        for path, text in _flat(document["config"]).items()
    ]
    kept = [row for row in config if row[3] or row[1] != "null" and not (many and row[2] == "default")]
    gone = [[path, "–", "", True] for path in other or {} if path not in {row[0] for row in config}]
    engines = store.engines(name)
    effective = _flat(engines[0].get("effective") or {}) if engines and not many else {}
    environments = _environments(store)
    known = [str(engine.get("environment", "")) for engine in engines]
    facts = [fact for one in dict.fromkeys(known) for fact in _flat(environments.get(one, {})).items()]
    return {
        "config": [*kept, *gone],
        "effective": [list(one) for one in effective.items()],
        "environment": [[key, text] for key, text in facts if key not in ("schema_version", "digest")],
    }


@functools.lru_cache(maxsize=8)
def _settings(store: Store, name: str) -> dict[str, str] | None:
    """The settings of the reference; None where they cannot be read, so that nothing is compared with them."""
    try:
        return _flat(store.read_experiment(name)["config"])
    except LlemError:
        return None


@functools.lru_cache(maxsize=1)
def _environments(store: Store) -> Mapping[str, Mapping[str, Any]]:
    return environments(store)


def environments(store: Store) -> dict[str, Mapping[str, Any]]:
    """Stored environments by hash; those that can be read."""
    made = {}
    for path in sorted(store.path.glob("environments/*.json")):
        try:
            made[path.stem] = store.read_environment(path.stem)
        except LlemError:
            continue
    return made


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Values as text by dotted path; a list is one value."""
    if isinstance(value, Mapping) and (value or not path):
        pairs = ((f"{path}.{key}" if path else str(key), one) for key, one in value.items())
        return {where: text for key, one in pairs for where, text in _flat(one, key).items()}
    text = setting(value)
    return {path: text if len(text) <= LONGEST else f"{text[:LONGEST]}…"}


# what was measured


def _measured(
    found: Gathered, name: str, reference: str | None, many: bool, told: list[str]
) -> Mapping[str, Any]:
    store, result = found.results.store, found.results[name]
    document, engines = store.read_experiment(name), store.engines(name)
    trials, baselines = store.trials(name), store.baselines(name)
    facts = facts_of([document], engines, _environments(store))
    headline = result.metrics.get("energy_per_output_token_j")
    shown = trials[:1] if many else trials
    return {
        "figures": list(_figures(result, found)),
        "findings": [_finding(one) for one in map(attrs.asdict, result.findings)],
        "energies": [_energy(domain) for domain in result.domains],
        "method": list(experiment_method(result.config, facts, trials, baselines, headline)),
        "traces": [one for trial in shown for one in _traces(store, trial, told)],
        "tracesLeftOut": len(trials) - len(shown),
        "latencies": latencies_of(result.metrics, None if many else _requests(store, name, told)),
    }


def _figures(result: Result, found: Gathered) -> Iterator[list[str]]:
    for metric, one in result_view(result, found.results.prices).figures:
        basis = (one.basis_text, one.score, one.rests_on) if one.value is not None else (_reason(one.reason),)
        yield [metric.label, figure(one), " · ".join(filter(None, basis))]


def _reason(code: str | None) -> str:
    return REASONS.get(code or "", code or "")


def _finding(one: Mapping[str, Any]) -> dict[str, Any]:
    kind = FINDINGS.get(one["code"])
    return {
        "code": one["code"],
        "severity": one["severity"],
        "message": one["message"],
        "advice": "" if kind is None else kind.remedy,
        "meaning": "" if kind is None else kind.meaning,
    }


def _energy(domain: DomainMetrics) -> dict[str, Any]:
    budget = domain.budget
    parts = ("tick_j", "gap_j", "repeat_j", "sensor_j", "baseline_j")
    return {
        "domain": domain.domain,
        "meter": domain.meter,
        "instrument": domain.instrument,
        "kind": domain.kind,
        "scope": domain.scope,
        **{
            key: [significant(one.value), significant(one.low), significant(one.high)] if one.value is not None
            else one.reason or ""
            for key, one in (
                ("gross", domain.energy_j), ("net", domain.energy_net_j), ("power", domain.power_w),
                ("idle", domain.idle_power_w), ("cross", domain.cross_ratio),
            )
        },
        "budget": None
        if budget is None
        else {name.removesuffix("_j"): significant(getattr(budget, name)) for name in parts},
    }  # fmt: skip


def _traces(store: Store, trial: Trial, told: list[str]) -> Sequence[dict[str, Any]]:
    try:
        return traces_of(trial, store.trace(trial.experiment_id, trial.index))
    except LlemError as error:
        told.append(error.message)
        return ()


def _requests(store: Store, name: str, told: list[str]) -> Measured | None:
    try:
        measured = Measured.read(store, name)
        _ = measured.rows  # read here, where a damaged file is told
    except LlemError as error:
        told.append(error.message)
        return None
    return measured
