"""Which problems are of single points, and which are mistakes of the study. Pure.

What a point sets is checked when the point is resolved. Entries of `exclude` and `reference` set nothing, and an axis
may belong to a backend that no point uses. A typo in those is found here, by the names and types of the settings that
there are.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.build import FIELDS, unknown_name
from llem.config.converter import settings, structure_all
from llem.config.models import Experiment, config_class
from llem.config.study.axes import POINT, Point
from llem.config.study.file import StudyFile
from llem.config.study.shared import wanted
from llem.errors import BrokenPlugin, ConfigError, Problem, nearest
from llem.plugins.registry import Kind, Registry

__all__ = [
    "Invalid",
    "invalid_point",
    "refuse_mistaken_entries",
    "refuse_mistakes",
    "refuse_unused_mistakes",
    "setting_problem",
]

#: Problems told of a study none of whose points runs.
_MOST_TOLD = 10


@attrs.frozen
class Invalid:
    """A point that cannot run. The problems' paths say where in the files the values stand.

    Attributes:
        origins: of each problem, the axis or the shared setting that is wrong; None for what a backend refuses, which
            may be any combination.
    """

    point: Point
    problems: tuple[Problem, ...]
    origins: tuple[str | None, ...]


def invalid_point(file: StudyFile, point: Point, error: ConfigError) -> Invalid:
    """The point with the problems of an error, each at its place in the files."""
    problems = error.problems or (Problem(_subject(error), error.message, error.hint),)
    placed, origins = [], []
    for problem in problems:
        own = point.place(problem.path) if problem.source in ("", POINT) else None
        place = own or file.where(problem)
        placed.append(attrs.evolve(problem, path=place))
        origins.append(None if not problem.source else _axis(own) if own else place)
    return Invalid(point, tuple(placed), tuple(origins))


def _subject(error: ConfigError) -> str:
    return "model" if error.code == "model_not_found" else ""


@functools.cache
def _axis(place: str) -> str | None:
    """The axis whose value stands at a place; None for a point listed by hand."""
    found = re.match(r"(.*?: (?:axes\.|zip(?:\[\d+\])?\.)[^\[]*)", place)
    return found[1] if found else None


def refuse_mistakes(file: StudyFile, tried: Sequence[Point], invalid: Sequence[Invalid]) -> None:
    """Raise ConfigError where no point runs, or where a setting is wrong for all points that have it.

    A typo in one value costs the points with that value; one in the name of an axis would silently cost the axis.
    """
    users: Counter[str | None] = Counter(axis for point in tried for axis in {_axis(w) for w in point.where.values()})
    failing: Counter[str] = Counter()
    told: dict[str, dict[str, Problem]] = {}
    for one in invalid:
        mistakes = [(at, problem) for at, problem in zip(one.origins, one.problems, strict=True) if at is not None]
        failing.update({at for at, _ in mistakes})
        for at, problem in mistakes:
            told.setdefault(at, {}).setdefault(str(problem), problem)
    wrong = [at for at, count in failing.items() if count == users.get(at, len(tried))]
    if wrong:
        problems = tuple(problem for at in wrong for problem in _once(at, list(told[at].values())))
        raise ConfigError(f"invalid study {file.name!r}", problems=problems)
    if len(invalid) == len(tried):
        raise ConfigError(f"no point of {file.name!r} can run", problems=tuple(_commonest(invalid)))


def _once(at: str, problems: Sequence[Problem]) -> Iterator[Problem]:
    """What is wrong with several values alike is in the name of their axis, and is told once, without their places."""
    alike: dict[Problem, list[Problem]] = {}
    for problem in problems:
        of_a_value = re.fullmatch(r"\[\d+\]", problem.path[len(at) :])
        alike.setdefault(attrs.evolve(problem, path=at) if of_a_value else problem, []).append(problem)
    for common, ones in alike.items():
        yield ones[0] if len(ones) == 1 else common


def _commonest(invalid: Sequence[Invalid]) -> Iterator[Problem]:
    counts = Counter(attrs.evolve(problem, source="") for one in invalid for problem in one.problems)
    for problem, count in counts.most_common(_MOST_TOLD):
        points = f"{count} point" + ("" if count == 1 else "s")
        yield attrs.evolve(problem, message=f"{problem.message} [{points}]")
    if len(counts) > _MOST_TOLD:
        yield Problem("", f"and {len(counts) - _MOST_TOLD} further reasons")


#: Problems told at once.
_MOST_TOLD = 10


def refuse_mistaken_entries(file: StudyFile, registry: Registry) -> None:
    """Raise ConfigError for an entry of `exclude`, or `reference`, with what is no setting or no value of one."""
    _refuse(
        file,
        (
            attrs.evolve(problem, path=f"{entry.where}.{problem.path}")
            for entry in (*file.exclude, *([file.reference] if file.reference else []))
            for path, value in wanted(entry).items()
            if (problem := setting_problem(path, value, registry, several=True)) is not None
        ),
    )


def refuse_unused_mistakes(
    file: StudyFile, declared: Iterable[Point], tried: Iterable[Point], registry: Registry
) -> None:
    """Raise ConfigError for a mistake in what points declare and none that was tried sets.

    It is of a backend that none of them has, or they are all left out.
    """
    used = {path for point in tried for path in point.values}
    unused: dict[str, dict[str, Any]] = {}
    for point in declared:
        for path, value in point.values.items():
            if path not in used:
                unused.setdefault(path, {})[point.where[path]] = value
    _refuse(
        file,
        (problem for path, values in unused.items() for problem in _declared_problems(path, values, registry)),
    )


def _declared_problems(path: str, values: Mapping[str, Any], registry: Registry) -> Iterator[Problem]:
    """Of a path and its values by their places: an unknown path is told once."""
    if (problem := setting_problem(path, {}, registry)) is not None:
        yield attrs.evolve(problem, path=re.sub(r"\[\d+\]$", "", next(iter(values))))
        return
    for where, value in values.items():
        if (problem := setting_problem(path, value, registry)) is not None:
            yield attrs.evolve(problem, path=where)


def _refuse(file: StudyFile, problems: Iterable[Problem]) -> None:
    found = tuple(dict.fromkeys(problems))
    if found:
        raise ConfigError(f"invalid study {file.name!r}", problems=found[:_MOST_TOLD])


def setting_problem(path: str, value: Any, registry: Registry, *, several: bool = False) -> Problem | None:
    """What is wrong with a setting by its dotted path, whatever the other settings are; at the path's first wrong step.

    Args:
        value: a section is not looked at.
        several: the value may also be a list of values.

    Raises BrokenPlugin where the path leads into a section whose class cannot be used.
    """
    steps = path.split(".")
    kinds = _at_the_top(steps[0], registry)
    if not kinds:
        return _unknown(steps[0], registry)
    for number, step in enumerate(steps[1:], 1):
        known = dict.fromkeys(name for kind in _members(kinds) if attrs.has(kind) for name in _fields(kind))
        kinds = [inner for kind in _members(kinds) for inner in _within(kind, step)]
        if not kinds:
            near = nearest(step, tuple(known))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}" if known else ""
            return Problem(".".join(steps[: number + 1]), "unknown setting", hint)
    return None if isinstance(value, Mapping) else _value_problem(path, value, kinds, several)


def _value_problem(path: str, value: Any, kinds: Sequence[Any], several: bool) -> Problem | None:
    if isinstance(value, float) and value.is_integer():  # entries of `exclude` match what is equal
        kinds = [*kinds, float] if int in _members(kinds) else kinds
    kind: Any = typing.Union[tuple(kinds)]  # noqa: UP007 - of a list that is known at run time
    _, problems = structure_all(kind, value, path)
    if problems and several and isinstance(value, (list, tuple)):
        problems = tuple(problem for one in value for problem in structure_all(kind, one, path)[1])
    return problems[0] if problems else None


def _at_the_top(name: str, registry: Registry) -> list[Any]:
    """Types that a setting of this name may have; none where there is no such setting."""
    if name in ("workload", "quality"):
        return list(_sections("evaluator" if name == "quality" else "workload", registry))
    if name in FIELDS:
        return [field.type for field in settings(Experiment) if field.name == name]
    kinds: tuple[Kind, ...] = ("backend", "meter")
    sections = [config_class(registry, kind, name) for kind in kinds if name in registry.names(kind)]
    return [cls for cls in sections if cls is not None]


def _sections(kind: Kind, registry: Registry) -> Iterator[Any]:
    for name in registry.names(kind):
        try:
            yield config_class(registry, kind, name)
        except BrokenPlugin:  # asking for it says so; here the others will do
            continue


def _members(kinds: Iterable[Any]) -> Iterator[Any]:
    for kind in kinds:
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            yield from _members(typing.get_args(kind))
        else:
            yield kind


def _fields(cls: Any) -> dict[str, Any]:
    return {field.name: field.type for field in settings(cls)}


def _within(kind: Any, step: str) -> list[Any]:
    """The type of what has this name in a value of a type; none where nothing can."""
    if kind is Any or kind is object:
        return [Any]
    if attrs.has(kind):
        return [_fields(kind)[step]] if step in _fields(kind) else []
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [(typing.get_args(kind) or (str, Any))[1]]
    return []


def _unknown(name: str, registry: Registry) -> Problem:
    """A name at the top that is no setting; a plugin without settings is no section either."""
    backends = registry.names("backend")
    if name in (*backends, *registry.names("meter")):
        return Problem(name, "is a plugin that has no settings", "remove it")
    return unknown_name(name, "setting", backends, registry, "name settings, such as backend or load.batch_size")
