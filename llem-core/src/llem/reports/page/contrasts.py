"""What a report says beyond single experiments: effects of axes, curves over the load, quality, the wall clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llem.analysis.effects import Effect, effects_of
from llem.analysis.quality_difference import QualityDifference
from llem.analysis.ranking import only_fakes
from llem.analysis.sides import is_fake
from llem.analysis.wall_clock import PARTS, time_spent
from llem.errors import LlemError, StoreError
from llem.metrics.catalogue import shown
from llem.reports.figures import setting
from llem.reports.page.gather import Gathered, significant
from llem.reports.views import curve_views

__all__ = ["curves_of", "effects_and_note", "quality_of", "time_of"]


def effects_and_note(found: Gathered) -> tuple[list[dict[str, Any]], str]:
    """What each value of each axis does to energy and speed, all else equal, as `Results.by_axis` has it for each axis;
    and why nothing is said of some."""
    if not found.axes:
        return [], "Nothing varies in this folder, so no axis has an effect."
    try:
        effects = _effects(found)
    except LlemError as error:
        return [], f"Effects are not known: {found.within(error.message)}"
    told = [one for one in effects if one.ratio is not None]
    return [_effect(one) for one in told], _note(found, effects)


def _effects(found: Gathered) -> list[Effect]:
    """As `Results.by_axis` has them: the p-values of its default metrics are one family, whatever else is asked."""
    prices, default = found.results.prices, [metric.name for metric in shown("effects")]
    further = [metric.name for metric in prices.shown("effects")] if prices else []
    workers = found.workers.__getitem__
    made = effects_of(found.study, found.rows, default, workers)
    if further:
        both = effects_of(found.study, found.rows, [*default, *further], workers)
        made += [one for one in both if one.metric in further]
    return made


def _effect(one: Effect) -> dict[str, Any]:
    return {
        "axis": one.axis,
        "value": setting(one.value),
        "reference": setting(one.reference),
        "metric": one.metric,
        "ratio": significant(one.ratio),
        "low": significant(one.low),
        "high": significant(one.high),
        "p": significant(one.p_adjusted),
        "verdict": one.verdict,
        "pairs": len(one.pairs),
        "averaged": list(one.averaged),
        "basis": str(one.bases[0]) if len(one.bases) == 1 else None,
        "assumed": list(one.assumed),
    }


def _note(found: Gathered, effects: Sequence[Effect]) -> str:
    """Why axes are missing, in sentences."""
    valid = [row for row in found.rows if row.valid and (not is_fake(row.backend) or only_fakes(list(found.rows)))]
    if len(valid) < 2:
        have = "one valid experiment" if valid else "no valid experiment"
        return f"An effect compares two valid experiments; there is {have}."
    told = {one.axis for one in effects if one.ratio is not None}
    mixed = {one.axis for one in effects if len(one.bases) > 1} - told
    single = {axis for axis in found.axes if len(_settings(found, axis)) < 2} - told - mixed
    others = [axis for axis in found.axes if axis not in told | mixed | single]
    said = []
    if mixed:
        said.append(f"Energies of {_named(found, mixed)} cover different things, so they are not compared.")
    if single:
        said.append(
            f"Not told of {_named(found, single)}: the valid experiments set one value only of each. An effect needs "
            "two, and what is left to the engine's default counts as none."
        )
    if others:
        said.append(
            f"No two valid experiments differ in {_named(found, others)} alone, so nothing pairs: an effect needs two "
            "that are equal in all other axes."
        )
    return " ".join(said)


def _settings(found: Gathered, axis: str) -> set[str]:
    values = (found.values(row.id) for row in found.rows if row.valid)
    return {setting(one[axis]) for one in values if axis in one}


def _named(found: Gathered, axes: Sequence[str] | set[str]) -> str:
    return ", ".join(found.headings[axis] for axis in found.axes if axis in axes)


def curves_of(found: Gathered) -> list[dict[str, Any]]:
    """A curve for every group of experiments that differ in the rate of arrivals alone."""
    return [
        {
            "label": view.configuration,
            "x": "request_rate",
            "points": [row.id for row in view.rows],
            "rates": [significant(row.value("request_rate")) for row in view.rows],
        }
        for view in curve_views(found.rows)
    ]


def quality_of(found: Gathered, reference: str | None) -> tuple[list[dict[str, Any]], str]:
    """Changes of scores against the reference, by experiment; and why there are none."""
    try:
        differences = found.readable.quality(reference)
    except StoreError as error:
        scored = any(name.startswith("quality.") for row in found.rows for name in row.metrics)
        return [], found.within(error.message) if scored or error.code != "nothing_to_compare" else ""
    return [one for row in differences for one in _changes(row)], ""


def _changes(row: QualityDifference) -> Iterator[dict[str, Any]]:
    made = row.difference
    change = None if made is None else [significant(one) for one in (made.value, made.low, made.high)]
    for name in row.experiments:
        yield {
            "id": name,
            "task": row.metric,
            "score": row.score,
            "change": change,
            "p": significant(row.p_adjusted),
            "verdict": row.verdict,
            "reference": row.reference,
            "reason": row.reason or ("" if made is None else made.reason),
            "why": row.why or ("" if made is None else made.why),
            "smallestLoss": None if made is None else significant(made.smallest_loss),
            "n": row.n,
        }


def time_of(found: Gathered) -> tuple[list[dict[str, Any]], str]:
    """Where the wall clock went, and what is not known of it."""
    try:
        spent = time_spent(found.results.store)
    except LlemError as error:
        return [], found.within(error.message)
    parts = [
        {"part": part.part, "seconds": significant(part.seconds), "doc": PARTS.get(part.part, "")}
        for part in spent.parts
    ]
    said = []
    if spent.wall_s is not None:
        said.append(f"The study took {spent.wall_s:,.0f} s in {_engines(spent.workers)}.")
    if spent.untold:
        said.append(f"Of {_engines(spent.untold)} the study's events do not tell.")
    if spent.untimed:
        said.append(f"Events of {_engines(spent.untimed)} have no times: an earlier llem wrote them.")
    return parts, " ".join(said)


def _engines(count: int) -> str:
    return f"{count:,} engine process{'' if count == 1 else 'es'}"
