"""Limits that a configuration must keep, as a user writes them, and whether a value keeps one. Pure.

The grammar is on the reference page `limits`. Two kinds of limits on latencies have two words. A percentile is of the
run: `ttft:p99<500ms`. A share of requests judges each by itself: `attainment(ttft<500ms,tpot<50ms)>=99%`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from llem.analysis.amounts import LIMIT_INVALID, alone, amount, fault, parse_duration, parse_rate
from llem.config.scalars import Faults
from llem.errors import ConfigError, Problem, StoreError, nearest
from llem.metrics.catalogue import METRICS, lower_is_better, metric_of
from llem.metrics.cost import CURRENCY
from llem.metrics.percentiles import PERCENTILES
from llem.metrics.quality import SCORE, family_of

__all__ = [
    "ATTAINMENT",
    "Limit",
    "check_direction",
    "keeps",
    "parse_duration",
    "parse_memory",
    "parse_power",
    "parse_quality",
    "parse_rate",
    "parse_slo",
    "refuse_twice",
]

#: Latencies by the words for them.
LATENCIES: Mapping[str, str] = {
    "ttft": "ttft", "tpot": "tpot", "itl": "itl_chunk", "itl_chunk": "itl_chunk",
    "e2el": "e2el", "e2e": "e2el", "latency": "e2el", "request_latency": "e2el", "queued": "queued",
}  # fmt: skip
#: Those that each request has, so that it can be judged by them.
OF_A_REQUEST = ("ttft", "tpot", "e2el")
#: The metric whose limits are judged request by request.
ATTAINMENT = "slo_attainment"
_COMPARED = re.compile(r"([^<>≤≥=]*)(<=|>=|≤|≥|<|>)([^<>≤≥=]*)", re.S)
_SEPARATED = re.compile(r";(?![^()]*\))")
_ATTAINMENT = re.compile(rf"(?:attainment|{ATTAINMENT})\s*\((.*)\)([^()]*)", re.S | re.I)
#: By this share of a bound a value may miss it: 0.75 less 0.76 is a loss of 0.01, though not to the last bit.
OF_BOUND = 1e-12


@attrs.frozen
class Limit:
    """One limit that a configuration must keep.

    Attributes:
        text: as the user wrote it.
        metric: its name in the catalogue, such as `ttft_p99_s`, `peak_memory_bytes` or `quality.gsm8k`.
        upper: whether the value must be below the bound; else above.
        bound: in the metric's unit; of a change, in the score's unit or as a share of the reference's score.
        against: "" for the value itself; "difference" for the score less the reference's; "share" for that difference
            divided by the reference's score.
        each: of a share of requests (`slo_attainment`): the limits in seconds by latency that each request must keep,
            such as `{"ttft_s": 0.5}`. Empty: those of the study's `slo`.
    """

    text: str
    metric: str
    upper: bool
    bound: float
    against: Literal["", "difference", "share"] = ""
    each: Mapping[str, float] = attrs.field(factory=dict, hash=False)


def keeps(limit: Limit, values: Any) -> Any:
    """Whether each of an array of values keeps the limit, as an array of bool. A value at the bound keeps it.

    Args:
        values: in the unit of the bound; NaN keeps no limit.
    """
    slack = OF_BOUND * abs(limit.bound)
    return values <= limit.bound + slack if limit.upper else values >= limit.bound - slack


# one option


def parse_slo(text: str) -> tuple[Limit, ...]:
    """Limits on metrics of the trials, separated by `;`, such as `ttft:p99<500ms; output_tokens_per_s>1000`.

    Raises ConfigError (limit_invalid), which lists every part that is wrong.
    """
    return _limits("slo", text, _of_slo, "ttft:p99<500ms;tpot:p99<50ms")


def parse_quality(text: str) -> tuple[Limit, ...]:
    """Limits on scores, separated by `;`, such as `gsm8k>=-0.01; wikitext<=+2%`.

    A number with a sign is a change against the reference, in the score's unit or with `%` as a share of the
    reference's score. A number without one is the score itself. Which way a score is better only the results tell: see
    `check_direction`.

    Raises ConfigError (limit_invalid), which lists every part that is wrong.
    """
    return _limits("quality", text, _of_quality, "gsm8k>=-0.01;wikitext<=+2%")


def parse_memory(text: str) -> Limit:
    """The most memory in use, such as `80GiB`. Raises ConfigError (limit_invalid)."""
    return Limit(f"memory<={str(text).strip()}", "peak_memory_bytes", True, alone("memory", text, "B"))


def parse_power(text: str) -> Limit:
    """The most power, such as `600W` or `0.6kW`. Raises ConfigError (limit_invalid)."""
    return Limit(f"power<={str(text).strip()}", "power_w", True, alone("power", text, "W"))


def refuse_twice(limits: Iterable[Limit]) -> None:
    """Raise ConfigError (limit_invalid) where two limits, of whatever options, bound one quantity on one side."""
    if problems := tuple(_twice(limits)):
        raise ConfigError("two limits on one quantity", "give one of the two", LIMIT_INVALID, problems)


def check_direction(limit: Limit, higher_is_better: bool, greatest: float | None = None) -> None:
    """Raise ConfigError (limit_invalid) where a limit on a score does not fit the score that the results hold.

    Args:
        higher_is_better: whether a higher score is better. Then the limit must be a lower one.
        greatest: the greatest score that there can be, such as 1 where items are right or wrong; None where none is
            known.
    """
    name, sign = limit.metric.removeprefix(SCORE), "<=" if limit.upper else ">="
    if limit.upper == higher_is_better:
        way, right = ("higher", ">=") if higher_is_better else ("lower", "<=")
        lost = abs(limit.bound) * (-1 if higher_is_better else 1)
        told = _written(lost if limit.against else limit.bound, limit.against)
        raise _wrong("quality", limit.text, f"a {way} score of {name} is better", f"write {name}{right}{told}")
    if greatest is None or limit.against == "share" or abs(limit.bound) < greatest:
        return
    if limit.bound == greatest and not limit.against:
        return
    what = f"scores of {name} lie between 0 and {greatest:g}"
    per_cent = _written(limit.bound / 100, limit.against, decimals=True)
    raise _wrong("quality", limit.text, what, f"write {name}{sign}{per_cent} if you mean points of 100")


def _written(bound: float, against: str, *, decimals: bool = False) -> str:
    """A bound as a user would write it."""
    sign = "+" if against else ""
    if against == "share":
        return f"{bound * 100:{sign}g}%"
    return f"{bound:{sign}.6f}".rstrip("0") if decimals else f"{bound:{sign}g}"


def _wrong(option: str, part: str, message: str, hint: str) -> ConfigError:
    return ConfigError(f"invalid limit in `{option}`", code=LIMIT_INVALID, problems=(Problem(part, message, hint),))


# several parts


def _limits(option: str, text: str, read: Callable[[str], Limit], example: str) -> tuple[Limit, ...]:
    found: list[Limit] = []
    problems: list[Problem] = []
    for part in filter(None, map(str.strip, _SEPARATED.split(text))):
        try:
            found.append(read(part))
        except Faults as wrong:
            problems += wrong.below(part)
    problems += _twice(found)
    if problems:
        several = "limits" if len(problems) > 1 else "limit"
        raise ConfigError(f"invalid {several} in `{option}`", code=LIMIT_INVALID, problems=tuple(problems))
    if not found:
        raise ConfigError(f"`{option}` names no limit", f"such as {example!r}", LIMIT_INVALID)
    return tuple(found)


def _twice(limits: Iterable[Limit]) -> Iterator[Problem]:
    seen: dict[Any, str] = {}
    for limit in limits:
        quantity = limit.metric, limit.upper, limit.against, tuple(sorted(limit.each.items()))
        if quantity in seen:
            yield Problem(limit.text, f"bounds the same quantity as {seen[quantity]!r}", "give one of the two")
        seen.setdefault(quantity, limit.text)


def _compared(part: str, example: str) -> tuple[str, bool, str]:
    """What stands left of the sign, whether the limit is an upper one, and what stands right of it."""
    found = _COMPARED.fullmatch(part)
    if found is None:
        signs = len(re.findall("[<>≤≥]=?", part))
        what = "has no `<` or `>`" if not signs else "has more than one comparison" if signs > 1 else "has a stray `=`"
        raise fault(what, f"such as {example}")
    return found[1].strip(), found[2] in ("<", "<=", "≤"), found[3].strip()


# of the trials


def _of_slo(part: str) -> Limit:
    if (found := _ATTAINMENT.fullmatch(part)) is not None:
        _, upper, value = _compared(f"attainment{found[2]}", "attainment(ttft<500ms)>=99%")
        return _bounded(part, ATTAINMENT, upper, value, _each(found[1]))
    name, upper, value = _compared(part, "ttft:p99<500ms")
    return _bounded(part, _metric(name.lower(), value), upper, value, {})


def _bounded(part: str, name: str, upper: bool, value: str, each: Mapping[str, float]) -> Limit:
    metric, share = metric_of(name), not metric_of(name).unit
    if upper != metric.lower_is_better:
        way, is_a, sign = ("higher", "an upper", ">=") if upper else ("lower", "a lower", "<")
        raise fault(f"a {way} {name} is better, and this is {is_a} limit", f"write `{sign}`")
    if metric.unit == CURRENCY and value[-1:].isalpha():
        raise fault(f"{value} names a currency", "a cost is in the currency of the prices; write the number alone")
    bound = amount(value, metric.unit, bare=share or "/" in metric.unit or metric.unit == CURRENCY)
    if share and bound > 1:
        written = "100% at most" if "%" in value else f"{value}%"
        raise fault(f"{value} is more than the whole", f"write {written} or a share between 0 and 1")
    if upper and bound == 0:
        raise fault("nothing can be below 0", "give a bound above 0")
    return Limit(part, name, upper, bound, each=each)


def _metric(name: str, value: str) -> str:
    """The metric that the left side of a limit names. Raises Faults."""
    word, colon, statistic = (one.strip() for one in name.partition(":"))
    if word == "attainment" and not colon:
        return ATTAINMENT
    if word in LATENCIES:
        return _latency(word, statistic, value)
    if colon:
        near = nearest(word, LATENCIES)
        known = f"latencies: {', '.join(LATENCIES)}"
        raise fault(f"there is no latency {word!r}", f"did you mean {near!r}? {known}" if near else known)
    if (family := family_of(name)) is not None:
        right = f"write {name.removeprefix(SCORE)} into `quality`" if family == "quality" else "name another metric"
        raise fault(f"{name} is not a metric of the trials", right)
    try:
        lower_is_better(name)
    except StoreError as error:
        near = nearest(name, (*LATENCIES, "attainment", *METRICS))
        hint = f"did you mean {near!r}?" if near and error.code == "metric_unknown" else error.hint
        raise fault(error.message, hint) from None
    return name


def _latency(word: str, statistic: str, value: str) -> str:
    latency = LATENCIES[word]
    if not statistic:
        share = f"attainment({word if latency in OF_A_REQUEST else 'ttft'}<{value})>=99%"
        raise fault(
            f"{word} needs a statistic",
            f"a percentile of the run is `{word}:p99<{value}`; a share of requests that keep limits is `{share}`",
        )
    known = {"mean": f"{latency}_s", **{f"p{round(q * 100)}": f"{latency}_p{round(q * 100)}_s" for q in PERCENTILES}}
    known = {one: metric for one, metric in known.items() if metric in METRICS}
    if (found := known.get("p50" if statistic == "median" else statistic)) is not None:
        return found
    raise fault(f"{word} has no statistic {statistic!r}", f"it has {', '.join(known)}")


def _each(text: str) -> dict[str, float]:
    """The limits that each request must keep, in seconds by latency."""
    found: dict[str, float] = {}
    for part in filter(None, map(str.strip, re.split("[,;]", text))):
        word, upper, value = _compared(part, "ttft<500ms")
        word, colon, _ = word.lower().partition(":")
        latency = LATENCIES.get(word, "")
        if colon:
            raise fault(f"{part}: each request is judged by itself and has no statistic", f"write {word}<{value}")
        if latency not in OF_A_REQUEST:
            raise fault(f"no request is judged by {word!r}", f"latencies: {', '.join(OF_A_REQUEST)}")
        if not upper:
            raise fault(f"{part}: a lower {word} is better, and this is a lower limit", "write `<`")
        if f"{latency}_s" in found:
            raise fault(f"limits {word} twice", "give one of the two")
        found[f"{latency}_s"] = amount(value, "s")
    if not found:
        raise fault("names no limit in ( )", "such as attainment(ttft<500ms,tpot<50ms)>=99%")
    return found


# of scores


def _of_quality(part: str) -> Limit:
    name, upper, value = _compared(part, "gsm8k>=-0.01")
    task = name.removeprefix(SCORE)
    if not task or len(task.split()) > 1:
        raise fault(f"{task!r} is not the name of a task" if task else "names no task", "such as gsm8k>=-0.01")
    sign = {"+": 1, "-": -1, "−": -1}.get(value[:1], 0)
    number = amount(value[1:] if sign else value, "", bare=True)
    if not sign:
        return Limit(part, SCORE + task, upper, number)
    return Limit(part, SCORE + task, upper, sign * number + 0.0, "share" if value.endswith("%") else "difference")
