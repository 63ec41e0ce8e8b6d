"""The built-in prompt set: varied English prompts written for llem, free to use like the rest of it."""

from __future__ import annotations

from importlib import resources
from typing import ClassVar, Literal

import attrs

from llem.config.fields import option
from llem.workloads.files import parse_prompts
from llem.workloads.prompts import PromptOptions, PromptSet, PromptWorkload

__all__ = ["BuiltinOptions", "BuiltinWorkload"]

FILE = "builtin_prompts.jsonl"


@attrs.frozen(kw_only=True)
class BuiltinOptions(PromptOptions):
    """Section `workload` with `kind: prompts`."""

    kind: Literal["prompts"] = option("prompts", help="The built-in prompt set.")


class BuiltinWorkload(PromptWorkload):
    """Questions, code, summaries, translations, sums and longer contexts, in a fixed mixed order.

    The set is part of llem's interface: it changes only with a major version, and its SHA-256 is in every result.
    """

    kind: ClassVar[str] = "prompts"
    options: BuiltinOptions

    def read(self) -> PromptSet:
        content = resources.files("llem.workloads").joinpath(FILE).read_bytes()
        return parse_prompts(FILE, content)
