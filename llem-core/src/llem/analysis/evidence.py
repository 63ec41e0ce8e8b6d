"""What a study says of all its configurations at once in one metric: the estimates, on the log scale, and the parts of
their errors. The parts are those of a comparison of two (`llem.analysis.difference`). Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import attrs

from llem.analysis.background import Background
from llem.analysis.difference import other_places, turns
from llem.analysis.sides import Side
from llem.analysis.units import Part, cells, centred, common_cells, pooled_parts, units_of, within_processes
from llem.analysis.variance import ASSUMED_FREEDOM, ASSUMED_SD, Spread, scatters_more
from llem.metrics.statistics import mean

__all__ = ["Evidence", "evidence_of"]


@attrs.frozen
class Evidence:
    """Estimates of k configurations in one metric, on the log scale, and what they may be off by.

    A unit is a set of engine processes. Configurations of one unit share what differs between engine processes.

    Attributes:
        values: of the configurations. units: number of the unit of each, from 0 on.
        between: parts of the variance of what the configurations of a unit share, one variance a unit.
        within: parts of the variance of what each configuration has of its own.
        sequence, steps: configurations in the order of time, and the variance of each step of a random walk from one to
            the next; empty without drift.
        places: number of the place of each configuration; empty where all ran at one place.
        common: variance of what all configurations share, such as the level of their blocks, and its freedom.
        fresh: parts of the variance of the mean of one new engine process of each configuration.
    """

    values: tuple[float, ...]
    units: tuple[int, ...]
    between: tuple[Part, ...] = ()
    within: tuple[Part, ...] = ()
    sequence: tuple[int, ...] = ()
    steps: tuple[float, ...] = ()
    places: tuple[int, ...] = ()
    common: tuple[float, float] = (0.0, 1.0)
    fresh: tuple[Part, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether the estimates are off by nothing, as of what is counted."""
        return not (self.between or self.within or self.steps or self.places or self.common[0])


def evidence_of(sides: Sequence[Side], metric: str, background: Background) -> Evidence:
    """What these sides say, all of which have the metric."""
    units = units_of(sides)
    if _counted(sides, metric):
        return Evidence(tuple(mean(side.logs(metric)) for side in sides), units)
    return _Study(sides, metric, background, units).evidence()


def _counted(sides: Sequence[Side], metric: str) -> bool:
    """Whether repeated trials never differ, as of what is counted: there is no scatter, and nothing to assume."""
    repeated = [side.values[metric] for side in sides if len(side.runs) > 1]
    return bool(repeated) and all(min(values) == max(values) for values in repeated)


