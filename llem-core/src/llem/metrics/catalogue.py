"""The catalogue of metrics: a row for each, in the order in which they are shown.

A row defines a metric: how it is computed, its unit, which way it is better, its name for people, where it is shown,
and what it is. Results, tables, comparisons, effects, curves, exports and the reference page are made from these rows.
Rows of latencies are in `latency`, those of serving loads in `serving`, those of the phases in `phases`, those of the
hardware in `hardware`. Evaluators bring their tasks, so that `quality` makes the rows of a task by its name. Rows in
`PRICED` (`cost`) are computed where a view has prices, and are in no stored result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from llem.errors import StoreError, nearest
from llem.metrics.caching import cache_metrics
from llem.metrics.cost import priced_metrics
from llem.metrics.hardware import hardware_metrics
from llem.metrics.idle import nets
from llem.metrics.latency import latency_metrics
from llem.metrics.metric import Measured, Metric, Place
from llem.metrics.phases import phase_metrics
from llem.metrics.quality import FAMILIES, family_of
from llem.metrics.quantity import Value
from llem.metrics.serving import serving_metrics
from llem.store.models import Quantity, Trial

__all__ = ["GROUPS", "METRICS", "PRICED", "compute_metrics", "is_metric", "lower_is_better", "metric_of", "shown"]

#: Groups of metrics in their order: the title, and what holds for all of them.
GROUPS: Mapping[str, tuple[str, str]] = {
    "energy": (
        "Energy and power",
        "Of the GPUs if the experiment uses any, else of the CPU and its memory. `scope` says which, and `kind` says "
        "whether the energy was measured or modelled.",
    ),
    "speed": ("Speed", ""),
    "latency": (
        "Times of requests",
        "Each as its mean and its percentiles. An offline load has only the time per request, unless you set "
        "`token_times: true`, which slows the engine. Its percentiles are those of a window, averaged over trials, and "
        "`null` where a window has too few batches. For a serving load they are over the requests that "
        "completed within all windows. A request of an open load arrives at its scheduled time.",
    ),
    "serving": (
        "Serving loads",
        "`null` for an offline load. Definitions and intervals: [serving metrics](../explanation/serving-metrics.md).",
    ),
    "phases": (
        "Phases",
        "Of prefill and decode apart, with the setting `phases`; else `null`. Definitions and what closure says: "
        "[phases](../explanation/phases.md).",
    ),
    "hardware": ("The hardware", ""),
    "quality": (
        "Quality",
        "Of each task that an evaluator scored. The score of a task that was not scored is `null`; the other names are "
        "there only where they apply.",
    ),
    "cost": (
        "Cost and carbon",
        "In no stored result: llem computes them from a result where you give [prices](../howto/prices.md). Energy is "
        "the headline energy, and `scope` and `kind` are its own, so emissions of a modelled energy are modelled.",
    ),
}


def compute_metrics(measured: Measured) -> dict[str, Quantity]:
    """Every metric of one experiment by name."""
    return {name: metric.of(measured) for name, metric in METRICS.items()}


def shown(place: Place, found: Iterable[str] = ()) -> list[Metric]:
    """The metrics that are shown at a place by default, in the order of the catalogue.

    Args:
        found: names of metrics that a result has. Those of an evaluator's tasks come last: no row here names them.
    """
    order = list(FAMILIES)
    of_tasks = [(order.index(family), metric_of(name)) for name in found if (family := family_of(name))]
    scores = [metric for _, metric in sorted(of_tasks, key=lambda one: one[0])]
    return [metric for metric in (*METRICS.values(), *scores) if place in metric.shown]


def is_metric(name: str) -> bool:
    """Whether there is a row of this name."""
    return name in METRICS or name in PRICED or family_of(name) is not None


def metric_of(name: str) -> Metric:
    """The row of a metric. Raises StoreError (metric_unknown): there is none of this name.

    The unit of a cost is `llem.metrics.cost.CURRENCY`; prices have it with their currency (`Prices.metric`).
    """
    if (known := METRICS.get(name) or PRICED.get(name)) is not None:
        return known
    if (family := family_of(name)) is not None:
        return FAMILIES[family](name.removeprefix(f"{family}."))
    near = nearest(name, (*METRICS, *PRICED))
    listed = "`llem show DIR --json` and the reference page on metrics have the list"
    raise StoreError(
        f"there is no metric {name!r}", f"did you mean {near!r}? {listed}" if near else listed, "metric_unknown"
    )


def lower_is_better(name: str, found: Iterable[Quantity | None] = ()) -> bool:
    """Whether less of a metric is better.

    Args:
        found: the metric in every result that it is asked for: an evaluator's score tells by itself which way is
            better, and the catalogue has only what holds for most.

    Raises:
        StoreError: it is neither (no_direction), there is no such metric (metric_unknown), or results hold different
            scores under this name (scores_differ).
    """
    metric = metric_of(name)
    told = {(one.score, one.better) for one in found if one is not None and one.better}
    if len(told) > 1:
        scores = " and ".join(f"{score} ({better} is better)" for score, better in sorted(told))
        what = f"{name} is not the same score in all results: {scores}"
        raise StoreError(what, "compare results of one evaluator, in one version", "scores_differ")
    if told:
        return any(better == "lower" for _, better in told)
    if metric.direction is None and family_of(name) is not None:
        hint = f"name a metric of the trials, such as {next(one.name for one in METRICS.values() if one.direction)}"
        raise StoreError(f"{name} is of one evaluation, made once: nothing is ranked by it", hint, "no_direction")
    if metric.direction is None:
        known = [other.name for other in METRICS.values() if other.direction]
        hint = f"name another metric, such as {', '.join(known[:3])}"
        raise StoreError(f"metric {name!r} has no direction: neither less nor more is better", hint, "no_direction")
    return metric.lower_is_better


# energy


def _per(count: Callable[[Trial], float | None]) -> Callable[[Measured], list[Value]]:
    """Headline joules divided by a count of each trial; None if the count is 0 or not known."""
    return lambda measured: _divided(measured, [count(trial) for trial in measured.trials])


def _divided(measured: Measured, counts: Sequence[float | None]) -> list[Value]:
    return [
        energy.scaled(1 / n) if n else Value(None, reason=energy.reason or _uncounted(n))
        for energy, n in zip(measured.gross, counts, strict=True)
    ]


def _uncounted(count: float | None) -> str:
    """Why nothing is divided by a count."""
    return "prompt_not_told" if count is None else "no_completions"


def _all_tokens(trial: Trial) -> int | None:
    """Prompt and generated tokens; None where those of a prompt are not known."""
    return None if trial.input_tokens is None else trial.input_tokens + trial.output_tokens


def _net(measured: Measured) -> list[Value]:
    chosen = measured.headline
    if chosen is None:
        return measured.gross
    return nets(measured.trials, measured.baselines, chosen.of)


def _energy() -> Iterator[Metric]:
    yield Metric(
        "energy_per_output_token_j", "J", "energy per output token", "lower", "energy",
        "The window's energy divided by the tokens generated in the window. The headline.",
        each=_per(lambda trial: trial.output_tokens), scoped=True,
        shown=("result", "study", "compare", "effects", "curve"), heading="J/output token",
    )  # fmt: skip
    yield Metric(
        "energy_per_token_j", "J", "energy per token in + out", "lower", "energy",
        "The window's energy divided by its prompt and generated tokens together.",
        each=_per(_all_tokens), scoped=True, shown=("result",),
    )  # fmt: skip
    yield Metric(
        "energy_per_request_j", "J", "energy per request", "lower", "energy",
        "The window's energy divided by its number of requests. For a serving load this number is the window's output "
        "tokens, of requests that did not fail, divided by the mean output of those that completed within the window.",
        each=lambda measured: _divided(measured, measured.whole_requests), scoped=True,
        shown=("result", "compare", "curve"), heading="J/request", since=5,
    )  # fmt: skip
    yield Metric(
        "energy_j", "J", "window energy, gross", None, "energy",
        "All energy of the window. A longer window has more, so neither way is better.",
        each=lambda measured: measured.gross, scoped=True, shown=("result", "commands"), heading="J", of_window=True,
    )  # fmt: skip
    yield Metric(
        "energy_net_j", "J", "window energy, net of idle", None, "energy",
        "Gross energy less the idle energy of the same engine process, with the model loaded, over the same time. Idle "
        "power is the mean of the baselines before and after the trials. It may be negative; llem does not clamp it.",
        each=_net, scoped=True, shown=("result",), since=4, of_window=True, least=None,
    )  # fmt: skip
    yield Metric(
        "power_w", "W", "power", "lower", "energy",
        "Gross energy divided by the length of the window.",
        each=_per(lambda trial: trial.duration_s), scoped=True, shown=("result", "study", "compare"), heading="W",
        of_window=True,
    )  # fmt: skip


# speed


def _rate(counts: Callable[[Measured], Sequence[float | None]]) -> Callable[[Measured], list[Value]]:
    """A count of each trial by its time; None where nothing came: an engine that hangs has no speed of 0."""
    return lambda measured: [
        Value(count / trial.duration_s if count else None, reason=_uncounted(count))
        for count, trial in zip(counts(measured), measured.trials, strict=True)
    ]


def _speed() -> Iterator[Metric]:
    yield Metric(
        "output_tokens_per_s", "token/s", "output tokens", "higher", "speed",
        "Tokens generated in the window, of all requests, divided by the length of the window.",
        each=_rate(lambda measured: [trial.output_tokens for trial in measured.trials]),
        shown=("result", "study", "compare", "effects"),
        heading="output token/s",
    )  # fmt: skip
    yield Metric(
        "total_tokens_per_s", "token/s", "tokens in + out", "higher", "speed",
        "Prompt and generated tokens of the window, divided by the length of the window. A prompt counts in the window "
        "in which its first output token came.",
        each=_rate(lambda measured: [_all_tokens(trial) for trial in measured.trials]),
        shown=("result",), since=3,
    )  # fmt: skip
    yield Metric(
        "requests_per_s", "request/s", "requests", "higher", "speed",
        "The window's number of requests (as in `energy_per_request_j`), divided by the length of the window.",
        each=_rate(lambda measured: measured.whole_requests), shown=("result", "compare"), since=5,
    )  # fmt: skip
    yield Metric(
        "duration_s", "s", "window duration", None, "speed",
        "Length of the window.",
        each=lambda measured: [Value(trial.duration_s) for trial in measured.trials],
        shown=("result", "commands"), of_window=True,
    )  # fmt: skip


_ROWS = (_energy, phase_metrics, _speed, serving_metrics, cache_metrics, latency_metrics, hardware_metrics)
METRICS: dict[str, Metric] = {metric.name: metric for rows in _ROWS for metric in rows()}
PRICED: dict[str, Metric] = {metric.name: metric for metric in priced_metrics()}
