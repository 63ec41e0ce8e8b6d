"""From a study file to its experiments: every point resolved, and each that will not run listed with its reason.

Runs nothing, loads no engine, looks at no device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from llem.config.layers import Layer
from llem.config.load import resolve
from llem.config.study import StudyFile
from llem.errors import ConfigError
from llem.plugins.registry import Registry
from llem.study.axes import Point, declared_points
from llem.study.exclude import Excluded, Exclusions
from llem.study.identify import Identified, Identifier
from llem.study.mistakes import Invalid, invalid_point, refuse_mistakes
from llem.study.order import in_order
from llem.study.shared import Shared

__all__ = ["Entry", "Merged", "Study", "expand"]


@attrs.frozen
class Entry:
    """A point that runs, as the experiment that it is."""

    point: Point
    identified: Identified


@attrs.frozen
class Merged:
    """A point that is the same experiment as one before it: what differs changes nothing that is executed."""

    point: Point
    into: Entry


@attrs.frozen
class Study:
    """A study that is ready to run, and all that it leaves out.

    Attributes:
        file: as asked.
        overrides: settings laid over every point (flags, arguments).
        experiments: in running order.
        axes: paths of the settings that vary, in the file's order.
        notes: what is not wrong and yet good to know.
    """

    file: StudyFile
    overrides: tuple[Layer, ...]
    experiments: tuple[Entry, ...]
    excluded: tuple[Excluded, ...]
    invalid: tuple[Invalid, ...]
    merged: tuple[Merged, ...]
    axes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def declared(self) -> int:
        """Points of the file: those that run and those that do not."""
        return len(self.experiments) + len(self.excluded) + len(self.invalid) + len(self.merged)

    @property
    def trials(self) -> int:
        """Trials of all experiments, at least."""
        return sum(one.identified.experiment.trials for one in self.experiments)


def expand(
    file: StudyFile,
    registry: Registry,
    *,
    below: Sequence[Layer] = (),
    overrides: Sequence[Layer] = (),
    checked: bool = True,
    unmet: bool = True,
) -> Study:
    """Every point of a study, resolved.

    Args:
        below: settings under the study's, such as the user's own.
        overrides: settings over every point.
        checked, unmet: as of `Identifier`.

    Raises:
        ConfigError: the file is wrong; or a value, an axis or a section is wrong wherever it is used; or no point runs.
        UnknownPlugin, BrokenPlugin: something that a point names is not installed, or is broken.
    """
    points = declared_points(file)
    identifier = Identifier(registry, checked=checked, unmet=unmet)
    if file.single:  # one experiment: its errors need no mention of points
        return _single(file, points[0], identifier, registry, (*below, *file.base, *overrides), tuple(overrides))
    shared = Shared(file, registry, (*below, *file.base), tuple(overrides))
    exclusions = Exclusions(file.exclude)
    found: dict[str, Entry] = {}
    tried: list[Point] = []
    invalid, merged = [], []
    for declared in points:
        point, layers, values = shared.of(declared)
        if exclusions.leave_out(point, values):
            continue
        tried.append(point)
        try:
            identified = identifier(resolve(layers, registry))
        except ConfigError as error:
            invalid.append(invalid_point(file, point, error))
            continue
        planned = Entry(point, identified)
        if (first := found.setdefault(identified.id, planned)) is not planned:
            merged.append(Merged(point, first))
    if not tried:
        raise ConfigError(f"{file.name!r} has nothing to run: `exclude` leaves out all {len(points)} points")
    refuse_mistakes(file, tried, invalid)
    return Study(
        file,
        tuple(overrides),
        _ordered(found, file),
        tuple(exclusions.found),
        tuple(invalid),
        tuple(merged),
        tuple(dict.fromkeys(path for point in points for path in point.values)),
        (*exclusions.notes(), *shared.notes(), *_missing_engines(found.values(), registry)),
    )


def _single(
    file: StudyFile,
    point: Point,
    identifier: Identifier,
    registry: Registry,
    layers: Sequence[Layer],
    overrides: tuple[Layer, ...],
) -> Study:
    planned = Entry(point, identifier(resolve(layers, registry)))
    return Study(file, overrides, (planned,), (), (), (), (), tuple(_missing_engines([planned], registry)))


def _ordered(found: Mapping[str, Entry], file: StudyFile) -> tuple[Entry, ...]:
    return tuple(found[one.id] for one in in_order([planned.identified for planned in found.values()], file.order))


def _missing_engines(planned: Iterable[Entry], registry: Registry) -> Iterator[str]:
    """A plan is possible without the engines; a run is not."""
    for name in sorted({one.identified.experiment.backend for one in planned}):
        if missing := registry.reference("backend", name).missing():
            yield f"backend {name!r} needs {', '.join(missing)}, which is not installed here"
