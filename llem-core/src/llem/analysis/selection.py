"""Which results of a folder a table shows, and in which order: conditions, a metric to sort by, how many. Pure."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from llem.analysis.overview import Overview, basis_of
from llem.analysis.recommend import WORDS
from llem.errors import ConfigError, StoreError, nearest
from llem.metrics.catalogue import METRICS, PRICED, is_metric, lower_is_better, metric_of

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["FACTS", "SHORT", "Condition", "Selection", "condition", "conditions", "find_one", "metrics_named"]

#: What every result has besides its settings and metrics.
FACTS: Mapping[str, Callable[[Overview], Any]] = {
    "id": lambda row: row.id,
    "backend": lambda row: row.backend,
    "model": lambda row: row.model,
    "dtype": lambda row: row.dtype,
    "state": lambda row: row.outcome,
    "valid": lambda row: row.valid,
    "publishable": lambda row: row.publishable,
    "finding": lambda row: row.codes,
}
#: Short words for metrics.
SHORT = {**WORDS, "memory": "peak_memory_bytes", "power": "power_w"}
_SYNTAX = re.compile(r"\s*([\w.\-]+)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*")
_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@attrs.frozen
class Condition:
    """What a result has to be like: `dtype=bfloat16`, `state!=done`, `load.batch_size>=8`, `finding=short_window`.

    Attributes:
        name: a fact, an axis or a setting, or a metric, as it was written.
        sign: one of = != < <= > >=.
        values: with = and !=, any of these.
    """

    name: str
    sign: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{'|'.join(self.values)}"

    def holds(self, value: Any) -> bool:
        """Whether a value is as asked for. A list is if one of its entries is; nothing is more or less than null."""
        if self.sign in _ORDER:
            number = _number(value)
            return number is not None and _ORDER[self.sign](number, float(self.values[0]))
        found = value if isinstance(value, tuple) else (value,)
        return (self.sign == "=") == any(_same(one, asked) for one in found for asked in self.values)


def conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Conditions from texts, of which each may hold several, separated by semicolons. Raises ConfigError."""
    return tuple(condition(part) for text in texts for part in text.split(";") if part.strip())


def condition(text: str) -> Condition:
    """One condition. Raises ConfigError: it is none, or compares with what is no number."""
    found = _SYNTAX.fullmatch(text)
    if found is None or not found[3]:
        what = f"{text.strip()!r} is no condition"
        raise ConfigError(what, "write NAME=VALUE, such as dtype=bfloat16, state!=done or load.batch_size>=8")
    name, sign, value = found[1], "=" if found[2] == "==" else found[2], found[3]
    if sign in _ORDER and _number(value) is None:
        raise ConfigError(f"{name}{sign} needs a number, and {value!r} is none", f"write it as {name}{sign}8")
    return Condition(name, sign, (value,) if sign in _ORDER else tuple(value.split("|")))


def find_one(results: Results, text: str) -> str:
    """The experiment that is meant: the beginning of its id, `@3` for the third of the table, or what it alone sets.

    Raises StoreError: there is none, or more than one (id_unknown, id_ambiguous). Raises ConfigError as `condition`.
    """
    if text.startswith("@"):
        listed = list(results)
        if text[1:].isdigit() and 0 < int(text[1:]) <= len(listed):
            return listed[int(text[1:]) - 1]
        what = f"no line {text} in the table of {results.store.path}"
        raise StoreError(what, f"write @1 to @{len(listed)}" if listed else "it holds no result yet", "id_unknown")
    if _SYNTAX.fullmatch(text.split(";")[0]):
        return Selection(conditions([text])).only(results, text)
    return results.store.find(text)


def metrics_named(text: str) -> list[str]:
    """The metrics of a list with commas, each by its name or by a short word. Raises StoreError: there is no such."""
    return [metric_of(SHORT.get(name.strip(), name.strip())).name for name in text.split(",") if name.strip()]


