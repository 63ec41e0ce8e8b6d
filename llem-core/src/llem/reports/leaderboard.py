"""A static leaderboard: one JSON document with a row for each experiment, whose ranks are intervals. Pure.

`docs/reference/leaderboard.schema.json` is its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem import __version__
from llem.analysis.collection import Results
from llem.analysis.overview import basis_of, overview_of
from llem.analysis.ranking import rank_intervals
from llem.analysis.sides import is_fake
from llem.errors import StoreError
from llem.findings import FINDINGS, REASONS
from llem.metrics.catalogue import GROUPS, METRICS, lower_is_better, metric_of
from llem.metrics.metric import Metric
from llem.reports.dataset import public
from llem.reports.views import configuration
from llem.store.models import Quantity, Result

__all__ = ["VERSION", "leaderboard_text"]

#: Of the document; it grows by one where a reader has to change.
VERSION = 1

RULE = (
    "rank: the best and the worst rank that a row may have in a metric. One row is ahead of another if it is better "
    "with a probability of 95 % at least, pair by pair, from their intervals; where an interval does not cover "
    "differences between engine processes, a standard deviation of 1 % is assumed for these. Rows whose ranks overlap "
    "are not to be put in an order. Energies are ranked within one scope and kind (`basis`). A row that is not valid "
    "has no rank."
)


def leaderboard_text(results: Results) -> tuple[str, tuple[str, ...]]:
    """The document, and what is not in it. Its text may stand in a page's script element: `<`, `>` and `&` are escaped.

    Raises StoreError (nothing_to_compare): there is no result but of the fake backend, which is never ranked.
    """
    found = list(results.results())
    real = [one for one in found if not is_fake(one.config.get("backend"))]
    if not real:
        what = "no result is there" if not found else "all results are of echo, a fake, whose figures mean nothing"
        hint = "measure with another backend: `llem plugins` lists them"
        raise StoreError(f"there is no leaderboard: {what}", hint, "nothing_to_compare")
    text = json.dumps(_document(real, results.study), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for one in "<>&":
        text = text.replace(one, f"\\u{ord(one):04x}")
    fakes = len(found) - len(real)
    notes = (f"results of echo, a fake, are left out: {fakes}",) if fakes else ()
    return f"{text}\n", notes


def _document(found: Sequence[Result], study: Mapping[str, Any]) -> dict[str, Any]:
    names = _metrics(found)
    ranks = {name: _ranks(found, name) for name in names}
    points = study.get("points", {})
    codes = dict.fromkeys(one.code for result in found for one in result.findings)
    reasons = dict.fromkeys(one.reason for result in found for one in result.metrics.values() if one.reason)
    return {
        "format": "llem.leaderboard",
        "version": VERSION,
        "llem": __version__,
        "study": {"name": study.get("name"), "started_at": study.get("started_at")},
        "rule": RULE,
        "metrics": [_metric(name, found) for name in names],
        "rows": [_row(one, points.get(one.id, {}).get("values", {}), names, ranks) for one in found],
        "findings": {code: _kind(code) for code in codes},
        "reasons": {code: REASONS.get(code, "") for code in reasons},
    }


def _metrics(found: Sequence[Result]) -> list[str]:
    """Names of what any row has a value of, in the order of the catalogue."""
    there = {name for result in found for name, one in result.metrics.items() if one.value is not None}
    return [*(name for name in METRICS if name in there), *sorted(there - METRICS.keys())]


def _kind(code: str) -> dict[str, str]:
    known = FINDINGS.get(code)
    return {} if known is None else {"severity": known.severity, "meaning": known.meaning}


def _metric(name: str, found: Iterable[Result]) -> dict[str, Any]:
    row: Metric = metric_of(name)
    told = [one.metrics[name] for one in found if name in one.metrics]
    bases = dict.fromkeys(basis for one in told if one.value is not None and (basis := basis_of(one)) is not None)
    return {
        "name": name,
        "label": row.label,
        "unit": row.unit,
        "better": _better(name, told),
        "group": GROUPS[row.group][0],
        "meaning": row.doc,
        "bases": [attrs.asdict(one) for one in bases],
    }


def _better(name: str, found: Iterable[Quantity]) -> str | None:
    """Which way is better; None where neither is, or results hold different scores under this name."""
    try:
        return "lower" if lower_is_better(name, found) else "higher"
    except StoreError as error:
        if error.code in ("no_direction", "scores_differ"):
            return None
        raise


def _ranks(found: Sequence[Result], name: str) -> dict[str, dict[str, int]]:
    """By id the ranks among valid results of one basis; none where nothing is better than else."""
    there = [(one.id, one.metrics[name]) for one in found if one.valid and name in one.metrics]
    known = [(identity, one) for identity, one in there if one.value is not None]
    better = _better(name, [one for _, one in known])
    if better is None:
        return {}
    ranks: dict[str, dict[str, int]] = {}
    for basis in dict.fromkeys(basis_of(one) for _, one in known):
        alike = [(identity, one) for identity, one in known if basis_of(one) == basis]
        pairs = rank_intervals([one for _, one in alike], better == "lower")
        for (identity, _), (first, last) in zip(alike, pairs, strict=True):
            ranks[identity] = {"best": first, "worst": last, "of": len(alike)}
    return ranks


def _row(
    result: Result, point: Mapping[str, Any], names: Sequence[str], ranks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    one = overview_of(result, ())
    one = attrs.evolve(one, model=public(one.model))
    return {
        "id": result.id,
        "configuration": configuration(one),
        "axes": public(point),
        "backend": one.backend,
        "model": one.model,
        "weights": result.weights,
        "dtype": one.dtype,
        "load": dict(one.load),
        "outcome": result.outcome,
        "error": result.error,
        "valid": result.valid,
        "publishable": result.publishable,
        "trials": result.trials,
        "findings": list(one.codes),
        "metrics": {
            name: _quantity(result.metrics[name], ranks[name].get(result.id))
            for name in names
            if name in result.metrics
        },
    }


def _quantity(one: Quantity, rank: Mapping[str, int] | None) -> dict[str, Any]:
    basis = basis_of(one)
    labels = {} if basis is None else {"basis": attrs.asdict(basis)}
    if one.value is None:
        return {"value": None, "reason": one.reason, **labels}
    parts = {name: getattr(one, name) for name in ("value", "low", "high", "confidence", "n", "processes")}
    return {**parts, "covers": one.covers or None, "method": one.method, **labels, "rank": dict(rank) if rank else None}
