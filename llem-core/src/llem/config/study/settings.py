"""Which settings there are: for the places of a study file that name one and need not set it. Pure.

What a point sets is checked when the point is resolved. Entries of `exclude` set nothing, and an axis may be of a
backend that no point uses: without a look here a typo in them would go unseen.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.converter import settings, structure_all
from llem.config.load import FIELDS, unknown_name
from llem.config.models import Experiment
from llem.config.sections import config_class
from llem.config.study.axes import Point
from llem.config.study.exclude import wanted
from llem.config.study.file import StudyFile
from llem.errors import BrokenPlugin, ConfigError, Problem, nearest
from llem.plugins.registry import Kind, Registry

__all__ = ["refuse_mistaken_exclusions", "refuse_unused_mistakes", "setting_problem"]

#: Problems told at once.
_MOST_TOLD = 10


def refuse_mistaken_exclusions(file: StudyFile, registry: Registry) -> None:
    """Raise ConfigError for an entry of `exclude` with what is no setting, or with a value that none can have."""
    _refuse(
        file,
        (
            attrs.evolve(problem, path=f"{entry.where}.{problem.path}")
            for entry in file.exclude
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
