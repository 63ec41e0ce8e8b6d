"""How each parameter of an engine is reached from a configuration: what the coverage pages are made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import attrs

__all__ = ["REACHES", "Coverage", "Inventory", "Parameter", "Reach", "reached_share"]

Reach = Literal["typed", "derived", "extra", "fixed", "refused", "gone"]

#: What each kind of reach means.
REACHES: Mapping[Reach, str] = {
    "typed": "a documented, typed setting of the backend's section",
    "derived": "set through another setting, which the note names",
    "extra": "accepted in a section of further parameters, which refuses names the engine does not have",
    "fixed": "decided by llem, since the measurement rests on it; the note says how",
    "refused": "cannot be given: no value that a file can hold, or a mode llem does not measure",
    "gone": "a name that the engine still takes and ignores, or has replaced by another in the list; refused with that",
}


@attrs.frozen
class Parameter:
    """One parameter of an engine.

    Attributes:
        owner: the engine's class or function that takes it, such as "EngineArgs".
        name: as the engine spells it.
        reach: see `REACHES`.
        note: the setting that reaches it, or why it is fixed or refused.
    """

    owner: str
    name: str
    reach: Reach
    note: str = ""


@attrs.frozen
class Coverage:
    """What a backend tells about its engine's parameters.

    Attributes:
        library: name and version of what the list was read from, such as "vllm 0.20.0".
        parameters: all of them, those of one owner together.
    """

    library: str
    parameters: tuple[Parameter, ...]

    def owners(self) -> tuple[str, ...]:
        """In order of appearance."""
        return tuple(dict.fromkeys(parameter.owner for parameter in self.parameters))


def reached_share(parameters: Iterable[Parameter]) -> float:
    """Share of the parameters a user can set (typed, derived or extra), of those that are the user's to set.

    What llem fixes is in no denominator: it is a rule of the measurement and not a gap. Nor is what is gone, since it
    would do nothing. What is refused is.
    """
    counted = [parameter for parameter in parameters if parameter.reach not in ("fixed", "gone")]
    if not counted:
        return 1.0
    return sum(1 for parameter in counted if parameter.reach != "refused") / len(counted)


@attrs.frozen
class Inventory:
    """Names of parameters, by the class or function that takes them, in one version of the engine."""

    version: str
    fields: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """From a file that `write` made."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(stored["version"], {owner: tuple(names) for owner, names in stored["fields"].items()})

    def write(self, path: Path) -> None:
        """As JSON that `read` understands."""
        text = json.dumps({"version": self.version, "fields": self.fields}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