class _Study:
    """The parts of the errors of one study in one metric."""

    def __init__(self, sides: Sequence[Side], metric: str, background: Background, units: tuple[int, ...]) -> None:
        self.sides, self.metric, self.units = sides, metric, units
        self.members = [[i for i, unit in enumerate(units) if unit == u] for u in range(max(units) + 1)]
        self.turning = [self._take_turns(members) for members in self.members]
        rest = Background(sides)
        found = [background.spread(metric, side) or rest.spread(metric, side) for side in sides]
        self.spreads = [found[members[0]] for members in self.members]
        self.means = [side.process_means(metric) for side in sides]
        self.common = [common_cells([sides[i] for i in members]) for members in self.members]

    def _take_turns(self, members: Sequence[int]) -> bool:
        first, *others = (self.sides[i] for i in members)
        return bool(others) and all(turns(first, other) for other in others)

    def evidence(self) -> Evidence:
        within = [*self._residuals(), *self._trials()]
        own = [math.fsum(part.variances[i] for part in within) for i in range(len(self.sides))]
        sequence, steps = self._walk()
        return Evidence(
            tuple(self._value(i) for i in range(len(self.sides))),
            self.units,
            (*self._measured(own), *self._assumed()),
            tuple(within),
            sequence,
            steps,
            self._places(),
            self._level(),
            self._fresh(own),
        )

    def _value(self, number: int) -> float:
        """The mean over processes; of trials that took turns, over those turns that the whole unit has."""
        unit = self.units[number]
        if self.turning[unit] and len(self.common[unit]) > 1:
            return mean(self._cell_values(number))
        return mean([one.mean for one in self.means[number]])

    def _cell_values(self, number: int) -> list[float]:
        logs = dict(zip(cells(self.sides[number]), self.sides[number].logs(self.metric), strict=True))
        return [logs[cell] for cell in self.common[self.units[number]]]

    # what each configuration has of its own

    def _residuals(self) -> list[Part]:
        """Of trials that took turns: the residual of a two-way layout of configurations and turns, pooled."""
        squares = freedom = 0.0
        share = [0.0] * len(self.sides)
        for members, turning, common in zip(self.members, self.turning, self.common, strict=True):
            if not turning or len(common) < 2:
                continue
            table = [centred(self._cell_values(i)) for i in members]
            levels = [mean(column) for column in zip(*table, strict=True)]
            squares += math.fsum((x - level) ** 2 for row in table for x, level in zip(row, levels, strict=True))
            freedom += (len(members) - 1) * (len(common) - 1)
            for i in members:
                share[i] = 1 / len(common)
        return [Part(tuple(one * squares / freedom for one in share), freedom)] if freedom else []

    def _trials(self) -> list[Part]:
        """Of trials that did not take turns, where their engine processes are no sample: their scatter, pooled."""
        loose = [
            not (self.turning[unit] and len(self.common[unit]) > 1)
            and (self.spreads[unit] is None or len(self.members[unit]) > 1)
            for unit in self.units
        ]
        sums = [within_processes(side, self.metric) for side in self.sides]
        counts = [len(side.runs) for side in self.sides]
        return pooled_parts(sums, [1 / n if one else 0.0 for n, one in zip(counts, loose, strict=True)])

    # what configurations of one unit share

    def _measured(self, own: Sequence[float]) -> list[Part]:
        """Variance of the means over engine processes, less what each configuration has of its own.

        Each backend has its own variance. A unit that scatters more than the others by more than chance has its own.
        """
        found: list[Part] = []
        for pooled in {id(one): one for one in self.spreads if one is not None}.values():
            variance, freedom = pooled.blocked if self._blocked(pooled) and pooled.blocked else _whole(pooled)
            share, floors = [0.0] * len(self.members), [0.0] * len(self.members)
            least, known = self._of_trials_alone(pooled)
            for unit, members in enumerate(self.members):
                if self.spreads[unit] is not pooled:
                    continue
                count = len(self.means[members[0]])
                rest = mean([own[i] for i in members])
                alone = self._alone(members, pooled)
                if alone is not None:
                    single = [0.0] * len(self.members)
                    single[unit] = max(0.0, alone / count - rest)
                    found.append(Part(tuple(single), count - 1.0))
                else:
                    share[unit] = max(0.0, variance / count - rest)
                    floors[unit] = least / count if len(members) == 1 else 0.0
            found.append(Part(tuple(share), freedom, tuple(floors) if any(floors) else (), known))
        return found

    def _of_trials_alone(self, pooled: Spread) -> tuple[float, float]:
        """What the scatter of trials within processes gives the variance of a process mean, which is that at least.

        With few engine processes this is known much better than the scatter of their means. Nothing of units whose
        configurations have a residual of their own.
        """
        alone = [
            members[0] for u, members in enumerate(self.members) if len(members) == 1 and self.spreads[u] is pooled
        ]
        sums = [within_processes(self.sides[i], self.metric) for i in alone]
        squares, freedom = (math.fsum(column) for column in zip(*sums, strict=True)) if sums else (0.0, 0.0)
        if not freedom:
            return 0.0, 1.0
        means = sum(len(self.means[i]) for i in alone)
        return squares / freedom * means / sum(len(self.sides[i].runs) for i in alone), freedom

    def _alone(self, members: Sequence[int], pooled: Spread) -> float | None:
        """Variance of the process means of one unit, if it is greater than that of the others by more than chance."""
        freedom = len(self.means[members[0]]) - 1.0
        rest = pooled.freedom - freedom
        if freedom < 1 or rest < 1:
            return None
        squares = mean([math.fsum(x**2 for x in centred([one.mean for one in self.means[i]])) for i in members])
        others = max(pooled.variance * pooled.freedom - squares, 0.0) / rest
        own = squares / freedom
        return own if squares and scatters_more((own, freedom), (others, rest)) else None

    def _blocked(self, pooled: Spread) -> bool:
        """Whether all configurations of this backend have the same blocks, so that these cancel."""
        numbers = {
            tuple(one.process for one in self.means[i])
            for unit, members in enumerate(self.members)
            for i in members
            if self.spreads[unit] is pooled
        }
        return pooled.blocked is not None and len(numbers) == 1 and len(next(iter(numbers))) > 1

    def _assumed(self) -> list[Part]:
        """Between engine processes that no other one of the configuration, nor of any other, is known of."""
        shares = [
            ASSUMED_SD**2 / len(self.means[members[0]]) if pooled is None else 0.0
            for members, pooled in zip(self.members, self.spreads, strict=True)
        ]
        found = [tuple(shares), tuple(self._near())]
        return [Part(one, ASSUMED_FREEDOM) for one in found if any(one)]

    def _near(self) -> list[float]:
        """Drift between units in random order: which are far apart is chance, so that each has that of neighbours."""
        found = [0.0] * len(self.members)
        for a, b in itertools.pairwise(self._in_time()):
            one, other = self.sides[a], self.sides[b]
            if self.units[a] != self.units[b] and _shuffled(one, other) and self._drifts(a, b):
                found[self.units[a]] = found[self.units[b]] = ASSUMED_SD**2
        return found

    def _level(self) -> tuple[float, float]:
        """Of blocks: what differs between these cancels between configurations, and not in the level of all."""
        found = [(0.0, 1.0)]
        for pooled in self.spreads:
            if pooled is not None and pooled.blocked is not None and self._blocked(pooled):
                count = len(self.means[self.members[self.spreads.index(pooled)][0]])
                found.append((max(0.0, pooled.variance - pooled.blocked[0]) / count, count - 1.0))
        return max(found)

    def _fresh(self, own: Sequence[float]) -> tuple[Part, ...]:
        """Of a new engine process of each configuration, with as many trials as it had in each."""
        pooled = [self.spreads[unit] for unit in self.units]
        parts = [
            Part(tuple(one.variance if other is one else 0.0 for other in pooled), one.freedom)
            for one in {id(one): one for one in pooled if one is not None}.values()
        ]
        assumed = tuple(
            ASSUMED_SD**2 + own[i] * len(self.means[i]) if one is None else 0.0 for i, one in enumerate(pooled)
        )
        return (*parts, Part(assumed, ASSUMED_FREEDOM)) if any(assumed) else tuple(parts)

    # time and place

    def _in_time(self) -> list[int]:
        return sorted(range(len(self.sides)), key=lambda i: (sum(self.sides[i].span), i))

    def _walk(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Drift where configurations follow one another in time, if the measured variance has none in it."""
        order = self._in_time()
        steps = [self._step(a, b) for a, b in itertools.pairwise(order)]
        return (tuple(order), tuple(steps)) if any(steps) else ((), ())

    def _step(self, a: int, b: int) -> float:
        """The variance that is assumed for drift between two; see `llem.analysis.difference`."""
        one, other = self.sides[a], self.sides[b]
        shared = self.units[a] == self.units[b]
        if not self._drifts(a, b) or (_shuffled(one, other) and not shared):
            return 0.0
        length = (one.span[1] - one.span[0] + other.span[1] - other.span[0]) / 2
        far = abs(sum(other.span) - sum(one.span)) / 2 / length if length > 0 else 1.0
        return 2 * ASSUMED_SD**2 * (1.0 if _shuffled(one, other) else max(1.0, far))

    def _drifts(self, a: int, b: int) -> bool:
        """Whether drift makes a difference between two that no measured variance has in it."""
        if self.units[a] == self.units[b]:
            return not self.turning[self.units[a]]
        return _apart(self.sides[a], self.sides[b]) and not self._spanned(a, b)

    def _spanned(self, a: int, b: int) -> bool:
        """Whether the engine processes that the variance is of span both, so that drift is in it."""
        spans = [one.span if one else None for one in (self.spreads[self.units[a]], self.spreads[self.units[b]])]
        middles = [sum(self.sides[i].span) / 2 for i in (a, b)]
        return all(span is not None and span[0] <= min(middles) <= max(middles) <= span[1] for span in spans)

    def _places(self) -> tuple[int, ...]:
        first: list[Side] = []
        found = []
        for side in self.sides:
            place = next((n for n, one in enumerate(first) if not other_places(one, side)), len(first))
            if place == len(first):
                first.append(side)
            found.append(place)
        return tuple(found) if len(first) > 1 else ()


def _whole(pooled: Spread) -> tuple[float, float]:
    return pooled.variance, pooled.freedom


def _shuffled(a: Side, b: Side) -> bool:
    return a.shuffled and b.shuffled


def _apart(a: Side, b: Side) -> bool:
    """Whether all trials of one began before those of the other."""
    (a0, a1), (b0, b1) = ((min(times), max(times)) for times in ([run.time for run in one.runs] for one in (a, b)))
    return a1 < b0 or b1 < a0
