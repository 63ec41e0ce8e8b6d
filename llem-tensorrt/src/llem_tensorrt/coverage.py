"""How each documented parameter of TensorRT-LLM is reached; see `llem.backends.coverage`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llem.backends.coverage import Coverage, Parameter, Reach
from llem_tensorrt.inventory import OPTION, Table, documented, reach, versions

__all__ = ["parameters"]

OWNERS: Mapping[Table, str] = {"llm": "LLM", "sampling": "SamplingParams"}
#: Refused, not for want of a value but since the measure rests on it.
FIXED = ("n", "tokenizer")


def parameters() -> Coverage:
    """Every argument of LLM and SamplingParams in the inventory."""
    return Coverage(f"tensorrt-llm {versions()}", tuple(one for table in OWNERS for one in _of(table)))


def _of(table: Table) -> Iterator[Parameter]:
    for name, entry in documented(table).items():
        kind, note = reach(table, name), entry.get("hint", "")
        found: Reach
        if kind == "typed":
            found, note = "typed", f"`tensorrt.{name}`"
        elif kind == "extra":
            found, note = "extra", f"`tensorrt.{OPTION[table]}`"
        elif kind == "ours":
            found = "derived" if "`" in note or note.startswith("write ") else "fixed"
        else:
            found = "fixed" if name in FIXED else "refused"
        yield Parameter(OWNERS[table], name, found, note)
