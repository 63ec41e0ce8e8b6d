"""From axes to points: every combination of their values. Pure, and knows nothing of what the values mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.layers import Layer, leaves, overlay, plain
from llem.config.study.file import Stated, StudyFile
from llem.config.study.ranges import MOST_VALUES, RANGES, range_values
from llem.config.words import got
from llem.errors import ConfigError, Problem, nearest

__all__ = ["MOST_POINTS", "POINT", "Point", "declared_points"]

#: More than this is a slip of the finger, like as many values of one axis.
MOST_POINTS = MOST_VALUES
#: The source of what a point sets.
POINT = "point of the study"


@attrs.frozen
class Point:
    """One combination of values, upon the base.

    Attributes:
        number: its place in the file's order, from 0.
        settings: as a layer of settings.
        values: dotted path to value, to be shown and compared.
        where: dotted path to where that value stands: `study.yaml: axes.load.batch_size[1]`.
    """

    number: int
    settings: Mapping[str, Any]
    values: Mapping[str, Any]
    where: Mapping[str, str]

    def place(self, path: str) -> str | None:
        """Where a setting of this point stands, by the path of the setting, of one within it, or of what it is in."""
        bare = path.partition("[")[0]
        for own, where in self.where.items():
            if bare == own or bare.startswith(f"{own}."):
                return where + path[len(own) :]
        return next((where for own, where in self.where.items() if own.startswith(f"{bare}.")), None)


#: What one value of an axis sets: dotted path to value and place.
_Choice = Mapping[str, Stated]


@attrs.frozen
class _Axis:
    """Values that exclude each other; a value may bring further axes, over which it alone is varied.

    Attributes:
        choices: each with the axes that it brings.
    """

    choices: Sequence[tuple[_Choice, Sequence[_Axis]]]

    def __len__(self) -> int:
        return sum(math.prod(map(len, inner)) for _, inner in self.choices)

    def __iter__(self) -> Iterator[_Choice]:
        for choice, inner in self.choices:
            for combination in _product(inner):
                yield {**choice, **combination}

    def paths(self) -> set[str]:
        """Every setting that some value of this axis sets."""
        return {
            path for choice, inner in self.choices for path in (*choice, *(p for axis in inner for p in axis.paths()))
        }


def _product(axes: Sequence[_Axis]) -> Iterator[_Choice]:
    """Every combination, the last axis changing fastest."""
    if not axes:
        yield {}
        return
    for first in axes[0]:
        for rest in _product(axes[1:]):
            yield {**first, **rest}


def declared_points(study: StudyFile) -> list[Point]:
    """All points: the grid of axes and zips, then those listed by hand. The base alone where nothing varies.

    Raises:
        ConfigError: an axis that is none, two that set the same, zipped axes of unequal length, or far too many points.
    """
    problems: list[Problem] = []
    axes = [_axis(path, stated, problems) for path, stated in study.axes.items()]
    axes += [_zipped(group, problems) for group in study.zips if group]
    if not problems:
        _overlaps(axes, [*study.axes.values(), *(next(iter(g.values())) for g in study.zips if g)], problems)
    if problems:
        raise ConfigError("the study's axes cannot be expanded", problems=tuple(problems))
    count = math.prod(map(len, axes)) + len(study.experiments)
    if count > MOST_POINTS:
        raise ConfigError(f"the study declares {count:,} points, more than {MOST_POINTS:,}", "give fewer values")
    grid = _product(axes) if axes or not study.experiments else ()
    points = [_from_axes(number, choice) for number, choice in enumerate(grid)]
    return [*points, *(_by_hand(len(points) + n, entry) for n, entry in enumerate(study.experiments))]


def _from_axes(number: int, choice: _Choice) -> Point:
    values = {path: stated.value for path, stated in choice.items()}
    return Point(number, values, values, {path: stated.where for path, stated in choice.items()})


def _by_hand(number: int, entry: Stated) -> Point:
    tree: dict[Any, Any] = {}
    overlay(tree, Layer("", entry.value))
    values = dict(leaves(plain(tree)))
    return Point(number, entry.value, values, {path: f"{entry.where}.{path}" for path in values})


def _axis(path: str, stated: Stated, problems: list[Problem]) -> _Axis:
    """An axis from a list, a range, or a section of values each with further axes."""
    raw, where = stated.value, stated.where
    if isinstance(raw, Mapping) and not (len(raw) == 1 and next(iter(raw)) in RANGES):
        if any(isinstance(raw.get(name), (list, tuple)) for name in RANGES):
            hint = "give an axis one rule alone"
            problems.append(Problem(where, f"is a range with more than its rule: {', '.join(map(str, raw))}", hint))
            return _Axis([])
        return _conditional(path, stated, problems)
    values = _listed(raw, where, problems)
    return _Axis([({path: Stated(value, f"{where}[{n}]")}, ()) for n, value in enumerate(values)])


def _listed(raw: Any, where: str, problems: list[Problem]) -> Sequence[Any]:
    if isinstance(raw, Mapping):
        [(name, ends)] = raw.items()
        try:
            return range_values(name, ends)
        except ValueError as error:
            problems.append(Problem(f"{where}.{name}", str(error)))
            return ()
    if not isinstance(raw, (list, tuple)):
        iterable = isinstance(raw, Iterable) and not isinstance(raw, str)  # in Python: an array, a range
        hint = "" if raw is None else "make it a list" if iterable else f"write [{raw}]"
        problems.append(Problem(where, f"must be a list of values, got {got(raw)}", hint))
        return ()
    if not raw:
        problems.append(Problem(where, "has no values", "give one at least, or remove it"))
    return raw


def _conditional(path: str, stated: Stated, problems: list[Problem]) -> _Axis:
    choices = []
    if not stated.value:
        problems.append(Problem(stated.where, "has no values", "give one at least, or remove it"))
    for value, below in stated.value.items():
        where = f"{stated.where}.{value}"
        inner: list[_Axis] = []
        if isinstance(below, Mapping):
            further = {str(key): Stated(values, f"{where}.{key}") for key, values in below.items()}
            inner = [_axis(key, one, problems) for key, one in further.items()]
            _overlaps([_Axis([({path: stated}, ())]), *inner], [stated, *further.values()], problems)
        elif below is not None:
            near = nearest(str(value), RANGES)
            hint = f"did you mean {near!r}?" if near else f"for values of {path}.{value} write `{path}.{value}: [...]`"
            problems.append(Problem(where, f"must be a section of further axes, got {got(below)}", hint))
        choices.append(({path: Stated(value, where)}, inner))
    return _Axis(choices)


def _zipped(group: Mapping[str, Stated], problems: list[Problem]) -> _Axis:
    columns = {path: _listed_only(stated, problems) for path, stated in group.items()}
    lengths = {path: len(column) for path, column in columns.items()}
    if len(set(lengths.values())) > 1 and not problems:
        told = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        first, stated = next(iter(group.items()))
        where = stated.where.removesuffix(f".{first}")
        problems.append(Problem(where, f"its axes need equally many values; {told}"))
        return _Axis([])
    _overlaps([_Axis([({path: stated}, ())]) for path, stated in group.items()], list(group.values()), problems)
    return _Axis([(dict(zip(columns, row, strict=True)), ()) for row in zip(*columns.values(), strict=False)])


def _listed_only(stated: Stated, problems: list[Problem]) -> list[Stated]:
    if isinstance(stated.value, Mapping) and not set(stated.value) <= set(RANGES):
        problems.append(Problem(stated.where, f"must be a list of values or a range, got {got(stated.value)}"))
        return []
    return [
        Stated(value, f"{stated.where}[{n}]") for n, value in enumerate(_listed(stated.value, stated.where, problems))
    ]


def _overlaps(axes: Sequence[_Axis], stated: Sequence[Stated], problems: list[Problem]) -> None:
    """Two axes that set the same, or one within what the other sets: the outcome would hang on their order."""
    seen: dict[str, str] = {}
    for axis, one in zip(axes, stated, strict=True):
        for path in sorted(axis.paths()):
            clash = next((old for old in seen if _within(old, path) or _within(path, old)), None)
            if clash is not None:
                about = f"sets {path}, and {seen[clash]} sets {clash}"
                problems.append(Problem(one.where, about, "give each setting one axis"))
        seen |= dict.fromkeys(axis.paths(), one.where)


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")
