"""The verdict for one who has five seconds: what to take with its probability, in words before ids. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llem.analysis.decision import Contender, Recommendation
from llem.metrics.metric import Basis, Metric
from llem.reports.figures import percent, setting
from llem.reports.verdict import interval_text

__all__ = ["headline", "in_words", "lead"]

#: So many configurations are named in a sentence.
NAMED = 3


def in_words(found: Recommendation, headings: Mapping[str, str]) -> dict[str, str]:
    """By id, what each contender sets of what varies, with the shortest names of settings; `defaults` for nothing."""
    paths = dict.fromkeys(path for one in found.contenders for path in one.values)
    varied = [path for path in paths if len({repr(one.values.get(path)) for one in found.contenders}) > 1]
    return {one.id: _words(one, varied, headings) for one in found.contenders}


def _words(one: Contender, varied: list[str], headings: Mapping[str, str]) -> str:
    values = [path for path in varied if path in one.values]
    told = ", ".join(f"{headings.get(path, path)} {setting(one.values[path])}" for path in values)
    return told or ("defaults" if varied else one.id[:8])


def _chance(p: float) -> str:
    """A probability as a share: `74 %`, `over 99 %`."""
    return "under 1 %" if p < 0.01 else "over 99 %" if p > 0.99 else f"{p * 100:.0f} %"


def headline(found: Recommendation, words: Mapping[str, str]) -> str:
    """What to take, how probably it is the best, and what is tied with it.

    Args:
        words: as `in_words` gives them. There must be a choice.
    """
    assert found.choice is not None
    take = f"Take {words[found.choice]}"
    if len(found.contenders) == 1:
        return f"{take}: nothing else can be ranked"
    keeps = " that keeps the limits" if found.limits else ""
    others = [one for one in found.ties if one != found.choice]
    tied = f", tied with {words[others[0]] if len(others) == 1 else f'{len(others):,} others'}" if others else ""
    return f"{take}: {_chance(found.probability)} likely to be the best{keeps}{tied}"


def lead(
    found: Recommendation, words: Mapping[str, str], short: Mapping[str, str], metric: Metric, basis: Basis | None
) -> Iterator[str]:
    """What the choice reaches, whether it keeps the limits, what could be as good, what would tell, what is at stake.

    Args:
        short: by id, the beginning of it that is enough. metric: the row of the objective. basis: of its energies.
    """
    assert found.choice is not None
    choice = found.contender(found.choice)
    of = f" ({basis})" if basis else ""
    label = metric.label[:1].upper() + metric.label[1:]
    yield f"{label}: {interval_text(choice.objective, metric.unit)}{of}."
    if found.limits:
        limits = " and ".join(one.text for one in found.limits)
        yield f"It keeps {limits} with a probability of {_chance(choice.feasible)}."
    if len(found.contenders) < 2:
        return
    yield from _rivals(found, words, short)
    yield from _telling(found)
    if found.regret is not None:
        by = percent(max(found.regret, 1e-9))
        yield f"What it loses on average to the best of the others, as 0 where none is better: {by} (expected regret)."


def _rivals(found: Recommendation, words: Mapping[str, str], short: Mapping[str, str]) -> Iterator[str]:
    others = [found.contender(one) for one in found.ties if one != found.choice]
    if not others:
        yield "No other is tied with it: it alone is the best with 95 %."
        return
    named = "; ".join(
        f"{words[one.id]} ({short.get(one.id, one.id[:8])}), {_chance(one.probability)}" for one in others[:NAMED]
    )
    more = f"; and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
    yield f"As good, as far as these trials can tell: {named}{more}."


def _telling(found: Recommendation) -> Iterator[str]:
    needed = [(one.needed, one.now, one.unit) for one in found.separations if one.needed is not None]
    if needed:
        count, now, unit = max(needed)
        kind = "engine processes" if unit == "processes" else "trials"
        far = f"so far there {'is' if now == 1 else 'are'} {now:,}"
        yield f"About {count:,} {kind} of each would tell them apart; {far}."
    elif found.separations:
        yield "They are too alike for more trials to tell them apart: take the simpler one."
