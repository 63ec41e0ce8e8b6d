"""A recommendation as plain data: sentences, the first contenders, why the others are out, and its JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.decision import FEASIBLE, Contender, Recommendation, told
from llem.analysis.limits import Limit
from llem.analysis.overview import Overview, basis_of
from llem.findings import REASONS
from llem.metrics.catalogue import metric_of
from llem.metrics.metric import Basis, Metric
from llem.reports.configurations import configuration
from llem.reports.figures import number, percent, scaled
from llem.reports.tables import prefixes
from llem.reports.verdict import Names, against_bound, found_text, listed, probability, unit_of, verdict

__all__ = ["ENERGY", "RecommendationView", "document", "limit_cells", "metrics_read", "recommendation_view", "why_not"]

#: The energy that says what all energies of an experiment cover.
ENERGY = "energy_per_output_token_j"
#: A limit that is kept with a probability below this is surely broken.
SURELY = 0.01


@attrs.frozen
class RecommendationView:
    """What is shown of a recommendation.

    Attributes:
        verdict: sentences, the verdict first.
        axes: paths that vary over the contenders.
        heading: of the objective's column. unit, divisor: to show the objective in.
        rows: the first contenders, the choice before all.
        names: how configurations are named.
        others: why the others are not taken, in sentences.
    """

    found: Recommendation
    basis: Basis | None
    verdict: tuple[str, ...]
    axes: tuple[str, ...]
    heading: str
    divisor: float
    rows: tuple[Contender, ...]
    names: Names
    others: tuple[str, ...]

    @property
    def rests_on(self) -> tuple[str, ...]:
        """What the choice rests on, in sentences."""
        return self.found.rests_on

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against relying on it."""
        return self.found.warnings


def metrics_read(found: Recommendation) -> list[str]:
    """Names of the stored metrics that the view needs of an experiment: they say what energies cover."""
    return [found.objective, ENERGY]


def recommendation_view(
    found: Recommendation,
    read: Callable[[str], Overview],
    *,
    metric: Metric | None = None,
    top: int = 5,
    folder: str = "DIR",
) -> RecommendationView:
    """The view of a recommendation.

    Args:
        read: gives the overview of an experiment, with `metrics_read`. Only those that are shown are read.
        metric: the row of the objective; None takes that of the catalogue.
        top: so many contenders are shown.
        folder: the store's, for commands.
    """
    first = found.choice or found.nearest
    ordered = sorted(found.contenders, key=lambda one: one.id != first)  # stable: all others stay in their order
    rows = tuple(ordered[: max(1, top)])
    overviews = {one.id: read(one.id) for one in rows}
    axes = _varied(found.contenders)
    names = Names(
        prefixes([*(one.id for one in found.contenders), *found.excluded]),
        axes,
        {name: configuration(row) for name, row in overviews.items()},
    )
    metric = metric or metric_of(found.objective)
    basis = _basis(metric, overviews.values())
    heading, divisor = _heading(metric, rows, basis)
    return RecommendationView(
        found=found,
        basis=basis,
        verdict=tuple(verdict(found, names, metric, basis, folder)),
        axes=axes,
        heading=heading,
        divisor=divisor,
        rows=rows,
        names=names,
        others=tuple(why_not(found, names)),
    )


def _varied(contenders: Sequence[Contender]) -> tuple[str, ...]:
    """Paths that are not the same for all contenders, in the study's order."""
    paths = dict.fromkeys(path for one in contenders for path in one.values)
    return tuple(path for path in paths if len({repr(one.values.get(path)) for one in contenders}) > 1)


def _basis(metric: Metric, rows: Iterable[Overview]) -> Basis | None:
    """What the energies behind a metric cover; None of what rests on no energy."""
    if not metric.scoped:
        return None
    for row in rows:
        found = [basis_of(row.metrics[name]) for name in (metric.name, ENERGY) if name in row.metrics]
        if any(found):
            return next(filter(None, found))
    return None


