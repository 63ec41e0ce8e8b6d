"""The reference of a study: one of its experiments that several engine processes measure, spread over the study. Pure.

Where each configuration has one engine process, nothing shows what varies between processes, nor what changes while the
study runs. The reference is measured at the beginning, in the middle and at the end, and shows both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.config.layers import Layer
from llem.config.load import Resolver
from llem.config.said import Said, merged
from llem.config.study.axes import Point
from llem.config.study.file import REFERENCE_PROCESSES, StudyFile
from llem.config.study.shared import matches, wanted
from llem.errors import ConfigError, Problem
from llem.plugins.registry import Registry
from llem.study.plan.planned import Identifier, PlannedExperiment
from llem.study.plan.schedule import Job

__all__ = ["REFERENCE", "Reference", "spread"]

#: The source of the reference's number of engine processes.
REFERENCE = "reference of the study"


@attrs.define
class _Found:
    """A point that the entry matches: what is said of it, and its experiment's id or why it has none."""

    point: Point
    said: Mapping[Any, Said]
    id: str | None = None
    left_out: bool = False


class Reference:
    """The entry `reference` of a study, and the points that it matches."""

    def __init__(self, file: StudyFile) -> None:
        self._file, self._stated = file, file.reference
        asked = wanted(file.reference) if file.reference else {}
        self._processes: int | None = asked.pop("processes", None)
        self._asked = asked
        self._found: list[_Found] = []

    def look(self, point: Point, found: Mapping[Any, Said]) -> _Found | None:
        """Remember a point if the entry matches its settings."""
        if self._stated is None or not matches(found, self._asked):
            return None
        self._found.append(_Found(point, found))
        return self._found[-1]

    def chosen(
        self,
        found: Mapping[str, PlannedExperiment],
        identifier: Identifier,
        registry: Registry,
        places: Sequence[str],
    ) -> PlannedExperiment | None:
        """The one experiment that the entry matches, with its engine processes; None where the study has no reference.

        Raises ConfigError: it matches none or several, or the experiment cannot have several engine processes.
        """
        if self._stated is None:
            return None
        first = self._only()
        planned = found[first.id or ""]
        processes = self._processes or max(REFERENCE_PROCESSES, planned.experiment.processes)
        if processes == planned.experiment.processes:
            return planned
        try:
            said = merged([Layer(REFERENCE, {"processes": processes})], first.said)
            return identifier(planned.point, Resolver(registry)(said, [*places, REFERENCE]))
        except ConfigError as error:
            told = [problem.message for problem in error.problems] or [error.message]
            raise self._refused(f"cannot have {processes} engine processes: {'; '.join(told)}", error.hint) from None

    def _only(self) -> _Found:
        """The first point of the one experiment that the entry matches."""
        by_id = {one.id: one for one in reversed(self._found) if one.id is not None}
        if len(by_id) == 1:
            return next(iter(by_id.values()))
        if by_id:
            points = [one.point.values for one in self._found if one.id is not None]
            apart = [path for path in points[0] if len({repr(one.get(path)) for one in points}) > 1]
            raise self._refused(f"matches {len(by_id)} experiments", f"name also {' or '.join(apart)}" if apart else "")
        if any(one.left_out for one in self._found):
            raise self._refused("matches only points that `exclude` leaves out")
        if self._found:
            raise self._refused("matches only points that cannot run", "`llem plan` without `reference` says why")
        raise self._refused("matches no point", "give values as `axes` and `base` have them")

    def _refused(self, message: str, hint: str = "") -> ConfigError:
        where = self._stated.where if self._stated else ""
        return ConfigError(f"invalid study {self._file.name!r}", problems=(Problem(where, message, hint),))


def spread(jobs: Sequence[Job], reference: str) -> list[Job]:
    """The jobs with those of the reference at the beginning, at the end, and evenly between, by the trials of others.

    Processes that the reference shares with other experiments come in the middle of its own; all other jobs keep their
    order. A job may change places only with jobs of its round (see `next_job`): none passes one of the reference.

    Args:
        jobs: in running order.
        reference: id of an experiment with two engine processes at least.
    """
    own = sorted((job for job in jobs if reference in job.experiments), key=lambda job: job.process)
    alone = [job for job in own if job.experiments == (reference,)]
    before = (len(alone) + 1) // 2
    own = [*alone[:before], *(job for job in own if job not in alone), *alone[before:]]
    others = [job for job in jobs if reference not in job.experiments]
    total, done = sum(len(job.turns) for job in others), 0
    gaps: list[list[Job]] = [[] for _ in own]
    for job in others:
        middle = done + len(job.turns) / 2
        gaps[int(middle / total * (len(own) - 1))].append(job)
        done += len(job.turns)
    placed, number = [], -1
    for job, gap in zip(own, gaps, strict=True):
        number += 1
        placed.append(attrs.evolve(job, round=number))
        last = gap[0].round if gap else 0
        for other in gap:
            number, last = number + (other.round != last), other.round
            placed.append(attrs.evolve(other, round=number))
    groups = {group: number for number, group in enumerate(dict.fromkeys(job.group for job in placed))}
    return [attrs.evolve(job, group=groups[job.group]) for job in placed]
