"""How a check that fails is told: the rule, what was got, what would be right, and the page that explains it.

    rule      Completions stand in the order of the requests, in whatever order the engine ran them.
    got       [6, 5]
    expected  [5, 6]
    page      docs/howto/write-a-backend.md

A check's docstring is its rule. `expect` says what was got and expected; so do llem's own contracts, which are held as
a study runs too. Of a plain `assert`, its text is what was got, with the values that pytest puts into it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import pytest

from llem.errors import Breach

__all__ = ["BrokenRule", "Rules", "expect", "keep"]

P = ParamSpec("P")
R = TypeVar("R")
#: A value is told with so many characters at most.
LONG = 400


class BrokenRule(AssertionError):
    """A check that has failed: what was got and expected, and the rule where it is not the check's own."""

    def __init__(self, got: str, expected: str, rule: str = "") -> None:
        super().__init__(f"got {got}, expected {expected}")
        self.rule, self.got, self.expected = rule, got, expected


def expect(got: object, expected: object, about: str = "") -> None:
    """Fail unless both are equal; `about` says what they are where the rule alone does not."""
    __tracebackhide__ = True
    if got != expected:
        raise BrokenRule(_short(got) + (f" ({about})" if about else ""), _short(expected))


def keep(breaches: Iterable[Breach]) -> None:
    """Fail where a rule of llem's contract is not kept, with the first of them."""
    __tracebackhide__ = True
    for breach in breaches:
        raise BrokenRule(breach.got, breach.expected, breach.rule)


class Rules:
    """A class of checks whose failures are told so.

    Attributes:
        page: of the documentation that explains the rules.
    """

    page = "docs/howto/write-a-plugin.md"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.__module__.startswith("llem.testing."):  # an author's own checks are told as pytest does
            for name, check in list(vars(cls).items()):
                if name.startswith("test_") and inspect.isfunction(check):
                    setattr(cls, name, _told(check))


def _told(check: Callable[P, R]) -> Callable[P, R]:
    rule = " ".join((inspect.getdoc(check) or "").split())

    @functools.wraps(check)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return check(*args, **kwargs)
        except (AssertionError, pytest.fail.Exception) as error:
            text = _form(error, rule, getattr(args[0], "page", ""))
            if isinstance(error, pytest.fail.Exception):  # of `pytest.raises`
                error.msg = text
            error.args = (text,)
            raise

    return checked


def _form(error: BaseException, rule: str, page: str) -> str:
    broken = error if isinstance(error, BrokenRule) else BrokenRule(str(error), "what the rule says")
    told = {"rule": broken.rule or rule, "got": broken.got, "expected": broken.expected, "page": page}
    return "\n".join(["the contract of plugins is not kept", *(f"{name:10}{text}" for name, text in told.items())])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]} …"
