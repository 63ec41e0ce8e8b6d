"""Why no two experiments of a folder can be compared by an axis, and which study would pair them. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llem.analysis.overview import Overview
from llem.findings import REASONS

__all__ = ["why_unpaired"]

#: So many ids, values or codes are named.
NAMED = 4


def why_unpaired(
    study: Mapping[str, Any],
    rows: Sequence[Overview],
    axis: str,
    metrics: Sequence[str],
    config_of: Callable[[str], Mapping[str, Any]],
) -> list[str]:
    """The reason in a sentence, and below it what to do.

    Args:
        study: study.json. rows: all results of the folder, with these metrics.
        axis: a path of the study.
        config_of: the configuration of an experiment by its id.
    """
    points: Mapping[str, Mapping[str, Any]] = {
        name: point.get("values", {}) for name, point in study.get("points", {}).items()
    }
    setting = {name: _text(values[axis]) for name, values in points.items() if axis in values}
    if len(set(setting.values())) < 2:
        return list(_one_value(points, rows, axis, setting, config_of))
    found = [row for row in rows if row.id in setting]
    if len({setting[row.id] for row in found}) < 2:
        lacking = sorted(set(setting.values()) - {setting[row.id] for row in found})
        return [
            f"no experiment with {axis}={_some(lacking)} has a result",
            "measure the rest: `llem run … -o DIR --resume`",
        ]
    valid = [row for row in found if row.valid]
    if len({setting[row.id] for row in valid}) < 2:
        return list(_invalid(found, axis, setting))
    known = [row for row in valid if any((row.value(name) or 0.0) > 0 for name in metrics)]
    if len({setting[row.id] for row in known}) < 2:
        return list(_without(valid, axis, setting, metrics))
    return list(_apart(points, known, axis, setting))


def _one_value(
    points: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Overview],
    axis: str,
    setting: Mapping[str, str],
    config_of: Callable[[str], Mapping[str, Any]],
) -> Iterator[str]:
    values = sorted(set(setting.values()))
    others = [row.id for row in rows if row.id not in setting]
    left = f"; the other {len(points) - len(setting)} leave it as `base` has it" if len(points) > len(setting) else ""
    yield f"{axis} has a single value in this study: {_some(values)}{left}"
    base = _text(_within(config_of(others[0]), axis)) if others else None
    pair = [base, *values] if base is not None and base not in values else [*values, "…"]
    yield f"a study that pairs has it as an axis: `axes: {{{axis}: [{', '.join(pair)}]}}`"
    near = next((name for name in others if not points.get(name)), None)
    alone = next((row.id for row in rows if set(points.get(row.id, {})) == {axis}), None)
    if near and alone:
        yield f"these two differ in it alone: `llem compare DIR {near[:8]} {alone[:8]}`"


def _invalid(rows: Sequence[Overview], axis: str, setting: Mapping[str, str]) -> Iterator[str]:
    left = {setting[row.id] for row in rows if row.valid}
    out = [row for row in rows if setting[row.id] not in left]
    values = sorted({setting[row.id] for row in out})
    codes = dict.fromkeys(code for row in out for code in (row.errors or (row.outcome,)))
    yield f"no result with {axis}={_some(values)} is valid: {_some(list(codes))}"
    yield f"`llem show DIR {out[0].id[:8]}` says what to do; `llem run … -o DIR --resume` measures failed ones again"


def _without(rows: Sequence[Overview], axis: str, setting: Mapping[str, str], metrics: Sequence[str]) -> Iterator[str]:
    for name in metrics:
        lacking = [row for row in rows if not (row.value(name) or 0.0) > 0]
        if not lacking:
            continue
        values = sorted({setting[row.id] for row in lacking})
        quantity = lacking[0].metrics.get(name)
        reason = None if quantity is None else quantity.reason
        why = f": {REASONS.get(reason, reason)}" if reason else ""
        yield f"results with {axis}={_some(values)} have no {name}{why}".rstrip(".")
    yield "name another metric, such as `--metric output_tokens_per_s`"


def _apart(
    points: Mapping[str, Mapping[str, Any]], rows: Sequence[Overview], axis: str, setting: Mapping[str, str]
) -> Iterator[str]:
    """No two are equal in all other axes: the two that differ in the fewest are named."""
    firsts: dict[str, list[str]] = {}
    for row in rows:
        firsts.setdefault(setting[row.id], []).append(row.id)
    pairs = [
        (sorted(_others(points[a], points[b], axis)), a, b)
        for one, two in itertools.combinations(firsts.values(), 2)
        for a, b in itertools.islice(itertools.product(one, two), 1000)
    ]
    paths, a, b = min(pairs, key=lambda pair: len(pair[0]))
    yield f"no two valid results differ in {axis} alone; the nearest, {a[:8]} and {b[:8]}, differ in {_some(paths)} too"
    values = ", ".join(sorted(set(setting.values()))[:NAMED])
    yield f"a study that pairs crosses them: `axes: {{{axis}: [{values}], {paths[0] if paths else '…'}: […]}}`"


def _others(first: Mapping[str, Any], second: Mapping[str, Any], axis: str) -> Iterator[str]:
    for path in dict.fromkeys((*first, *second)):
        if path != axis and (path in first, first.get(path)) != (path in second, second.get(path)):
            yield path


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _within(config: Any, path: str) -> Any:
    for step in path.split("."):
        config = config.get(step) if isinstance(config, Mapping) else None
    return config
