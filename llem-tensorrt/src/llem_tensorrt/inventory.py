"""The documented arguments of TensorRT-LLM, and what may stand in `extra` and `extra_sampling`.

`parameters.json` lists them, so that a configuration is checked without the library. An argument is reached in one way:
as a field of `TensorRTOptions`, through `extra`, by what llem itself sets from the experiment or another field ("ours")
or not at all ("refused"); `hint` says what to write, or why.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Literal

import attrs

from llem.errors import nearest
from llem_tensorrt.config import OURS, SAMPLING, TensorRTOptions

__all__ = ["Table", "documented", "reach", "refused_extras", "typed_names", "versions"]

Table = Literal["llm", "sampling"]
OPTION: Mapping[str, str] = {"llm": "extra", "sampling": "extra_sampling"}


@functools.cache
def _inventory() -> Mapping[str, Any]:
    text = resources.files("llem_tensorrt").joinpath("parameters.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def versions() -> str:
    """The versions that the inventory holds for, as a requirement: ">=1.0,<1.3"."""
    return str(_inventory()["versions"])


def documented(table: Table) -> Mapping[str, Mapping[str, Any]]:
    """Arguments of LLM ("llm") or SamplingParams ("sampling"): name to type, default, since, until, reach, hint."""
    return _inventory()[table]  # type: ignore[no-any-return]


def typed_names(table: Table) -> frozenset[str]:
    """Fields of TensorRTOptions that become arguments of the same name."""
    names = {field.name for field in attrs.fields(TensorRTOptions)} - OURS
    return frozenset(names & SAMPLING if table == "sampling" else names - SAMPLING)


def reach(table: Table, name: str) -> Literal["typed", "extra", "ours", "refused"]:
    """How a documented argument is reached. Raises KeyError for one that is not documented."""
    if name in typed_names(table):
        return "typed"
    return documented(table)[name].get("reach", "extra")  # type: ignore[no-any-return]


def refused_extras(options: TensorRTOptions) -> Iterator[tuple[str, str]]:
    """Names in `extra` and `extra_sampling` that must not stand there: path and what would be right."""
    for table, given in (("llm", options.extra), ("sampling", options.extra_sampling)):
        for name in given or {}:
            message = _wrong(table, name)  # type: ignore[arg-type]  # the two tables
            if message:
                yield f"tensorrt.{OPTION[table]}.{name}", message


def _wrong(table: Table, name: str) -> str | None:
    what = "LLM" if table == "llm" else "SamplingParams"
    other: Table = "sampling" if table == "llm" else "llm"
    known = documented(table)
    if name in known:
        kind = reach(table, name)
        if kind == "typed":
            return f"has a field of its own; write `tensorrt.{name}`"
        return None if kind == "extra" else f"is not to be set here: {known[name]['hint']}"
    if name in documented(other):
        place = f"tensorrt.{OPTION[other]}.{name}" if reach(other, name) == "extra" else f"tensorrt.{name}"
        hint = documented(other)[name].get("hint") or f"write `{place}`"
        return f"is no argument of {what}; {hint}"
    near = nearest(name, known)
    guess = f"did you mean {near!r}?" if near else f"TensorRT-LLM {versions()} documents none of that name"
    return f"is no argument of {what}; {guess}"