def _heading(metric: Metric, rows: Sequence[Contender], basis: Basis | None) -> tuple[str, float]:
    """Heading of the objective's column, and what its values are divided by."""
    of = f" ({basis})" if basis else ""
    if metric.says_unit:
        return f"{metric.heading}{of}", 1.0
    unit, divisor = scaled(rows[0].objective.value, metric.unit) if rows else (metric.unit, 1.0)
    return f"{metric.heading or metric.label}{f', {unit}' if unit else ''}{of}", divisor


# why the others are not taken


def why_not(found: Recommendation, names: Names) -> Iterator[str]:
    """Why the others are not taken, in sentences; they are named as `names.short` has them."""
    worse = [one.excess.value for one in found.contenders if one.standing == "worse" and one.excess is not None]
    if worse:
        ends = dict.fromkeys(percent(value) for value in (min(worse), max(worse)))
        is_best = "is the best with less than 5 %" if len(worse) == 1 else "are the best with less than 5 % together"
        keep = "" if not found.limits else "keeps all limits, but " if len(worse) == 1 else "keep all limits, but "
        yield f"{len(worse):,} {keep}{is_best}: worse by {' to '.join(ends)}"
    for place, limit in enumerate(found.limits):
        yield from _excluded_by(limit, place, [one for one in found.contenders if one.standing == "out"], names)
    reasons: dict[str, list[str]] = {}
    for name, why in found.excluded.items():
        reasons.setdefault(why, []).append(name)
    for why, ids in reasons.items():
        yield f"not ranked, {len(ids):,}: {why} ({listed(names, ids, 3)})"


def _excluded_by(limit: Limit, place: int, out: Sequence[Contender], names: Names) -> Iterator[str]:
    """Whom a limit excludes, by how much and how surely; and who has no value to judge."""
    broken = [one for one in out if _breaks(one, place)]
    known = [(one, found) for one in broken if (found := one.limits[place].found) is not None]
    if known:
        values = [found.value for _, found in known]
        odds = sorted(one.limits[place].probability for one, _ in known)
        ids = listed(names, [one.id for one, _ in known], 3)
        by = against_bound(limit, values) or _range(limit, values)
        yield f"{limit.text} excludes {len(known):,}: at {by}, {_how_surely(odds)} ({ids})"
    reasons: dict[str, list[str]] = {}
    for one in broken:
        if one.limits[place].found is None:
            reasons.setdefault(one.limits[place].reason, []).append(one.id)
    for reason, without in reasons.items():
        why = REASONS.get(reason, reason).rstrip(".")
        yield f"{limit.text} excludes {len(without):,} without a value: {why} ({listed(names, without, 3)})"


def _breaks(one: Contender, place: int) -> bool:
    """Whether a contender breaks this limit more likely than not; where none is broken so, whether it is the worst."""
    odds = [outcome.probability for outcome in one.limits]
    return odds[place] < FEASIBLE or (min(odds) >= FEASIBLE and odds[place] == min(odds))


def _range(limit: Limit, values: Sequence[float]) -> str:
    unit, divisor = unit_of(limit, max(values, key=abs))
    ends = dict.fromkeys(f"{'+' if value > 0 else ''}{number(value / divisor)}" for value in (min(values), max(values)))
    return f"{' to '.join(ends)} {unit}".rstrip()


def _how_surely(odds: Sequence[float]) -> str:
    """Of the probabilities with which a limit is kept, in order."""
    if odds[-1] < SURELY:
        return "surely" if len(odds) == 1 else "all surely"
    ends = dict.fromkeys(map(told, (odds[0], odds[-1])))
    return f"kept with {probability(odds[0])}" if len(ends) == 1 else f"kept with P {' to '.join(ends)}"


# cells and JSON


def limit_cells(one: Contender) -> Iterator[str]:
    """Of each limit the value, and in brackets the probability that it is kept."""
    for outcome in one.limits:
        if outcome.found is None:
            yield f"– ({outcome.reason})"
        else:
            yield f"{found_text(outcome.limit, outcome.found)} ({told(outcome.probability)})"


def document(found: Recommendation, asked: Mapping[str, Any], basis: Basis | None) -> dict[str, Any]:
    """A recommendation as JSON values, with what was asked for and what its energies cover."""
    return {
        "asked": dict(asked),
        **attrs.asdict(found, filter=lambda field, _: field.name != "results"),
        "basis": None if basis is None else attrs.asdict(basis),
    }
