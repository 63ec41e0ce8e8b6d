"""Which problems are of single points, and which are mistakes of the study. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from llem.config.study.axes import Point
from llem.config.study.file import StudyFile
from llem.errors import ConfigError, Problem

__all__ = ["POINT", "Invalid", "invalid_point", "refuse_mistakes"]

#: The source of what a point sets.
POINT = "point of the study"
#: Problems told of a study none of whose points runs.
_MOST_TOLD = 10


@attrs.frozen
class Invalid:
    """A point that cannot run. The problems' paths say where in the files the values stand.

    Attributes:
        origins: of each problem, the axis or the shared setting that is wrong; None for what a backend refuses, which
            may be any combination.
    """

    point: Point
    problems: tuple[Problem, ...]
    origins: tuple[str | None, ...]


def invalid_point(file: StudyFile, point: Point, error: ConfigError) -> Invalid:
    """The point with the problems of an error, each at its place in the files."""
    problems = error.problems or (Problem(_subject(error), error.message, error.hint),)
    placed, origins = [], []
    for problem in problems:
        own = point.place(problem.path) if problem.source in ("", POINT) else None
        place = own or file.where(problem)
        placed.append(attrs.evolve(problem, path=place))
        origins.append(None if not problem.source else _axis(own) if own else place)
    return Invalid(point, tuple(placed), tuple(origins))


def _subject(error: ConfigError) -> str:
    return "model" if error.code == "model_not_found" else ""


def _axis(place: str) -> str | None:
    """The axis whose value stands at a place; None for a point listed by hand."""
    found = re.match(r"(.*?: (?:axes\.|zip(?:\[\d+\])?\.)[^\[]*)", place)
    return found[1] if found else None


def refuse_mistakes(file: StudyFile, tried: Sequence[Point], invalid: Sequence[Invalid]) -> None:
    """Raise ConfigError where no point runs, or where a setting is wrong for all points that have it.

    A typo in one value costs the points with that value; one in the name of an axis would silently cost the axis.
    """
    users: Counter[str | None] = Counter(axis for point in tried for axis in {_axis(w) for w in point.where.values()})
    failing: Counter[str] = Counter()
    told: dict[str, dict[str, Problem]] = {}
    for one in invalid:
        mistakes = [(at, problem) for at, problem in zip(one.origins, one.problems, strict=True) if at is not None]
        failing.update({at for at, _ in mistakes})
        for at, problem in mistakes:
            told.setdefault(at, {}).setdefault(str(problem), problem)
    wrong = [at for at, count in failing.items() if count == users.get(at, len(tried))]
    if wrong:
        problems = tuple(problem for at in wrong for problem in _once(at, list(told[at].values())))
        raise ConfigError(f"invalid study {file.name!r}", problems=problems)
    if len(invalid) == len(tried):
        raise ConfigError(f"no point of {file.name!r} can run", problems=tuple(_commonest(invalid)))


def _once(at: str, problems: Sequence[Problem]) -> Iterator[Problem]:
    """What is wrong with several values alike is in the name of their axis, and is told once, without their places."""
    alike: dict[Problem, list[Problem]] = {}
    for problem in problems:
        of_a_value = re.fullmatch(r"\[\d+\]", problem.path[len(at) :])
        alike.setdefault(attrs.evolve(problem, path=at) if of_a_value else problem, []).append(problem)
    for common, ones in alike.items():
        yield ones[0] if len(ones) == 1 else common


def _commonest(invalid: Sequence[Invalid]) -> Iterator[Problem]:
    counts = Counter(attrs.evolve(problem, source="") for one in invalid for problem in one.problems)
    for problem, count in counts.most_common(_MOST_TOLD):
        points = f"{count} point" + ("" if count == 1 else "s")
        yield attrs.evolve(problem, message=f"{problem.message} [{points}]")
    if len(counts) > _MOST_TOLD:
        yield Problem("", f"and {len(counts) - _MOST_TOLD} further reasons")
