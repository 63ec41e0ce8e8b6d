"""JSON Schema and reference tables, read off the models, so that they cannot say anything else than the loader does."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.config.converter import default_kind, default_of, kinds_of, settings, unstructure
from llem.config.fields import Bounds
from llem.config.models import DEFAULT_METERS, DEFAULT_WORKLOAD, Experiment, config_class
from llem.config.words import quoted
from llem.errors import BrokenPlugin
from llem.plugins.registry import Kind, Registry

__all__ = ["json_schema", "reference_table", "section_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def json_schema(registry: Registry, report: Callable[[str], None] | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of an experiment with the plugins that are installed.

    Slightly wider than the loader: JSON Schema takes 1.0 for an integer, and rules over several fields are left out.

    Args:
        report: is told of each plugin whose config class cannot be used; it is left out, and `$comment` says so too.
    """
    broken: list[str] = []
    sections = {kind: dict(_usable(registry, kind, broken)) for kind in ("backend", "meter", "workload", "evaluator")}
    for message in broken:
        if report is not None:
            report(message)
    schema = section_schema(Experiment)
    properties = schema["properties"]
    del properties["options"], properties["meter_options"]
    schema.pop("required", None)  # `backend`: where one is installed, it need not be named
    properties["backend"]["enum"] = list(registry.names("backend"))
    properties["meters"]["anyOf"][0]["items"]["enum"] = list(registry.names("meter"))
    properties["workload"] |= _workloads(sections["workload"])
    properties["quality"] |= _evaluators(sections["evaluator"])
    dependent = {}
    for kind in ("meter", "backend"):
        for name, cls in sections[kind].items():
            properties[name] = section_schema(cls)
            dependent[name] = _backend_used(name) if kind == "backend" else _meter_used(name)
    schema |= {"dependentSchemas": dependent} if dependent else {}
    comment = {"$comment": "left out: " + "; ".join(broken)} if broken else {}
    return {"$schema": DIALECT, "title": "llem experiment", **comment, **schema}


def _usable(registry: Registry, kind: Kind, broken: list[str]) -> Iterator[tuple[str, Any]]:
    for name in registry.names(kind):
        try:
            cls = config_class(registry, kind, name)
        except BrokenPlugin as error:
            broken.append(error.message)
            continue
        if cls is not None:
            yield name, cls


def _workloads(classes: Mapping[str, Any]) -> dict[str, Any]:
    """One schema per kind; `kind` may be left out for the default one alone."""
    options: list[dict[str, Any]] = [{"type": "null"}]
    for name, cls in classes.items():
        schema = section_schema(cls)
        if name != DEFAULT_WORKLOAD:
            schema["required"] = sorted({"kind", *schema.get("required", ())})
        options.append(schema)
    return {"anyOf": options}


def _evaluators(classes: Mapping[str, Any]) -> dict[str, Any]:
    """One schema per evaluator, which the section names."""
    options: list[dict[str, Any]] = [{"type": "null"}]
    for name, cls in classes.items():
        schema = section_schema(cls)
        schema["properties"]["evaluator"] |= {"const": name}
        schema["required"] = sorted({"evaluator", *schema["required"]})
        options.append(schema)
    return {"anyOf": options}


def _backend_used(name: str) -> dict[str, Any]:
    """The section of a backend may stand only where that backend, or none, is named."""
    return {"properties": {"backend": {"const": name}}}


def _meter_used(name: str) -> dict[str, Any]:
    """The section of a meter may stand only where that meter is used, by name or by default."""
    named = {"type": "array", "contains": {"const": name}}
    if name in DEFAULT_METERS:
        return {"properties": {"meters": {"anyOf": [named, {"type": "null"}]}}}
    return {"properties": {"meters": named}, "required": ["meters"]}


