"""One experiment of a report at length: configuration, environment, findings, figures, power traces, latencies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from llem.errors import LlemError
from llem.findings import FINDINGS, REASONS, Finding
from llem.metrics.metric import Measured
from llem.reports.figures import figure, setting
from llem.reports.page.experiments import MANY
from llem.reports.page.gather import Gathered, significant
from llem.reports.page.latencies import latencies_of
from llem.reports.page.method import experiment_method, facts_of
from llem.reports.page.trace import POINTS, traces_of
from llem.reports.views import result_view
from llem.store.models import DomainMetrics, Result, Trial
from llem.store.store import Store
from llem.store.tables import power_columns

__all__ = ["details"]

#: Longest text of one value.
LONGEST = 300
#: What a setting that is left to the engine, and an unknown fact, has for a value.
NOTHING = "not set"
#: Points of a trace where there are many experiments.
FEW_POINTS = 120


def details(found: Gathered, name: str, reference: str | None) -> dict[str, Any]:
    """One experiment as JSON values. What of it is damaged is told in `damaged`, and ends nothing.

    Of more than `MANY` experiments the first trial of each has a trace, and no latency a distribution.

    Args:
        name: its id.
        reference: id of the experiment that its configuration is compared with.
    """
    read = _Reading(found, name, len(found.results) > MANY)
    if name in found.damaged:
        read.told.append(found.damaged[name])
    document = read.of(found.results.store.read_experiment) or {}
    engines = read.of(found.results.store.engines) or ()
    made: dict[str, Any] = {**_EMPTY, "reference": reference, **_configured(read, document, engines, reference)}
    if name not in found.damaged:
        made.update(_measured(read, document, engines))
    return {**made, "damaged": list(dict.fromkeys(read.told))}


_EMPTY: Mapping[str, Any] = {
    "config": [], "environment": [], "effective": [], "findings": [], "figures": [], "traces": [], "tracesLeftOut": 0,
    "latencies": [], "energies": [], "method": [],
}  # fmt: skip
T = TypeVar("T")


@attrs.frozen
class _Reading:
    """What is read of one experiment, and what could not be.

    Attributes:
        many: whether the report has too many experiments to show all of each.
        told: messages of what is damaged.
    """

    found: Gathered
    name: str
    many: bool
    told: list[str] = attrs.field(factory=list)

    def of(self, read: Callable[[str], T]) -> T | None:
        """What is read of the experiment; None where it is damaged, which is told."""
        try:
            return read(self.name)
        except LlemError as error:
            self.told.append(self.found.within(error.message))
            return None


# what was asked for, and what ran


def _configured(
    read: _Reading, document: Mapping[str, Any], engines: Sequence[Mapping[str, Any]], reference: str | None
) -> Mapping[str, Any]:
    other = None if reference in (None, read.name) else _settings(read.found.results.store, str(reference))
    sources = document.get("sources") or {}
    config = [
        [path, text, sources.get(path, ""), other is not None and other.get(path) != text]
        for path, text in _flat(document.get("config") or {}).items()
    ]
    kept = [row for row in config if row[3] or (row[1] != NOTHING and not (read.many and row[2] == "default"))]
    there = {row[0] for row in config}
    gone = [[path, NOTHING, "", True] for path in other or {} if config and path not in there]
    effective = {} if read.many or not engines else _flat(engines[0].get("effective") or {})
    known = dict.fromkeys(str(engine.get("environment", "")) for engine in engines)
    facts = [fact for one in known for fact in _flat(read.found.environments.get(one, {})).items()]
    return {
        "config": [*kept, *gone],
        "effective": [list(one) for one in effective.items()],
        "environment": [[key, text] for key, text in facts if key != "schema_version"],
    }


@functools.lru_cache(maxsize=8)
def _settings(store: Store, name: str) -> dict[str, str] | None:
    """The settings of the reference; None where they cannot be read, so that nothing is compared with them."""
    try:
        return _flat(store.read_experiment(name)["config"])
    except LlemError:
        return None


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Values as text by dotted path; of a list of mappings each by its number, any other list is one value."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        value = {str(number): one for number, one in enumerate(value)}
    if isinstance(value, Mapping) and (value or not path):
        pairs = ((f"{path}.{key}" if path else str(key), one) for key, one in value.items())
        return {where: text for key, one in pairs for where, text in _flat(one, key).items()}
    text = NOTHING if value is None else setting(value)
    return {path: text if len(text) <= LONGEST else f"{text[:LONGEST]}…"}


# what was measured


def _measured(read: _Reading, document: Mapping[str, Any], engines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    store, results = read.found.results.store, read.found.results
    trials, baselines = read.of(store.trials) or (), read.of(store.baselines) or ()
    made: dict[str, Any] = {}
    result = read.of(results.__getitem__)
    if result is not None:
        facts = facts_of([document], engines, read.found.environments)
        headline = result.metrics.get("energy_per_output_token_j")
        made = {
            "figures": list(_figures(result, read.found)),
            "findings": [_finding(one) for one in result.findings],
            "energies": [_energy(domain) for domain in result.domains],
            "method": list(experiment_method(result.config, facts, trials, baselines, headline)),
            "latencies": latencies_of(result.metrics, None if read.many else read.of(_requests(store))),
        }
    shown = trials[:1] if read.many else trials
    return {
        **made,
        "traces": [one for trial in shown for one in _traces(read, trial)],
        "tracesLeftOut": len(trials) - len(shown),
    }


def _figures(result: Result, found: Gathered) -> Iterator[list[str]]:
    for metric, one in result_view(result, found.results.prices).figures:
        basis = (one.basis_text, one.score, one.rests_on) if one.value is not None else (_reason(one.reason),)
        yield [metric.label, figure(one), " · ".join(filter(None, basis))]


def _reason(code: str | None) -> str:
    return REASONS.get(code or "", code or "")


def _finding(one: Finding) -> dict[str, Any]:
    kind = FINDINGS.get(one.code)
    return {
        "code": one.code,
        "severity": one.severity,
        "message": one.message,
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


def _traces(read: _Reading, trial: Trial) -> Sequence[dict[str, Any]]:
    path = read.found.results.store.folder(read.name) / f"trial-{trial.index}.power.csv.gz"
    columns = read.of(lambda _: power_columns(path, first=read.many)) or {}
    found = traces_of(trial, columns, FEW_POINTS if read.many else POINTS)
    return found[:1] if read.many else found


def _requests(store: Store) -> Callable[[str], Measured | None]:
    def read(name: str) -> Measured | None:
        measured = Measured.read(store, name)
        _ = measured.rows  # read here, where what is damaged is told
        return measured

    return read
