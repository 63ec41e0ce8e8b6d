"""lm-eval's results and samples as llem's scores: a figure for each metric and filter, with the items behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from lm_eval.api import metrics as formulas

from llem.evaluators.base import Aggregation, Item, Score
from llem.evaluators.items import standard_error
from llem_lmeval.tasks import Loaded

__all__ = ["Key", "first_metric", "items_hash", "scores_of"]

#: A metric and the filter that the answers went through, such as ("exact_match", "strict-match").
Key = tuple[str, str]
#: Hexadecimal digits of a document's hash that name an item.
DIGITS = 16


@attrs.frozen
class _Part:
    """What an item contributes: its value and weight, so that the weighted mean (or e to it) is lm-eval's figure."""

    value: float
    weight: float = 1.0


def _plain(value: Any) -> _Part:
    return _Part(float(value))


def _nats(value: Any) -> _Part:
    return _Part(-float(value))


def _share(value: Any) -> _Part:
    """Of (sum, weight)."""
    return _Part(float(value[0]) / float(value[1]), float(value[1])) if value[1] else _Part(0.0, 0.0)


def _without_share(value: Any) -> bool:
    """Whether a (sum, weight) counts in a score and has no weight there: what an empty text costs, by the byte."""
    return isinstance(value, tuple) and len(value) == 2 and not value[1] and bool(value[0])


def _nats_share(value: Any) -> _Part:
    part = _share(value)
    return _Part(-part.value, part.weight)


def _bits_share(value: Any) -> _Part:
    part = _share(value)
    return _Part(-part.value / math.log(2), part.weight)


#: lm-eval's aggregations of which every item has its part, and how the parts make the figure.
PARTS: Mapping[Callable[..., Any], tuple[Aggregation, Callable[[Any], _Part]]] = {
    formulas.mean: ("mean", _plain),
    formulas.nanmean: ("mean", _plain),
    formulas.perplexity: ("exp", _nats),
    formulas.weighted_perplexity: ("exp", _nats_share),
    formulas.weighted_mean: ("mean", _share),
    formulas.bits_per_byte: ("mean", _bits_share),
}


def first_metric(task: Any) -> Key:
    """The metric and filter that stand for a task: the first of its `metric_list`, through its first filter."""
    listed = task.config.metric_list or ()
    named = [one["metric"] for one in listed if isinstance(one.get("metric"), str)]
    metric = next(iter(named or task.aggregation()))
    return str(metric), str(next(iter(task._filters)).name)


def scores_of(loaded: Loaded, results: Mapping[str, Any], cluster_by: str | None) -> tuple[Score, ...]:
    """All scores of what was asked for; the one that stands for it comes first.

    That is the first metric of a task; the first aggregate of a group; else, of a group that aggregates nothing and of
    a tag, the mean of the first metric over all items.
    """
    each = {name: _of_task(task, results, cluster_by) for name, task in loaded.tasks.items()}
    if loaded.kind == "task":
        return tuple(score for scores in each.values() for score in scores.values())
    first = _of_groups(loaded, results, each) or [_pooled(loaded, each)]
    return (*first, *(score for scores in each.values() for score in scores.values()))


def items_hash(results: Mapping[str, Any]) -> dict[str, str]:
    """A hash of all documents of each task, in their order."""
    from lm_eval.utils import hash_string

    samples = results["samples"]
    return {task: hash_string("".join(one["doc_hash"] for one in rows))[:DIGITS] for task, rows in samples.items()}


def _of_task(task: Any, results: Mapping[str, Any], cluster_by: str | None) -> dict[Key, Score]:
    name = task.task_name
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for sample in results["samples"][name]:
        rows.setdefault(sample["filter"], []).append(sample)
    named = dict.fromkeys((first_metric(task), *_keys(results["results"][name])))
    answered: set[str] = set()
    found = {}
    for key in named:
        metric, chosen = key
        if f"{metric},{chosen}" not in results["results"][name]:
            continue
        said = chosen not in answered  # once for each filter: the same answers stand behind all of its metrics
        answered.add(chosen)
        found[key] = _score(task, key, results, rows[chosen], cluster_by, said, raw=len(answered) == 1)
    return found


def _keys(figures: Mapping[str, Any]) -> Iterator[Key]:
    for name in figures:
        metric, comma, chosen = name.rpartition(",")
        if comma and not metric.endswith("_stderr"):
            yield metric, chosen


def _score(
    task: Any,
    key: Key,
    results: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    cluster_by: str | None,
    said: bool,
    raw: bool,
) -> Score:
    metric, chosen = key
    figures = results["results"][task.task_name]
    rows = [row for row in rows if metric in row]
    how, part = PARTS.get(task.aggregation().get(metric, formulas.mean), ("other", _plain))
    if any(_without_share(row[metric]) for row in rows):
        how = "other"
    items: list[Item] = []
    if how != "other":
        ids, copies = _ids(rows)
        for row, name, copied in zip(rows, ids, copies, strict=True):
            mine = part(row[metric])
            if mine.weight > 0 and not math.isnan(mine.value):
                answer = _response(row, raw) if said else ""
                items.append(Item(name, mine.value, answer, mine.weight, _cluster(row, copied, cluster_by)))
    value = float(figures[f"{metric},{chosen}"])
    # lm-eval's own takes every item by itself, and states none of a perplexity
    stated = _error(figures.get(f"{metric}_stderr,{chosen}"))
    stderr = stated if how == "other" else standard_error(items, how)
    higher = task.higher_is_better().get(metric)
    count = len(rows) if how == "other" else len(items)
    return Score(task.task_name, _named(key), value, stderr, count, higher is not False, tuple(items), how)


