"""The paths that `--set` takes, and the values of settings that have a list of them, for a shell's TAB.

Only the section that is being written is read: the settings of an engine come from its plugin's `config` module, which
imports no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llem.config.load import COMMAND
from llem.config.models import Experiment, config_class
from llem.config.schema import json_schema, section_schema
from llem.plugins.registry import Kind, registry

__all__ = ["completions"]

#: Fields of Experiment that stand for the sections of plugins, which are written under the plugins' names.
STANDING_FOR = ("options", "meter_options")
#: Sections of which each kind is a plugin's.
OF_PLUGINS = ("workload", "quality")


def completions(incomplete: str) -> list[str]:
    """What may follow: sections as `vllm.`, settings as `dtype=`, and after = the values as `dtype=bfloat16`."""
    path, sign, _ = incomplete.partition("=")
    if sign:
        return [f"{path}={value}" for value in dict.fromkeys(_values(path))]
    *steps, _ = path.split(".")
    before = "".join(f"{step}." for step in steps)
    return [f"{before}{name}" for name in _names(steps)]


def _names(steps: Sequence[str]) -> Iterator[str]:
    found: dict[str, None] = {}
    for schema in _at(steps):
        for name, one in schema.get("properties", {}).items():
            section = any("properties" in part for part in _parts(one)) or (not steps and name in OF_PLUGINS)
            found[f"{name}." if section else f"{name}="] = None
    if not steps:
        found |= {f"{name}.": None for name in _sections()}
    yield from found


def _values(path: str) -> Iterator[str]:
    *steps, name = path.split(".")
    if path == "backend":
        yield from (name for name in registry().names("backend") if name != COMMAND)
    if path == "model":
        from llem.models.shapes import SHAPES

        yield from (f"shape:{shape}" for shape in SHAPES)
    for schema in _at(steps):
        for part in _parts(schema.get("properties", {}).get(name, {})):
            values = [*part.get("enum", ()), *([part["const"]] if "const" in part else [])]
            values += [True, False] if part.get("type") == "boolean" else []
            texts = (value if isinstance(value, str) else str(value).lower() for value in values)
            yield from (text for text in texts if (path, text) != ("load.kind", COMMAND))  # `llem meter` makes these


def _sections() -> dict[str, Kind]:
    """The kind of plugin of each section."""
    kinds: tuple[Kind, ...] = ("backend", "meter")
    return {one.name: kind for kind in kinds for one, _ in registry().entries(kind) if one.config}


def _at(steps: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The schemas of a section; several where it is of one kind or another."""
    if not steps:
        top = section_schema(Experiment)
        return [{"properties": {name: one for name, one in top["properties"].items() if name not in STANDING_FOR}}]
    first, *rest = steps
    if (kind := _sections().get(first)) is not None:
        cls = config_class(registry(), kind, first)
        found: list[Mapping[str, Any]] = [] if cls is None else [section_schema(cls)]
    elif first in OF_PLUGINS:
        found = list(_parts(json_schema(registry())["properties"][first]))
    else:
        found = list(_parts(section_schema(Experiment)["properties"].get(first, {})))
    for step in rest:
        found = [part for schema in found for part in _parts(schema.get("properties", {}).get(step, {}))]
    return found


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema, or each of those that it may be."""
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if not alternatives:
        yield schema
    for one in alternatives or ():
        yield from _parts(one)
