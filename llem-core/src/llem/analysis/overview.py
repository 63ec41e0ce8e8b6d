"""What a listing needs of stored results, read from result.json alone: small, so that ten thousand fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.load import COMMAND
from llem.metrics.metric import Basis
from llem.metrics.result import recompute
from llem.models.resolve import NO_MODEL
from llem.store.documents import with_version
from llem.store.files import computed_from, corrupt, digest
from llem.store.models import SCHEMA_VERSION, Quantity, Result
from llem.store.shapes import LISTED, fault
from llem.store.store import Store

__all__ = ["Overview", "basis_of", "comparable", "latency_energy_curve", "overview_of", "overviews", "state_of"]

#: What may differ between the points of one latency-energy curve: how many arrive.
VARIED = ("request_rate", "search", "capacity_share", "speed")


@attrs.frozen
class Overview:
    """One Result without most of its configuration, its domains and the words of its findings.

    Attributes:
        codes: of the findings, each once, in their order. errors: of those of severity error.
        metrics: those that were asked for and are there.
        load: how requests arrive, as the configuration has it.
        curve: equal for open loads and replays that differ in the rate of arrivals alone; "" for other loads.
        gpus: number of GPUs that a cost counts; None without prices, or where it is not known.
    """

    id: str
    outcome: str
    error: str | None
    trials: int
    valid: bool
    publishable: bool
    codes: tuple[str, ...]
    errors: tuple[str, ...]
    metrics: Mapping[str, Quantity]
    backend: str | None
    model: str | None
    dtype: str | None
    load: Mapping[str, Any]
    curve: str
    gpus: int | None = None

    def value(self, metric: str) -> float | None:
        """The metric's value; None where there is none."""
        found = self.metrics.get(metric)
        return None if found is None else found.value

    @property
    def basis(self) -> Basis | None:
        """What its energies cover; None where it has none."""
        return next((found for one in self.metrics.values() if (found := basis_of(one)) is not None), None)


def basis_of(quantity: Quantity) -> Basis | None:
    """What an energy covers and whether it is measured or modelled; None for what is no energy."""
    return None if quantity.scope is None or quantity.kind is None else Basis(quantity.scope, quantity.kind)


def state_of(one: Overview | Result) -> str:
    """How an experiment ended, in a word or three: a result that is done need not be valid."""
    return "done (not valid)" if one.outcome == "done" and not one.valid else one.outcome


def overviews(store: Store, ids: Iterable[str], metrics: Collection[str] | None = None) -> Iterator[Overview]:
    """Overviews of the stored results, in the order of `ids`; an experiment without a result.json is left out.

    Nothing is computed and no trial is read, unless an older version computed the result; that what is stored is what
    its trials give, and that what is not asked for is whole, is for `llem verify` to say.

    Args:
        metrics: which to take; None takes all.

    Raises:
        StoreError: a file is damaged, or of a version that cannot be read.
    """
    wanted = None if metrics is None else {**dict.fromkeys((*_SAME, "findings", "config")), "metrics": metrics}
    for name in ids:
        path = store.folder(name) / "result.json"
        if not path.exists():
            continue
        document, version = with_version(path, wanted)
        if version < SCHEMA_VERSION:
            yield overview_of(recompute(store, name), metrics)
            continue
        if (what := fault(document, LISTED)) is not None:
            raise corrupt(path, what)
        with computed_from(path):
            yield _overview(document, metrics)


def _overview(document: Mapping[str, Any], metrics: Collection[str] | None) -> Overview:
    stored = document["metrics"]
    names = stored if metrics is None else [name for name in metrics if name in stored]
    return _made(
        {name: document[name] for name in _SAME},
        [(found["code"], found["severity"]) for found in document["findings"]],
        document["config"],
        {name: Quantity(**stored[name]) for name in names},
    )


def overview_of(result: Result, metrics: Collection[str] | None = None) -> Overview:
    """The overview of a Result that is at hand."""
    return _made(
        {name: getattr(result, name) for name in _SAME},
        [(found.code, found.severity) for found in result.findings],
        result.config,
        {name: one for name, one in result.metrics.items() if metrics is None or name in metrics},
    )


#: Fields that an Overview and a Result have alike.
_SAME = ("id", "outcome", "error", "trials", "valid", "publishable")


def _made(
    same: Mapping[str, Any],
    findings: Sequence[tuple[str, str]],
    config: Mapping[str, Any],
    metrics: Mapping[str, Quantity],
) -> Overview:
    load, curve = config.get("load", {}), ""
    if load.get("kind") in ("open", "replay"):
        curve = digest({**config, "load": {name: value for name, value in load.items() if name not in VARIED}})
    metered = config.get("backend") == COMMAND
    return Overview(
        **same,
        codes=tuple(dict.fromkeys(code for code, _ in findings)),
        errors=tuple(dict.fromkeys(code for code, severity in findings if severity == "error")),
        metrics=metrics,
        backend=config.get("backend"),
        model=None if metered and config.get("model") == NO_MODEL else config.get("model"),
        dtype=None if metered else config.get("dtype"),
        load=load,
        curve=curve,
    )


def latency_energy_curve(rows: Iterable[Overview]) -> tuple[Overview, ...]:
    """Those that have a rate of arrivals, by it. Whether they are comparable is the caller's to see."""
    rated = [(rate, row.id, row) for row in rows if (rate := row.value("request_rate")) is not None]
    return tuple(row for *_, row in sorted(rated, key=lambda one: one[:2]))


def comparable(rows: Iterable[Overview]) -> list[Sequence[Overview]]:
    """Groups of two and more whose configurations differ in the rate of arrivals alone: open loads, replays."""
    groups: dict[str, list[Overview]] = {}
    for row in rows:
        if row.curve:
            groups.setdefault(row.curve, []).append(row)
    return [group for group in groups.values() if len(group) > 1]
