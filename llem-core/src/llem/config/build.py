"""From what is said of an experiment to the object, with every fault: what several share is read once."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.config.converter import default_of, read_field, settings, structure_all, unstructure
from llem.config.guesses import meant
from llem.config.kinds import of_another_kind
from llem.config.layers import leaves
from llem.config.models import DEFAULT_METERS, DEFAULT_WORKLOAD, Experiment, config_class
from llem.config.objects import made
from llem.config.said import MOST, Said
from llem.config.scalars import Faults
from llem.config.words import got, renamed
from llem.errors import Problem, nearest
from llem.plugins.names import KNOWN_PACKAGES
from llem.plugins.registry import Registry

__all__ = ["FIELDS", "Builder", "Built", "meter_names", "unexpected", "unknown_name"]

#: What a user may write at the top. Sections of plugins come beside these.
FIELDS = tuple(f.name for f in attrs.fields(Experiment) if f.name not in ("options", "meter_options"))
#: Fields of which plugins bring the classes, those that stand last in a document, and all others.
_OF_PLUGINS = ("workload", "quality", "options", "meter_options")
_LAST = ("options", "meter_options")
_OWN = tuple(name for name in FIELDS if name not in _OF_PLUGINS)


@attrs.frozen
class Built:
    """What came of reading a part: its value, what is wrong, and the dotted path of each leaf with its source."""

    value: Any
    problems: tuple[Problem, ...] = ()
    sources: Mapping[str, str] = attrs.field(factory=dict)


class Builder:
    """Builds many experiments; see `Said` for what they share."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        remember = functools.lru_cache(maxsize=MOST)
        self._field, self._section = remember(self._read_field), remember(self._read_section)
        self._workload, self._quality = remember(self._read_workload), remember(self._read_quality)
        self._meters, self._unexpected = remember(self._named_meters), remember(self._found_unexpected)
        self._meter_options = remember(self._read_meter_options)
        self._alike: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._whole: dict[tuple[int, ...], Mapping[str, str]] = {}

    def __call__(self, found: Mapping[Any, Said]) -> Built:
        """The experiment, or None, and every problem. The backend must be said, if only wrongly."""
        named = found["backend"].values
        backend = named if isinstance(named, str) else None
        meters = self._meters(found.get("meters"))
        options = self._section("backend", backend, found.get(backend)) if backend else Built(None)
        of_meters = self._meter_options(meters or (), tuple(found.get(name) for name in meters or ()))
        of_plugins = {
            "options": options,
            "meter_options": of_meters,
            "workload": self._workload(found.get("workload")),
            "quality": self._quality(found.get("quality")),
        }
        problems = [problem for one in of_plugins.values() for problem in one.problems]
        problems += self._unexpected(tuple(map(str, found)), backend, meters)
        parts = {name: self._field(name, found.get(name)) for name in _OWN}
        read = {**parts, **{name: Built(one.value) for name, one in of_plugins.items()}}  # their problems are told
        experiment = None
        try:
            experiment = made(read, Experiment, _value)
        except Faults as faults:
            problems += faults.problems
        if meters is not None and len(set(meters)) < len(meters):
            problems.append(Problem("meters", "names a meter twice"))
        if problems:
            return Built(experiment, tuple(problems))
        parts |= of_plugins
        return Built(experiment, (), self._together([parts[name].sources for name in (*FIELDS, *_LAST)]))

    def _together(self, parts: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        """Of all parts. Experiments whose values come from the same places share one mapping."""
        key = tuple(map(id, parts))  # the parts are kept in `_alike`
        if key not in self._whole:
            self._whole[key] = {path: source for part in parts for path, source in part.items()}
        return self._whole[key]

    def _built(self, name: str, value: Any, problems: Iterable[Problem], own: Said | None) -> Built:
        """With the sources of the value's leaves as they are in an experiment's document, under a name."""
        known = {} if own is None else own.leaves
        paths = [path for path, _ in leaves({name: unstructure(value)})]
        told = {path: known[path].source if path in known else "default" for path in paths}
        return Built(value, tuple(problems), self._shared(told))

    def _shared(self, sources: Mapping[str, str]) -> Mapping[str, str]:
        return self._alike.setdefault(tuple(sources.items()), sources)

    def _read_field(self, name: str, own: Said | None) -> Built:
        """Of a field that is no plugin's; with all defaults where nothing is said of it."""
        field = _FIELD_OF[name]
        if own is None:
            return self._built(name, default_of(field), (), None)
        try:
            return self._built(name, read_field(field, own.values), (), own)
        except Faults as faults:
            return Built(None, faults.problems)

    def _named_meters(self, own: Said | None) -> tuple[str, ...] | None:
        return meter_names(None if own is None else own.values, self._registry)

    def _read_section(self, kind: Any, name: str, own: Said | None) -> Built:
        """A plugin's section as its config class; all defaults where it is not there."""
        raw = None if own is None else own.values
        cls = config_class(self._registry, kind, name)
        if cls is None:
            unused = Problem(name, f"{kind} {name!r} has no settings", "remove this section")
            return Built(None, (unused,) if raw else (), self._shared({}))
        section, problems = structure_all(cls, {} if raw is None else raw, name)
        return Built(None, problems) if section is None else self._built(name, section, problems, own)

    def _read_meter_options(self, names: Sequence[str], own: Sequence[Said | None]) -> Built:
        found = [self._section("meter", name, one) for name, one in zip(names, own, strict=True)]
        options = {name: one.value for name, one in zip(names, found, strict=True) if one.value is not None}
        sources = {path: source for one in found for path, source in one.sources.items()}
        return Built(options, tuple(problem for one in found for problem in one.problems), self._shared(sources))

    def _read_workload(self, own: Said | None) -> Built:
        raw = {} if own is None or own.values is None else own.values
        problems: list[Problem] = []
        name = _named(raw, "workload", "kind", "{kind: synthetic}", problems, DEFAULT_WORKLOAD)
        if name is None:
            return Built(None, tuple(problems))
        cls = config_class(self._registry, "workload", name)
        section, more = structure_all(cls, {"kind": name, **raw}, "workload")
        told = [one if "kind" in raw else of_another_kind(one, name, self._registry) for one in more]
        return Built(None, tuple(told)) if section is None else self._built("workload", section, told, own)

    def _read_quality(self, own: Said | None) -> Built:
        if own is None or own.values is None:
            return self._built("quality", None, (), own)
        problems: list[Problem] = []
        known = ", ".join(self._registry.names("evaluator"))
        example = "{evaluator: NAME, tasks: [TASK]}"
        name = _named(own.values, "quality", "evaluator", example, problems, known=known)
        if name is None:
            return Built(None, tuple(problems))
        section, more = structure_all(config_class(self._registry, "evaluator", name), own.values, "quality")
        return Built(None, more) if section is None else self._built("quality", section, more, own)

    def _found_unexpected(
        self, names: Sequence[Any], backend: str | None, meters: Sequence[str] | None
    ) -> tuple[Problem, ...]:
        return tuple(unexpected(names, backend, meters, self._registry))


def _value(field: attrs.Attribute[Any], part: Built) -> Any:
    if part.problems:
        raise Faults(*part.problems)
    return part.value


_FIELD_OF = {field.name: field for field in settings(Experiment)}


def meter_names(asked: Any, registry: Registry) -> tuple[str, ...] | None:
    """The meters that may have a section; None where `meters` is malformed, which is reported with the other fields."""
    if asked is None:
        return tuple(name for name in DEFAULT_METERS if name in registry.names("meter"))
    wellformed = isinstance(asked, (list, tuple)) and all(isinstance(name, str) for name in asked)
    return tuple(asked) if wellformed else None


def unexpected(
    names: Iterable[Any], backend: str | None, meters: Iterable[str] | None, registry: Registry
) -> list[Problem]:
    """Top-level names that are no field, and sections of plugins that this experiment does not use."""
    backends, known_meters = registry.names("backend"), registry.names("meter")
    problems = []
    for key in names:
        if key in FIELDS or key == backend or (meters is not None and key in meters):
            continue
        if key in backends:
            message = f"is the section of backend {key!r}, but the backend is {backend!r}"
            problems.append(Problem(key, message, f"remove it, or set `backend: {key}`"))
        elif key in known_meters:
            if meters is not None:
                message = f"is the section of meter {key!r}, which is not in `meters`"
                problems.append(Problem(key, message, f"remove it, or set `meters: [{', '.join((*meters, key))}]`"))
        else:
            known = ", ".join((*FIELDS, *backends, *known_meters))
            problems.append(unknown_name(str(key), "field", (backend,) if backend else (), registry, f"known: {known}"))
    return problems


def unknown_name(name: str, what: str, backends: Iterable[str], registry: Registry, otherwise: str) -> Problem:
    """What to tell of a name at the top that is neither a setting nor the section of an installed plugin.

    Args:
        what: "field" or "setting".
        backends: those among whose settings it may be meant.
        otherwise: the hint where no known name is near.
    """
    if name in KNOWN_PACKAGES:
        hint = f"remove it, or pip install {KNOWN_PACKAGES[name]}"
        return Problem(name, "is the section of a plugin that is not installed", hint)
    backends = tuple(backends)
    known = (*FIELDS, *registry.names("backend"), *registry.names("meter"))
    guess = meant(name, registry, backends)
    near = nearest(name, known)
    if guess is not None and (near is None or guess.surely(name)):
        near = guess.path
    advice = renamed(name, known) or (f"did you mean {near!r}?" if near else otherwise)
    return Problem(name, f"unknown {what}", advice)


def _named(
    raw: Any, section: str, key: str, example: str, problems: list[Problem], default: str | None = None, known: str = ""
) -> str | None:
    """The plugin that a section names by one of its keys; None where that is reported."""
    if not isinstance(raw, Mapping):
        problems.append(Problem(section, f"must be a section, got {got(raw)}", f"such as {example}"))
        return None
    name = raw.get(key, default)
    if name is None:
        problems.append(Problem(f"{section}.{key}", "is missing", f"installed: {known or 'none'}"))
    elif not isinstance(name, str):
        problems.append(Problem(f"{section}.{key}", f"must be text, got {got(name)}"))
    else:
        return name
    return None
