"""What the parts brought back, read: PART.tar.gz with a recording of sensors, or with stores of studies."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.analysis.sides import Side, read_side
from llem.meters.base import Domain, EnergyReading
from llem.meters.trace import ReadingName, TraceRow, series
from llem.meters.window import energy_readings
from llem.store.store import Store
from llem.store.tables import read_trace

__all__ = ["NotMeasured", "Raw", "Recording", "Segment", "side_with", "unpacked"]


class NotMeasured(Exception):
    """A part that a figure needs is not there. The text is for the page."""


@attrs.frozen
class Segment:
    """What ran from when to when on the monotonic clock, in ns. `about` has these and the load's own facts."""

    kind: str
    begin_ns: int
    end_ns: int
    about: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


@attrs.frozen
class Recording:
    """One trace of one GPU, and what ran meanwhile.

    Attributes:
        bare: reads of the counter as (ns, joules). averages: of the power averaged by the driver, as (ns, watts).
    """

    rows: Sequence[TraceRow]
    domains: Sequence[tuple[str, Domain]]
    segments: Sequence[Segment]
    bare: Sequence[tuple[int, float]]
    averages: Sequence[tuple[int, float]]

    def energy(self, begin_ns: int, end_ns: int, rows: Sequence[TraceRow] | None = None) -> EnergyReading:
        """The energy of a window as llem states it. `rows`: of the trace, where not all are to be used."""
        [found] = energy_readings(self.rows if rows is None else rows, self.domains, begin_ns, end_ns)
        return found

    def joules(self, begin_ns: int, end_ns: int, rows: Sequence[TraceRow] | None = None) -> float:
        """The same in joules. Raises NotMeasured: there is none."""
        found = self.energy(begin_ns, end_ns, rows).energy_j
        if found is None:
            raise NotMeasured("a window of the recording has no energy")
        return found

    def both(self, begin_ns: int, end_ns: int) -> tuple[float, float]:
        """Mean watts of a window by the counter, and by the instantaneous reading integrated.

        Raises NotMeasured: one of the two has nothing there.
        """
        found, seconds = self.energy(begin_ns, end_ns), (end_ns - begin_ns) / 1e9
        if found.energy_j is None or found.cross_energy_j is None:
            raise NotMeasured("a window of the recording has no energy by one of the two readings")
        return found.energy_j / seconds, found.cross_energy_j / seconds

    def health(self, reading: ReadingName, begin_ns: int, end_ns: int) -> list[tuple[int, float]]:
        """Readings of the board's health within a window, as (ns, value)."""
        rows = series(self.rows, "health", self.domains[0][1].name, reading)
        return [(row.t_ns, row.value) for row in rows if begin_ns <= row.t_ns <= end_ns]

    def of(self, *kinds: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.kind in kinds]


@attrs.frozen
class Raw:
    """The parts, unpacked into one folder."""

    folder: Path

    def done(self, part: str) -> bool:
        """Whether a part came to its end."""
        return (self.folder / part / "done.json").exists()

    def place(self, part: str) -> Path:
        """A part's folder. Raises NotMeasured."""
        if not (self.folder / part).is_dir():
            raise NotMeasured(f"the part `{part}` did not run")
        return self.folder / part

    def recording(self, part: str) -> Recording:
        """What a part of sensors recorded. Raises NotMeasured."""
        folder = self.place(part)
        if not self.done(part):
            raise NotMeasured(f"the part `{part}` was stopped before its end, and begins anew")
        document = json.loads((folder / "segments.json").read_text())
        segments = [Segment(one["kind"], one["begin_ns"], one["end_ns"], one) for one in document["segments"]]
        return Recording(
            read_trace(folder / "trace.csv.gz"),
            [(meter, Domain(**about)) for meter, about in document["domains"]],
            segments,
            [(t, joules) for t, joules in document["bare"]],
            [(t, watts) for t, watts in document["averages"]],
        )

    def store(self, part: str, name: str | None = None) -> tuple[Store, list[str]]:
        """A store of a part, and its experiments in the order of the study. Raises NotMeasured."""
        folder = self.place(part) / (name or part)
        if not (folder / "study.json").exists():
            raise NotMeasured(f"the part `{part}` was stopped before its study `{name or part}` began")
        store = Store.open(folder)
        points = store.study()["points"]
        there = [one for one in store.experiment_ids() if store.trials(one)]
        return store, sorted(there, key=lambda one: points[one]["number"])

    def machine(self) -> Mapping[str, Any]:
        """The GPU's facts and the driver, of the first part of sensors that has them; empty without one."""
        for file in sorted(self.folder.glob("*/segments.json")):
            document = json.loads(file.read_text())
            return {**document["facts"], "driver": document["driver"]}
        return {}


def side_with(store: Store, name: str, metric: str) -> Side:
    """An experiment as the production comparison takes it. Raises NotMeasured: a trial lacks the metric."""
    side = read_side(store, name, [metric])
    if metric not in side.values:
        raise NotMeasured(f"{name} has no `{metric}`: {side.lacking[metric]}")
    return side


def unpacked(archives: Path, folder: Path) -> Raw:
    """All PART.tar.gz of a folder, unpacked into another one."""
    for file in sorted(archives.glob("*.tar.gz")):
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    return Raw(folder)
