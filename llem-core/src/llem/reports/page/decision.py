"""The verdict of a report: that of `llem recommend` with the same options, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.analysis.collection import Results
from llem.analysis.decision import Contender, Estimated, Recommendation
from llem.analysis.limits import Limit
from llem.analysis.overview import Overview
from llem.analysis.recommend import limits_of, objective_of
from llem.errors import ConfigError, StoreError
from llem.reports.page.gather import Gathered, significant
from llem.reports.page.headline import headline, in_words, lead
from llem.reports.recommendation import metrics_read, recommendation_view, why_not

__all__ = ["OPTIONS", "verdict_of"]

#: Options of `Results.recommend`, which a report takes too.
OPTIONS = frozenset({"minimise", "maximise", "slo", "quality", "memory", "power", "reference"})
#: Codes of errors that an option is to blame for, not what is stored.
ASKED_WRONGLY = frozenset({"metric_unknown", "no_direction", "id_unknown", "id_ambiguous", "no_prices"})


def verdict_of(found: Gathered, asked: Mapping[str, str | None]) -> dict[str, Any]:
    """The decision as JSON values.

    Args:
        asked: options by the names of `OPTIONS`.

    Raises:
        ConfigError: there is no such option, a limit cannot be read, or the metric is the better the other way.
        StoreError: an option names a metric, a score or an experiment that there is not, or asks for an amount without
            prices. What cannot be ranked raises nothing: the verdict says why.
    """
    if unknown := sorted(set(asked) - OPTIONS):
        raise ConfigError(f"a report has no option {unknown[0]!r}", f"options: {', '.join(sorted(OPTIONS))}")
    limits = limits_of(asked.get("slo") or "", asked.get("quality") or "", asked.get("memory"), asked.get("power"))
    metric, _ = objective_of(asked.get("minimise"), asked.get("maximise"))
    results = Results.open(found.results.store, found.results.prices)
    try:
        told = results.recommend(
            minimise=asked.get("minimise"),
            maximise=asked.get("maximise"),
            slo=asked.get("slo") or "",
            quality=asked.get("quality") or "",
            memory=asked.get("memory"),
            power=asked.get("power"),
            reference=asked.get("reference"),
        )
    except StoreError as error:
        if error.code in ASKED_WRONGLY:
            raise
        return {
            **_empty(metric, limits),
            "outcome": "no_decision",
            "sentences": [f"No decision: {found.within(error.message)}", *([error.hint] if error.hint else [])],
        }
    return _told(found, results, told)


def _empty(metric: str, limits: list[Limit]) -> dict[str, Any]:
    return {
        "headline": "",
        "lead": [],
        "sentences": [],
        "outcome": "",
        "choice": None,
        "probability": None,
        "ties": [],
        "contenders": {},
        "limits": [_limit(one) for one in limits],
        "others": [],
        "restsOn": [],
        "warnings": [],
        "objective": metric,
    }


def _told(found: Gathered, results: Results, told: Recommendation) -> dict[str, Any]:
    read = {row.id: row for row in found.rows}

    def overview(name: str) -> Overview:
        return (
            read[name]
            if name in read
            else next(iter(Results(results.store, [name], prices=results.prices).overviews(metrics)))
        )

    metrics = metrics_read(told)
    metric = results.metric_of(told.objective)
    view = recommendation_view(told, overview, metric=metric, folder=found.folder)
    words, short = in_words(told, found.headings), view.names.short
    taken = told.choice is not None
    named = {
        name: text.replace(", ", " + ")
        for name, text in ({row.id: found.label(row) for row in found.rows} | words).items()
    }
    return {
        **_empty(told.objective, list(told.limits)),
        "headline": headline(told, words) if taken else "",
        "lead": list(lead(told, words, short, metric, view.basis)) if taken else [],
        "sentences": [line.strip() for line in view.verdict],
        "outcome": "none_feasible" if told.choice is None else "tie" if len(told.ties) > 1 else "recommended",
        "choice": told.choice,
        "probability": None if told.choice is None else told.probability,
        "ties": list(told.ties),
        "contenders": {one.id: _contender(one) for one in told.contenders},
        "others": list(why_not(told, attrs.evolve(view.names, short={**short, **named}))),
        "restsOn": list(view.rests_on),
        "warnings": list(view.warnings),
    }


def _contender(one: Contender) -> dict[str, Any]:
    return {
        "p": significant(one.probability),
        "feasible": significant(one.feasible),
        "standing": one.standing,
        "why": one.why,
        "objective": _estimated(one.objective),
        "excess": _estimated(one.excess),
        "limits": [
            {"limit": outcome.limit.text, "p": significant(outcome.probability), "found": _estimated(outcome.found)}
            for outcome in one.limits
        ],
    }


def _estimated(one: Estimated | None) -> list[float | None] | None:
    return None if one is None else [significant(one.value), significant(one.low), significant(one.high)]


def _limit(one: Limit) -> dict[str, Any]:
    sense = "below" if one.upper else "above"
    return {"metric": one.metric, "text": one.text, "bound": one.bound, "sense": sense, "against": one.against}
