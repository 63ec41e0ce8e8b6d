"""A recommendation in sentences, the verdict first: what to take, how sure that is, what is tied with it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

import attrs

from llem.analysis.decision import (
    FEASIBLE,
    SURE,
    Contender,
    Estimated,
    LimitOutcome,
    Recommendation,
    Separation,
    told,
)
from llem.analysis.limits import ATTAINMENT, Limit
from llem.analysis.recommend import DEFAULT_OBJECTIVE
from llem.findings import REASONS
from llem.metrics.catalogue import metric_of
from llem.metrics.cost import CURRENCY
from llem.metrics.metric import Basis, Metric
from llem.metrics.quality import is_score
from llem.reports.figures import amount, number, percent, scaled, setting, two
from llem.reports.views import rated
from llem.store.models import Quantity

__all__ = [
    "Names",
    "against_bound",
    "estimated",
    "found_text",
    "interval_text",
    "listed",
    "probability",
    "unit_of",
    "verdict",
]

#: So many ids are named in a sentence.
NAMED = 5
#: So many ties are each told what would separate them.
SEPARATED = 3


@attrs.frozen
class Names:
    """How sentences name configurations.

    Attributes:
        short: by id, the beginning that is enough for `llem show`.
        axes: paths that vary over the contenders.
        words: by id, the configuration in words, of those that no axis tells apart.
    """

    short: Mapping[str, str]
    axes: tuple[str, ...]
    words: Mapping[str, str]

    def full(self, one: Contender) -> str:
        """Id and what the configuration sets."""
        values = {path: one.values[path] for path in self.axes if path in one.values} or one.values
        words = ", ".join(f"{path} {setting(value)}" for path, value in values.items()) or self.words.get(one.id, "")
        return f"{self.short[one.id]}: {words}" if words else self.short[one.id]


def listed(names: Names, ids: Sequence[str], most: int = NAMED) -> str:
    """Ids in their short form, the first of very many."""
    more = len(ids) - most
    first = ", ".join(names.short.get(one, one[:8]) for one in ids[:most])
    return f"{first} and {more:,} more" if more > 0 else first


def estimated(one: Estimated, unit: str, divisor: float = 1.0) -> str:
    """Value ± half-width (or its ends), divided, without the unit."""
    return amount(Quantity(one.value, unit, one.low, one.high), one.value, divisor)


def interval_text(one: Estimated, unit: str) -> str:
    """Value with its unit, and where it lies with 95 %."""
    unit, divisor = scaled(one.value, unit)
    half = (one.high - one.low) / 2 / divisor
    ends = f", {number(one.low / divisor, half)} to {number(one.high / divisor, half)} with 95 %" if half else ""
    return f"{number(one.value / divisor, half)} {unit}".rstrip() + ends


def verdict(
    found: Recommendation, names: Names, metric: Metric, basis: Basis | None = None, folder: str = "DIR"
) -> list[str]:
    """The recommendation in sentences.

    Args:
        metric: the row of the objective. basis: what the energies behind it cover. folder: the store's, for commands.
    """
    if found.choice is None:
        return list(_nothing(found, names))
    choice = found.contender(found.choice)
    lines = [f"Take {names.full(choice)}", *_objective(choice, metric, basis), *_sure(found, choice, metric, basis)]
    if len(found.contenders) > 1:
        lines += [*_regret(found), *_ties(found, names), *_separations(found, names, folder)]
    return [lines[0], *(f"  {line}" for line in [*lines[1:], *_surest(found, names)])]


def _objective(choice: Contender, metric: Metric, basis: Basis | None) -> Iterator[str]:
    of = f" ({basis})" if basis else ""
    yield f"{metric.label}: {interval_text(choice.objective, metric.unit)}{of}"


def probability(value: float) -> str:
    """`P = 0.87`, `P > 0.99`."""
    words = told(value)
    return f"P {words}" if words[0] in "<>" else f"P = {words}"


def _sure(found: Recommendation, choice: Contender, metric: Metric, basis: Basis | None) -> Iterator[str]:
    """With which probability it is what was asked for."""
    if len(found.contenders) == 1:
        kept = f"{probability(choice.feasible)} that it keeps all limits; " if found.limits else ""
        yield f"{kept}nothing else can be ranked, so it is compared with nothing"
        return
    modelled = " (modelled)" if basis is not None and basis.kind == "modelled" else ""
    best = f"has the {'lowest' if found.lower_is_better else 'highest'} {rated(metric)}{modelled}"
    if not found.limits:
        yield f"{probability(found.probability)} that it {best}"
        return
    yield f"{probability(found.probability)} that it keeps all limits and {best} of those that do"
    yield f"{probability(choice.feasible)} that it keeps all limits"


def _regret(found: Recommendation) -> Iterator[str]:
    if found.regret is not None:
        regret = percent(max(found.regret, 1e-9))
        others = "another that keeps all limits" if found.limits else "another"
        yield f"expected regret {regret}: on average {others} is better by so much, by 0 where none is"


def _ties(found: Recommendation, names: Names) -> Iterator[str]:
    others = [one for one in found.ties if one != found.choice]
    possible = [one for one in found.contenders if one.standing != "out"]
    if not others:
        yield "not tied: it alone is the best with 95 %"
    elif len(possible) > 1 and len(found.ties) == len(possible):
        yield f"not told from any other ({listed(names, others)}): each of these {len(possible)} may be the best"
    else:
        yield f"not told from: {listed(names, others)}; one of these {len(found.ties)} is the best with 95 %"
    if set(found.guaranteed) != set(found.ties) and found.guaranteed:
        may = "may be the best" if len(found.guaranteed) > 1 else "is the best"
        yield f"without a prior (Hsu's comparison with the best, 95 %): {listed(names, found.guaranteed)} {may}"


def _separations(found: Recommendation, names: Names, folder: str) -> Iterator[str]:
    """What would tell it from those it is tied with, and how to do that."""
    alike: dict[Separation, list[str]] = {}
    for one in found.separations:
        alike.setdefault(attrs.evolve(one, other=""), []).append(one.other)
    for one, others in list(alike.items())[:SEPARATED]:
        yield _separation(one, listed(names, others))
    if (more := len(alike) - SEPARATED) > 0:
        yield f"and {more:,} more, which `--json` tells"
    units = {one.unit: one.needed for one in reversed(list(alike)[:SEPARATED]) if one.needed is not None}
    where = shlex.quote(folder)
    if (count := units.get("processes")) is not None:
        asked = shlex.join([folder, *_options(found), "--confirm", str(count)])
        yield f"to measure it and the runner-up again: `llem recommend {asked}`"
    if (count := units.get("trials")) is not None:
        yield f"for more trials: `trials: {count}` in the study, then `llem run STUDY.yaml -o {where} --resume`"


def _options(found: Recommendation) -> Iterator[str]:
    """The options that ask for this recommendation, but for prices and the reference."""
    if found.objective != DEFAULT_OBJECTIVE:
        yield from ("--minimise" if found.lower_is_better else "--maximise", found.objective)
    for limit in found.limits:
        option, _, value = limit.text.partition("<=")
        if option in ("memory", "power"):
            yield from (f"--{option}", value)
        else:
            yield from ("--quality" if is_score(limit.metric) else "--slo", limit.text)


def _separation(one: Separation, others: str) -> str:
    if one.needed is None:
        return f"from {others}: too alike, not even 1,000 {one.unit} would tell them apart; take either"
    of = "of each" if one.unit == "processes" else "in the engine processes that both share"
    now = "there is 1" if one.now == 1 else f"there are {one.now:,}"
    return f"from {others}: about {one.needed:,} {one.unit} {of} would tell ({now})"


def _surest(found: Recommendation, names: Names) -> Iterator[str]:
    if found.surest is None or found.surest == found.choice:
        return
    one = found.contender(found.surest)
    worse = f", {percent(one.excess.value)} worse" if one.excess is not None and one.excess.value > 0 else ""
    yield f"surer of the limits ({probability(one.feasible)}): {names.full(one)}{worse}"


# nothing keeps all limits


def _nothing(found: Recommendation, names: Names) -> Iterator[str]:
    count = len(found.contenders)
    yield f"No configuration keeps all limits ({count:,} {'was' if count == 1 else 'were'} looked at)"
    if found.blocking is not None:
        broken = sum(_outcome(one, found.blocking).probability < FEASIBLE for one in found.contenders)
        more = "are more likely to break it than to keep it"
        yield f"  {found.blocking.text} blocks most: {broken:,} of {count:,} {more}"
    if found.nearest is None:
        return
    one = found.contender(found.nearest)
    yield f"  nearest: {names.full(one)}"
    for outcome in one.limits:
        if outcome.probability < SURE:
            yield from (f"    {line}" for line in _missed(outcome))


def _outcome(one: Contender, limit: Limit) -> LimitOutcome:
    return next(outcome for outcome in one.limits if outcome.limit == limit)


def _missed(outcome: LimitOutcome) -> Iterator[str]:
    """By how much a limit is missed, and which bound would have been kept."""
    limit, one = outcome.limit, outcome.found
    if one is None:
        yield f"{limit.text}: not known: {REASONS.get(outcome.reason, outcome.reason)}"
        return
    times = against_bound(limit, [one.value])
    admits = _at(limit, one, one.high if limit.upper else one.low)
    has = f"{found_text(limit, one)}{f', {times}' if times else ''}"
    yield f"{limit.text}: it has {has}, kept with {probability(outcome.probability)}"
    yield f"a bound of {admits} would admit it"


def unit_of(limit: Limit, value: float) -> tuple[str, float]:
    """The unit to show what a limit is about in, and what to divide it by."""
    if limit.against == "share" or limit.metric == ATTAINMENT:
        return "%", 0.01
    unit = metric_of(limit.metric).unit
    return ("", 1.0) if limit.against or unit == CURRENCY else scaled(value, unit)


def found_text(limit: Limit, one: Estimated) -> str:
    """The value that stands against a limit's bound, with its unit; a change has its sign."""
    return _at(limit, one, one.value)


def _at(limit: Limit, of: Estimated, value: float) -> str:
    unit, divisor = unit_of(limit, of.value)
    sign = "+" if limit.against and value > 0 else ""
    return f"{sign}{number(value / divisor, (of.high - of.low) / 2 / divisor)} {unit}".rstrip()


def against_bound(limit: Limit, values: Sequence[float]) -> str:
    """The least and the greatest of these values as multiples of the bound; "" where that says nothing."""
    if limit.against or limit.bound <= 0 or min(values) <= 0:
        return ""
    times = (value / limit.bound for value in (min(values), max(values)))
    ends = dict.fromkeys(f"{one:.2f}" if 0.1 < one < 2 else two(one) for one in times)
    return f"{' to '.join(ends)} times the bound"
