"""JSON Schema of a study file, for editors; what the values of axes may be is left to the loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llem.config.schema import json_schema, section_schema
from llem.config.study.file import REFERENCE_PROCESSES
from llem.config.study.order import Limits, Order
from llem.plugins.registry import Registry

__all__ = ["study_schema"]

_NUMBERS: Mapping[str, Any] = {"type": "array", "items": {"type": "number"}}
_THREE: Mapping[str, Any] = {**_NUMBERS, "minItems": 3, "maxItems": 3, "description": "[start, stop, count]"}
_TWO: Mapping[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 1},
    "minItems": 2,
    "maxItems": 2,
    "description": "[low, high]",
}
_RANGES: Mapping[str, Any] = {"linear": _THREE, "log": _THREE, "powers_of_two": _TWO}


def study_schema(registry: Registry, report: Callable[[str], None] | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of a study with the plugins that are installed.

    Args:
        report: as of `llem.config.schema.json_schema`.
    """
    experiment = json_schema(registry, report)
    dialect = experiment.pop("$schema")
    experiment.pop("dependentSchemas", None)  # base holds sections of several backends: each is for its own points
    point = {"type": "object", "description": "Paths of settings, or sections, with their values."}
    values = {"$ref": "#/$defs/values"}
    return {
        "$schema": dialect,
        "title": "llem study",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Names the folder of the results."},
            "includes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Files to include, named relative to this one. This file's settings override theirs.",
            },
            "base": {
                "anyOf": [experiment, {"type": "string", "description": "A file that holds it."}],
                "description": "Settings of every experiment.",
            },
            "axes": {"$ref": "#/$defs/axes"},
            "zip": {
                "anyOf": [_columns(values), {"type": "array", "items": _columns(values)}],
                "description": "Axes that vary together, in one group or several.",
            },
            "experiments": {"type": "array", "items": point, "description": "Points by hand, beside those of axes."},
            "exclude": {
                "type": "array",
                "items": {**point, "minProperties": 1},
                "description": "llem leaves out points that match an entry. A list matches any of its values.",
            },
            "reference": {
                "anyOf": [
                    {
                        **point,
                        "minProperties": 1,
                        "properties": {"processes": {"type": "integer", "minimum": REFERENCE_PROCESSES}},
                    },
                    {"type": "null"},
                ],
                "description": "The values of one point, whose experiment several engine processes measure from the "
                "beginning of the study to its end: `processes` of them, 3 by default.",
            },
            "trials": {"type": "integer", "minimum": 1, "description": "Trials of each experiment, at least."},
            "order": section_schema(Order),
            "limits": section_schema(Limits),
            "parallel": {"type": "integer", "minimum": 1, "description": "Workers at once, each on its own GPUs."},
        },
        "additionalProperties": False,
        "$defs": {
            "axes": {
                "type": "object",
                "additionalProperties": {"anyOf": [values, {"$ref": "#/$defs/conditional"}]},
                "description": "Paths of settings with their values. Every combination is a point.",
            },
            "values": {"anyOf": [{"type": "array", "minItems": 1}, *_ranges()]},
            "conditional": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"anyOf": [{"$ref": "#/$defs/axes"}, {"type": "null"}]},
                "description": "Values, each with further axes that belong to this value only.",
            },
        },
    }


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _ranges() -> list[dict[str, Any]]:
    return [
        {"type": "object", "properties": {name: ends}, "required": [name], "additionalProperties": False}
        for name, ends in _RANGES.items()
    ]
