"""How each parameter of an engine is reached from a configuration: what the coverage pages are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

__all__ = ["REACHES", "Parameter", "Reach", "reached_share"]

Reach = Literal["typed", "derived", "extra", "fixed", "refused"]

#: What each kind of reach means.
REACHES: Mapping[Reach, str] = {
    "typed": "a documented, typed setting of the backend's section",
    "derived": "set through another setting, which the note names",
    "extra": "accepted in a section of further parameters, which refuses names the engine does not have",
    "fixed": "decided by llem, since the measurement rests on it; the note says how",
    "refused": "cannot be given: no value that a file can hold, or a mode llem does not measure",
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


def reached_share(parameters: Iterable[Parameter]) -> float:
    """Share of the parameters a user can set (typed, derived or extra), of those that are the user's to set.

    What llem fixes is in no denominator: it is a rule of the measurement and not a gap. What is refused is.
    """
    counted = [parameter for parameter in parameters if parameter.reach != "fixed"]
    if not counted:
        return 1.0
    return sum(1 for parameter in counted if parameter.reach != "refused") / len(counted)