def section_schema(cls: Any) -> dict[str, Any]:
    """JSON Schema of one class of settings."""
    fields = settings(cls)
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    return {
        "type": "object",
        "description": _first_line(cls),
        "properties": {field.name: _property(field) for field in fields},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _first_line(cls: Any) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def _property(field: attrs.Attribute[Any]) -> dict[str, Any]:
    schema = _type(field.type, default_kind(field))
    for bounds in _bounds(field.validator):
        _limit(schema, bounds)
    text = field.metadata.get("help", "")
    unit = field.metadata.get("unit", "")
    if text:
        schema["description"] = f"{text} Unit: {unit}." if unit else text
    default = default_of(field)
    if default is not attrs.NOTHING:
        schema["default"] = unstructure(default)
    return schema


def _type(kind: Any, default: str | None = None) -> dict[str, Any]:
    """Schema of a type; `default` is the `kind` that a section has when it names none."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if kind is Any or kind is None:
        return {}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_member(member, inner, default) for member in inner]}
    if origin is Literal:
        return {"const": inner[0]} if len(inner) == 1 else {"enum": list(inner)}
    if attrs.has(kind):
        return section_schema(kind)
    if issubclass(origin, Mapping):
        values = _type(inner[1]) if inner else {}
        return {"type": "object", "additionalProperties": values or True}
    if origin is tuple and inner and inner[-1] is not ...:
        return {"type": "array", "prefixItems": [_type(one) for one in inner], "minItems": len(inner), "items": False}
    return {"type": "array", "items": _type(inner[0]) if inner else {}}


def _member(member: Any, members: Sequence[Any], default: str | None) -> dict[str, Any]:
    """Where several sections are possible, `kind` decides between them, and must be there but for the default one."""
    schema = _type(member)
    kinds = kinds_of(member) if attrs.has(member) else ()
    if kinds and default not in kinds and sum(attrs.has(other) for other in members) > 1:
        schema["required"] = sorted({"kind", *schema.get("required", ())})
    return schema


def _bounds(validator: Any) -> Iterator[Bounds]:
    if isinstance(validator, Bounds):
        yield validator
    for inner in getattr(validator, "_validators", ()):  # of attrs.validators.and_, which a list of validators becomes
        yield from _bounds(inner)


def _limit(schema: dict[str, Any], bounds: Bounds) -> None:
    for part in (schema, *schema.get("anyOf", ())):
        if part.get("type") in ("integer", "number"):
            part |= {"minimum": bounds.low} if bounds.low is not None else {}
            part |= {"maximum": bounds.high} if bounds.high is not None else {}


def reference_table(cls: Any) -> str:
    """A Markdown table of a class's settings, those of sections within it included, for the documentation."""
    rows = ["| field | type | default | unit | meaning |", "|---|---|---|---|---|"]
    rows += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in _rows(cls, "")]
    return "\n".join(rows) + "\n"


def _rows(cls: Any, above: str, note: str = "") -> Iterator[tuple[str, ...]]:
    """Rows of a class; `note` stands before every meaning: the kind to which the settings belong."""
    for field in settings(cls):
        path = f"{above}{field.name}"
        if field.type is not None and attrs.has(field.type):
            yield from _rows(field.type, f"{path}.", note)
            continue
        if note and field.name == "kind":
            continue  # the row of the section itself names the kinds
        default = default_of(field)
        shown = "required" if default is attrs.NOTHING else f"`{_yaml(unstructure(default))}`"
        unit, text = field.metadata.get("unit", ""), field.metadata.get("help", "")
        limits = "".join(f", {bounds}" for bounds in _bounds(field.validator))
        yield f"`{path}`", _words(field.type) + limits, shown, unit, note + text
        for section in filter(attrs.has, typing.get_args(field.type)):
            kinds = kinds_of(section)
            yield from _rows(section, f"{path}.", f"With kind {quoted(kinds)}: " if kinds else note)


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _words(kind: Any) -> str:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(member) for member in inner)
    if origin is Literal:
        return quoted(inner)
    if attrs.has(kind):
        return f"section {quoted(kinds_of(kind)) or kind.__name__}"
    if kind in _SCALARS:
        return {"null": "null", "string": "text"}.get(_SCALARS[kind], _SCALARS[kind])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "section"
    if origin in (tuple, list):
        entries = [one for one in inner if one is not ...]
        return "list of " + ", ".join(_words(one) for one in entries) if entries else "list"
    return "any"
