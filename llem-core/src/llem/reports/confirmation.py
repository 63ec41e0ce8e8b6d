"""A confirmation as people read it: what was stated, what came, and whether that is inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llem.analysis.confirm import Confirmation, Judged, LimitJudged
from llem.analysis.decision import Estimated
from llem.analysis.statement import Statement
from llem.reports.figures import grid, number, plain, put, scaled, screen
from llem.reports.tables import prefixes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["confirmation_notes", "render_confirmation", "render_statement", "verdict"]

#: An interval whose high end is so many times its low end says little.
WIDE = 1.5
#: Of 100 intervals, so many are missed although the statement is right.
MISSED = 5


def verdict(view: Confirmation) -> str:
    """The outcome in a sentence."""
    count = len(view.intervals)
    inside = sum(one.inside is True for one in view.intervals)
    if view.confirmed:
        kept = ", and every limit was kept again" if view.limits else ""
        return f"confirmed: {inside} of {count} outcomes lie in the intervals that were stated before{kept}"
    broken = sum(one.kept is False for one in view.limits)
    told = f"{inside} of {count} outcomes lie in the intervals that were stated before"
    if broken:
        told += f"; {broken} of {len(view.limits)} limits were not kept again"
    return f"{'not confirmed' if view.confirmed is False else 'not decided'}: {told}"


def render_statement(statement: Statement, console: Console | None = None) -> None:
    """Print what is stated, before anything is measured."""
    out = screen(console)
    out.print(plain(_stated(statement)))
    table = grid("", "expected", "95 % interval")
    for name, one in zip(_names(statement), _expected(statement), strict=True):
        table.add_row(*map(plain, (name, *_interval(one, statement.unit if name != RATIO else ""))))
    put(out, table)


RATIO = "ratio"


def _stated(statement: Statement) -> str:
    each = "1 new engine process" if statement.processes == 1 else f"{statement.processes} new engine processes"
    of_each = " of each" if len(statement.ids) > 1 else ""
    return f"{statement.metric} over {each}{of_each}"


def _names(statement: Statement) -> list[str]:
    shown = prefixes(statement.ids)
    roles = ("choice", "runner-up")
    named = [f"{role} {shown[one]}" for role, one in zip(roles, statement.ids, strict=False)]
    return [*named, *([] if statement.ratio is None else [RATIO])]


def _expected(statement: Statement) -> list[Estimated]:
    return [*statement.expected, *([] if statement.ratio is None else [statement.ratio])]


def render_confirmation(view: Confirmation, console: Console | None = None) -> None:
    """Print the statement beside its outcome, the limits, and what is to be known of it."""
    out = screen(console)
    statement = view.statement
    out.print(plain(_stated(statement)))
    table = grid("", "stated", "95 % interval", "measured", "", words=[4])
    for name, one in zip(_names(statement), view.intervals, strict=True):
        unit = "" if name == RATIO else statement.unit
        table.add_row(*map(plain, (name, *_interval(one.stated, unit), _measured(one, unit), _inside(one))))
    put(out, table)
    for line in _limits(view):
        out.print(plain(line))
    out.print(plain(verdict(view)))
    for note in confirmation_notes(view):
        out.print(plain(note), style="dim")


def _half(one: Estimated) -> float:
    return (one.high - one.low) / 2


def _interval(one: Estimated, unit: str) -> tuple[str, str]:
    shown, divisor = scaled(one.value, unit)
    half = _half(one) / divisor
    middle = f"{number(one.value / divisor, half)} {shown}".rstrip()
    return middle, f"{number(one.low / divisor, half)} … {number(one.high / divisor, half)}"


def _measured(one: Judged, unit: str) -> str:
    if one.measured is None:
        return "–"
    shown, divisor = scaled(one.stated.value, unit)
    return f"{number(one.measured / divisor, _half(one.stated) / divisor)} {shown}".rstrip()


def _inside(one: Judged) -> str:
    if one.measured is None or one.inside is None:
        return one.why
    if one.inside:
        return "inside"
    return "below" if one.measured < one.stated.low else "above"


def _limits(view: Confirmation) -> Iterator[str]:
    shown = prefixes(view.statement.ids)
    for one in view.limits:
        yield f"{shown[one.id]} {one.limit.text}: {_kept(one)}"


def _kept(one: LimitJudged) -> str:
    if one.kept is None:
        return f"not known, {one.why}"
    return f"{'kept' if one.kept else 'not kept'} ({number(one.found or 0.0)})"


def confirmation_notes(view: Confirmation) -> Iterator[str]:
    """How sure intervals are together, and what is not as it was."""
    count = len(view.intervals)
    if count > 1:
        yield (
            f"each interval holds {100 - MISSED} of 100 outcomes: of {count}, one or more is missed in at most "
            f"{MISSED * count} of 100 confirmations, although the statement is right"
        )
    for name, one in zip(_names(view.statement), view.intervals, strict=True):
        if one.inside and one.stated.high > WIDE * one.stated.low:
            yield (
                f"the interval of {name} spans a factor of {number(one.stated.high / one.stated.low, 0.1)}: to lie in "
                "it says little; a study with more engine processes states narrower ones"
            )
    yield from view.warnings
