"""Errors are data: what is wrong, where, and what would be right.

Every error a user can cause carries a `hint`; `exit_code` is what the command line ends with (1 an experiment
failed, 2 the user's mistake, 3 the machine's state).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

import attrs

__all__ = [
    "BrokenPlugin",
    "ConfigError",
    "ExperimentFailed",
    "LlemError",
    "MachineError",
    "Problem",
    "StoreError",
    "UnknownPlugin",
    "nearest",
]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


@attrs.frozen
class LlemError(Exception):
    """Root of every error llem raises on purpose.

    Attributes:
        message: what is wrong, one sentence, lowercase, no full stop.
        hint: what would be right, or what to do next.
        code: the reason code under which the documentation explains it.
    """

    message: str
    hint: str = ""
    code: str = "error"

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


@attrs.frozen
class Problem:
    """One thing wrong in a configuration: the path to the value, what is wrong, what would be right, who set it."""

    path: str
    message: str
    hint: str = ""
    source: str = ""

    def __str__(self) -> str:
        return self.told()

    def told(self, *, with_source: bool = False) -> str:
        """The problem on one line."""
        where = f"{self.path}: " if self.path else ""
        source = f" [{self.source}]" if with_source and self.source else ""
        return f"{where}{self.message}{source}" + (f" ({self.hint})" if self.hint else "")


@attrs.frozen
class ConfigError(LlemError):
    """A configuration that cannot be run; `problems` lists every fault found, not only the first."""

    code: str = "config_invalid"
    problems: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        several = len({problem.source for problem in self.problems if problem.source}) > 1
        lines = [self.message, *(f"  {problem.told(with_source=several)}" for problem in self.problems)]
        return "\n".join([*lines, f"  {self.hint}"] if self.hint else lines)


@attrs.frozen
class UnknownPlugin(LlemError):
    """A name that no installed plugin provides."""

    code: str = "plugin_unknown"


@attrs.frozen
class BrokenPlugin(LlemError):
    """A plugin that is installed and cannot be used; the recorded cause is in the message."""

    code: str = "plugin_broken"
    exit_code: ClassVar[int] = 3


@attrs.frozen
class MachineError(LlemError):
    """This machine lacks what was asked for: a GPU, a permission, disk space."""

    code: str = "machine"
    exit_code: ClassVar[int] = 3


@attrs.frozen
class StoreError(LlemError):
    """A result folder that cannot be read, or must not be written."""

    code: str = "store"


@attrs.frozen
class ExperimentFailed(LlemError):
    """The experiment started and did not end; `code` is its outcome (oom, timeout, crash, invalid, interrupted)."""

    code: str = "crash"
    exit_code: ClassVar[int] = 1
