"""Errors are data: what is wrong, where, and what would be right.

Every error a user can cause carries a `hint`; `exit_code` is what the command line ends with (1 an experiment
failed, 2 the user's mistake, 3 the machine's state).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar

import attrs

__all__ = [
    "TELL_AUTHORS",
    "Breach",
    "BrokenCheck",
    "BrokenPlugin",
    "ConfigError",
    "ExperimentFailed",
    "LlemError",
    "MachineError",
    "Problem",
    "StoreError",
    "UnknownName",
    "UnknownPlugin",
    "described",
    "nearest",
    "one_of",
]


def nearest(name: str, known: Iterable[str], closeness: float = 0.6) -> str | None:
    """The known name most like `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=closeness)
    return found[0] if found else None


#: What to do about a plugin that breaks a rule.
TELL_AUTHORS = "report it to its authors; `llem.testing.conformance` has a test of it"


@attrs.frozen
class Breach:
    """A rule of the contract between llem and its plugins that is not kept.

    Attributes:
        rule: what plugins have to do, one sentence.
        got, expected: what one did, and what would be right.
        page: of the documentation that explains it.
    """

    rule: str
    got: str
    expected: str
    page: str

    def __str__(self) -> str:
        return f"{self.rule}: got {self.got}, expected {self.expected}; see {self.page}"


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
class BrokenCheck(ConfigError):
    """A configuration that a plugin fails to check: it cannot be run, though the plugin may take others."""

    code: str = "plugin_broken"
    exit_code: ClassVar[int] = 3


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
class UnknownName(StoreError, KeyError):
    """A name by which nothing is found in results: an experiment, or a metric. A KeyError too, as of any mapping."""

    code: str = "name_unknown"


@attrs.frozen
class ExperimentFailed(LlemError):
    """The experiment started and did not end; `code` is its outcome (oom, timeout, crash, invalid, interrupted)."""

    code: str = "crash"
    exit_code: ClassVar[int] = 1


#: So many names are told in a hint.
TOLD = 12


def described(error: BaseException) -> str:
    """Kind and message of an error of somebody else's, whose own text may fail."""
    kind = type(error).__name__
    try:
        return f"{kind}: {error}" if str(error) else kind
    except Exception:  # its `__str__` is as foreign as what raised it
        return kind


def one_of(known: Sequence[str], prefix: str, where: str) -> str:
    """The one experiment id that is `prefix`, or the only one that begins so.

    Raises UnknownName (id_unknown, id_ambiguous): none begins so, or several do.
    """
    found = [prefix] if prefix in known else [name for name in known if name.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownName(f"{prefix!r} begins {len(found)} ids: {_some(found)}", "write more of it", "id_ambiguous")
    near = nearest(prefix, known) or nearest(prefix, {name[: len(prefix)] for name in known})
    hint = f"did you mean {near}?" if near else f"known: {_some(known) or 'none'}"
    raise UnknownName(f"no experiment {prefix!r} {where}", hint, "id_unknown")


def _some(names: Sequence[str]) -> str:
    more = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {more:,} more" if more > 0 else "")