def _named(key: Key) -> str:
    """`acc_norm`; with a filter, `exact_match.strict-match`."""
    return key[0] if key[1] == "none" else ".".join(key)


def _error(stderr: Any) -> float | None:
    """lm-eval says "N/A" where it states none."""
    return float(stderr) if isinstance(stderr, (int, float)) and math.isfinite(stderr) else None


def _ids(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[bool]]:
    """Names of the items by what their documents hold, and whether a document is there more than once."""
    hashes = [str(row["doc_hash"])[:DIGITS] for row in rows]
    number: dict[str, int] = {}
    for one in hashes:
        number[one] = number.get(one, 0) + 1
    seen: dict[str, int] = {}
    names = []
    for one in hashes:
        seen[one] = seen.get(one, 0) + 1
        names.append(one if seen[one] == 1 else f"{one}-{seen[one]}")
    return names, [number[one] > 1 for one in hashes]


def _cluster(row: Mapping[str, Any], copied: bool, cluster_by: str | None) -> str:
    if cluster_by is not None:
        return str(row["doc"][cluster_by])
    return str(row["doc_hash"])[:DIGITS] if copied else ""


def _response(row: Mapping[str, Any], raw: bool) -> str:
    """What the engine said: a text, a likelihood in nats, or the place of the likeliest choice with those of all."""
    first = row["resps"][0][0]
    if isinstance(first, str):
        answer = first if raw else row["filtered_resps"][0]
        return answer if isinstance(answer, str) else repr(answer)
    if not isinstance(first, (tuple, list)):
        return f"{float(first):.6f}"
    if len(row["resps"]) == 1:
        return f"{float(first[0]):.6f}{' greedy' if first[1] else ''}"
    found = [float(one[0][0]) for one in row["resps"]]
    return f"{found.index(max(found))}: {' '.join(f'{one:.6f}' for one in found)}"


def _of_groups(loaded: Loaded, results: Mapping[str, Any], each: Mapping[str, Mapping[Key, Score]]) -> list[Score]:
    """The aggregates of the group that was asked for, then of the groups within it."""
    names = [loaded.name, *(name for name in loaded.groups if name != loaded.name)]
    return [
        _aggregate(loaded.groups[name], key, results["results"][name], each)
        for name in names
        if name in loaded.groups and loaded.groups[name].has_aggregation
        for key in _keys(results["results"][name])
    ]


def _aggregate(group: Any, key: Key, figures: Mapping[str, Any], each: Mapping[str, Mapping[Key, Score]]) -> Score:
    """lm-eval's mean over the group's tasks, by their sizes or each alike."""
    config = next(one for one in group.aggregate_metric_list if one.metric == key[0])
    within = [each[task.task_name][key] for task in group.get_all_tasks() if key in each[task.task_name]]
    metric, chosen = key
    value, stderr = float(figures[f"{metric},{chosen}"]), figures.get(f"{metric}_stderr,{chosen}")
    made = _together(group.name, key, within, by_size=config.weight_by_size)
    return attrs.evolve(made, value=value, stderr=_error(stderr))


def _pooled(loaded: Loaded, each: Mapping[str, Mapping[Key, Score]]) -> Score:
    """The mean over all items of tasks that have no aggregate; `checks` has seen that they share their first metric."""
    firsts = [next(iter(scores.items())) for scores in each.values()]
    scores = [score for _, score in firsts]
    made = _together(loaded.name, firsts[0][0], scores, by_size=True)
    sizes = [score.n for score in scores]
    errors = [score.stderr for score in scores if score.stderr is not None]
    value = formulas.aggregate_subtask_metrics([score.value for score in scores], sizes, True)
    pooled = formulas.pooled_sample_stderr(errors, sizes) if len(errors) == len(scores) else None
    return attrs.evolve(made, value=float(value), stderr=_error(pooled))


def _together(name: str, key: Key, scores: Sequence[Score], *, by_size: bool) -> Score:
    """A score whose items are those of several tasks; its value is for the caller to set."""
    count = sum(score.n for score in scores)
    higher = all(score.higher_is_better for score in scores)
    whole = all(score.aggregation == "mean" and all(one.weight == 1.0 for one in score.items) for score in scores)
    if not whole:
        return Score(name, _named(key), math.nan, None, count, higher, (), "other")
    items = tuple(
        attrs.evolve(
            one,
            id=f"{score.task}/{one.id}",
            response="",
            weight=1.0 if by_size else 1.0 / score.n,
            cluster=f"{score.task}/{one.cluster}" if one.cluster else "",
        )
        for score in scores
        for one in score.items
    )
    return Score(name, _named(key), math.nan, None, count, higher, items, "mean")
