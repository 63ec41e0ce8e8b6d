"""Settings that others bring where nobody says otherwise, beside what is said; and the kind of a section then. Pure.

A section such as `load` or `workload` has settings of its own for each `kind`. What is said of it may be of another
kind than what is brought, by its `kind` or by settings that only another kind has.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from llem.config.converter import kinds_of, settings
from llem.config.layers import Layer, Leaf, Tree, plain
from llem.config.models import Experiment, config_class
from llem.config.words import choices
from llem.errors import BrokenPlugin, Problem
from llem.plugins.registry import Registry

__all__ = ["of_another_kind", "open_settings"]

#: Of each kind of a section, the settings that it has.
Owners = Mapping[str, Collection[str]]


def open_settings(source: str, brought: Mapping[str, Any], said: Tree, registry: Registry) -> Iterator[Layer]:
    """Of the settings that are brought, those that nothing is said of, as layers that say nothing else.

    What is said of a section lies over what is brought. If it states another `kind`, or has settings that are only of
    another kind, that kind holds, and what is brought of this section falls away. Its `kind` then has the source
    "derived from PATH", where it was not stated.

    Args:
        source: of the settings that are brought.
        brought: fields of an experiment, as nested mappings.
        said: what others say, all layers of it.
    """
    left: dict[str, Any] = {}
    for name, value in brought.items():
        below = said.get(name)
        if name not in said:
            left[name] = value
            continue
        section = _section(below)
        if section is None or not isinstance(value, Mapping):
            continue
        kind = value.get("kind")
        if kind is not None and "kind" not in section:
            owners = _owners(name, registry)
            if (held := _kind(section, kind, owners)) != kind:
                by = next(key for key in section if key in owners[held] and key not in owners.get(kind, ()))
                yield Layer(f"derived from {name}.{by}", {name: {"kind": held}})
                continue
        if rest := _unsaid(value, section):
            left[name] = rest
    if left:
        yield Layer(source, left)


def of_another_kind(problem: Problem, kind: str, registry: Registry) -> Problem:
    """The problem of a workload's setting that only other kinds have, where nobody said which kind is meant."""
    name = problem.path.removeprefix("workload.")
    having = [other for other, fields in _workloads(registry) if name in fields]
    if not having or kind in having:
        return problem
    message = f"is a setting of kind {choices(tuple(having))}, and no kind is set, which means {kind!r}"
    return attrs.evolve(problem, message=message, hint=f"set `workload.kind={having[0]}` too")


def _section(below: Any) -> Tree | None:
    """What is said of a section, as a tree; None where it is said to be something else."""
    if isinstance(below, Leaf):
        return {} if isinstance(below.value, Mapping) and not below.value else None
    return below if isinstance(below, dict) else None


def _unsaid(brought: Mapping[str, Any], said: Tree) -> dict[str, Any]:
    """What is brought of a section and nothing is said of; nothing where another kind is stated."""
    if "kind" in said and "kind" in brought and plain(said["kind"]) != brought["kind"]:
        return {}
    left: dict[str, Any] = {}
    for key, value in brought.items():
        if key not in said:
            left[key] = value
            continue
        section = _section(said[key])
        if isinstance(value, Mapping) and section is not None and (rest := _unsaid(value, section)):
            left[key] = rest
    return left


def _kind(said: Tree, brought: str, owners: Owners) -> str:
    """The kind of a section whose kind is not stated: the one that is brought, unless what is said is of another one.

    Names that no kind has, and those that no one kind has together, are told as mistakes later.
    """
    known = {name for name in said if any(name in fields for fields in owners.values())}
    fitting = [kind for kind, fields in owners.items() if known <= set(fields)]
    return fitting[0] if len(fitting) == 1 else brought


def _owners(name: str, registry: Registry) -> Owners:
    """The kinds of a section at the top of an experiment."""
    if name == "workload":
        return dict(_workloads(registry))
    field = next((field for field in settings(Experiment) if field.name == name), None)
    classes = typing.get_args(field.type) if field is not None else ()
    sections = [cls for cls in classes if attrs.has(cls)]
    return {kind: [one.name for one in settings(cls)] for cls in sections for kind in kinds_of(cls)}


def _workloads(registry: Registry) -> Iterator[tuple[str, Collection[str]]]:
    for name in registry.names("workload"):
        with contextlib.suppress(BrokenPlugin):  # whoever asks for this one is told
            yield name, [one.name for one in settings(config_class(registry, "workload", name))]