@attrs.frozen
class Selection:
    """Which results, in which order.

    Attributes:
        wanted: all of these hold.
        sort: a metric, the best first, or an axis; None keeps the order of the study. Results without a value come
            last. Energies that cover different things stand apart.
        top: only the first so many; None: all.
    """

    wanted: tuple[Condition, ...] = ()
    sort: str | None = None
    top: int | None = None

    def of(self, results: Results, metrics: Iterable[str]) -> list[Overview]:
        """The overviews of these results, with these metrics and those that are asked about.

        Raises StoreError: a name is no fact, axis, setting or metric.
        """
        read = _Reader(results)
        asked = {one: read.meaning(one.name) for one in self.wanted}
        by = None if self.sort is None else read.meaning(self.sort)
        names = {*metrics, *(name for kind, name in [*asked.values(), *([by] if by else [])] if kind == "metric")}
        rows = [
            row
            for row in results.overviews(names)
            if all(one.holds(read.value(row, *meaning)) for one, meaning in asked.items())
        ]
        if by is not None:
            rows = _sorted(rows, by, read)
        return rows[: self.top]

    def only(self, results: Results, text: str) -> str:
        """The id of the one experiment of this selection. `text`: what was written, for errors. Raises StoreError."""
        found = [row.id for row in self.of(results, ())]
        if len(found) == 1:
            return found[0]
        if not found:
            what = f"no experiment in {results.store.path} has {text}"
            raise StoreError(what, "`llem show DIR` lists what each sets", "id_unknown")
        first = ", ".join(name[:8] for name in found[:5])
        what = f"{len(found)} experiments have {text}: {first}{', …' if len(found) > 5 else ''}"
        raise StoreError(what, "add a condition after `;`, or write the beginning of an id", "id_ambiguous")

    def notes(self, shown: int, count: int) -> Iterator[str]:
        """What of the folder is shown, in words."""
        if self.wanted:
            asked = " and ".join(map(str, self.wanted))
            yield f"with {asked}{'' if self.top is None else f', the first {self.top}'}: {shown:,} of {count:,}"
        elif shown < count:
            yield f"the first {shown:,} of {count:,}"


class _Reader:
    """What names mean in a folder, and the values that experiments have for them."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._points = results.study.get("points", {})
        self._axes: Sequence[str] = list(results.study.get("axes", ()))

    def meaning(self, name: str) -> tuple[str, str]:
        """The kind of a name (fact, metric or setting) and what it is short for. Raises StoreError (name_unknown)."""
        if name not in self._axes and name in FACTS:
            return "fact", name
        if len(found := _ending(name, self._axes)) == 1:
            return "setting", found[0]
        metric = SHORT.get(name, name)
        if is_metric(metric):
            return "metric", metric
        settings = self._settings()
        if len(found := _ending(name, settings)) == 1:
            return "setting", found[0]
        if found:
            what = f"{name!r} is the end of several settings"
            raise StoreError(what, f"write one of {', '.join(found)}", "name_unknown")
        known = (*FACTS, *self._axes, *settings, *METRICS, *PRICED, *SHORT)
        near = nearest(name, known)
        axes = f"axes: {', '.join(self._axes)}; " if self._axes else ""
        hint = f"did you mean {near!r}?" if near else f"{axes}facts: {', '.join(FACTS)}; or a setting, or a metric"
        raise StoreError(f"no axis, setting or metric {name!r} in this folder", hint, "name_unknown")

    def value(self, row: Overview, kind: str, name: str) -> Any:
        """What an experiment has for a name."""
        if kind == "fact":
            return FACTS[name](row)
        if kind == "metric":
            return row.value(name)
        point = self._points.get(row.id, {}).get("values", {})
        if name in point:
            return point[name]
        return FACTS[name](row) if name in FACTS else _within(self._config(row.id), name)

    def _config(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._results.store.read_experiment(name).get("config", {})
        return found

    def _settings(self) -> list[str]:
        first = next(iter(self._results), None)
        return [] if first is None else list(_paths(self._config(first)))


def _sorted(rows: list[Overview], by: tuple[str, str], read: _Reader) -> list[Overview]:
    kind, name = by
    if kind != "metric":
        return sorted(rows, key=lambda row: _rank(read.value(row, kind, name)))
    found = [row.metrics.get(name) for row in rows]
    try:
        sign = 1.0 if lower_is_better(name, found) else -1.0
    except StoreError as error:
        if error.code != "no_direction":
            raise
        sign = 1.0

    def key(row: Overview) -> tuple[bool, str, float]:
        value, quantity = row.value(name), row.metrics.get(name)
        basis = "" if quantity is None else str(basis_of(quantity) or "")
        return (True, "", 0.0) if value is None else (False, basis, sign * value)

    return sorted(rows, key=key)


def _rank(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then words, then what is not set."""
    number = _number(value)
    return (2, 0.0, "") if value is None else (1, 0.0, _text(value)) if number is None else (0, number, "")


def _ending(name: str, paths: Sequence[str]) -> list[str]:
    return [name] if name in paths else [path for path in paths if path.endswith(f".{name}")]


def _paths(config: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in config.items():
        yield f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}.")


def _within(config: Any, path: str) -> Any:
    for step in path.split("."):
        config = config.get(step) if isinstance(config, Mapping) else None
    return config


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(found) else found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _same(value: Any, asked: str) -> bool:
    first, second = _number(value), _number(asked)
    if first is not None and second is not None:
        return first == second
    return _text(value).lower() == asked.lower()
