"""From what a user names (a file, a mapping, nothing) to a study: every point resolved, and each that will not run
listed with its reason.

Runs nothing, loads no engine. It looks at devices only to choose a backend, where several are installed and none is
named.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.config.converter import unstructure
from llem.config.defaults import Find, Finder
from llem.config.layers import Layer
from llem.config.load import CHOSEN, Resolved, Resolver, resolve
from llem.config.said import Said
from llem.config.study.axes import Point, declared_points
from llem.config.study.file import StudyFile, parse_study, read_study
from llem.config.study.mistakes import (
    Invalid,
    invalid_point,
    refuse_mistaken_entries,
    refuse_mistakes,
    refuse_unused_mistakes,
)
from llem.config.study.shared import Exclusions, Shared
from llem.config.user import load_user_config
from llem.devices.peaks import peak_of
from llem.errors import ConfigError, Problem, UnknownPlugin
from llem.plugins.registry import Registry
from llem.study.plan.chosen import backend_layer, chosen_note
from llem.study.plan.memory import GpuKind, MemoryEstimate, gib
from llem.study.plan.planned import Identifier, PlannedExperiment, joined
from llem.study.plan.reference import Reference, spread
from llem.study.plan.schedule import running_order, schedule
from llem.study.plan.study import Merged, Study

__all__ = ["expand", "load"]


def load(
    source: str | Path | Mapping[str, Any] | None,
    overrides: Sequence[Layer],
    registry: Registry,
    *,
    checked: bool = True,
    unmet: bool = True,
    gpu: Callable[[], GpuKind | None] = lambda: None,
    here: bool = True,
) -> Study:
    """A study on top of the user's own configuration, expanded.

    Args:
        source: a YAML file, or a mapping of the same shape; None for the one experiment that `overrides` describe.
        overrides: settings over those of the study, for every point.
        checked, unmet, gpu: as of `Identifier`.
        here: workers have this environment, so a backend may be chosen by what can run in it, and asked what runs.

    Raises:
        LlemError: as `read_study`, `backend_layer` and `expand`.
    """
    _refuse_model(source)
    if source is None:
        file = StudyFile("llem", ())
    else:
        file = parse_study(source) if isinstance(source, Mapping) else read_study(source)
    user = load_user_config()
    below = [] if user.gpus is None else [Layer("user config", {"gpus": unstructure(user.gpus)})]
    if here or user.backend is not None:
        below += filter(None, [backend_layer(file, lambda: declared_points(file), overrides, user, registry)])
    find = Finder(registry, lenient=unmet) if here and checked else None
    study = expand(file, registry, below=below, overrides=overrides, checked=checked, unmet=unmet, gpu=gpu, find=find)
    for one in study.experiments:
        if one.sources.get("backend") == CHOSEN:
            return attrs.evolve(study, notes=(chosen_note(one.experiment.backend, registry), *study.notes))
    return study


def _refuse_model(study: object) -> None:
    """Raise ConfigError for the name of a model in the place of a study file."""
    if isinstance(study, str) and not Path(study).exists():
        file = study.endswith((".yaml", ".yml")) or study.startswith((".", "/", "~"))
        if study.startswith("shape:") or ("/" in study and not file):
            raise ConfigError(f"no such file: {study}", f'if it is a model, say so: model="{study}"')


@contextlib.contextmanager
def _all_kept() -> Iterator[None]:
    """Within it Python looks for no cycles of objects: what a plan is made of is kept, and is searched in vain each
    time, for a fifth of all the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_all_kept()
def expand(
    file: StudyFile,
    registry: Registry,
    *,
    below: Sequence[Layer] = (),
    overrides: Sequence[Layer] = (),
    checked: bool = True,
    unmet: bool = True,
    gpu: Callable[[], GpuKind | None] = lambda: None,
    find: Find | None = None,
) -> Study:
    """Every point of a study, resolved.

    Args:
        below: settings under the study's, such as the user's own.
        overrides: settings over every point.
        checked, unmet, gpu: as of `Identifier`.
        find: as of `resolve`.

    Raises:
        ConfigError: the file is wrong; or a value, an axis or a section is wrong wherever it is used; or no point runs.
        UnknownPlugin, BrokenPlugin: something that a point names is not installed, or is broken.
    """
    points = declared_points(file)
    refuse_mistaken_entries(file, registry)
    identifier = Identifier(registry, checked=checked, unmet=unmet, gpu=gpu)
    if file.single:  # one experiment: its errors need no mention of points
        resolved = resolve((*below, *file.base, *overrides), registry, find)
        return _single(file, points[0], identifier, registry, resolved, tuple(overrides))
    shared = Shared(file, registry, (*below, *file.base), tuple(overrides))
    exclusions, reference = Exclusions(file.exclude), Reference(file)
    looked = _Looked(file, identifier, Resolver(registry, find), shared.places)
    for declared in points:
        point, said = shared.of(declared)
        matched, left_out = reference.look(point, said), exclusions.leave_out(point, said)
        name = None if left_out else looked.at(point, said)
        if matched is not None:
            matched.id, matched.left_out = name, left_out
    if not looked.tried:
        raise ConfigError(f"{file.name!r} has nothing to run: `exclude` leaves out all {len(points)} points")
    refuse_mistakes(file, looked.tried, looked.invalid)
    refuse_unused_mistakes(file, points, looked.tried, registry)
    found = looked.found
    if (chosen := reference.chosen(found, identifier, registry, shared.places)) is not None:
        chosen = found[chosen.id] = joined(chosen, found[chosen.id])
    jobs = schedule(found.values(), file.order)
    jobs = jobs if chosen is None else spread(jobs, chosen.id)
    return Study(
        file,
        tuple(found[name] for name in running_order(jobs)),
        tuple(jobs),
        tuple(overrides),
        tuple(exclusions.found),
        tuple(looked.invalid),
        tuple(looked.merged),
        tuple(dict.fromkeys(path for point in points for path in point.values)),
        (*exclusions.notes(), *shared.notes(), *_notes(found.values(), identifier, registry)),
        None if chosen is None else chosen.id,
    )


class _Looked:
    """What came of looking at points: experiments by id, those that are one of these again, and invalid ones."""

    def __init__(self, file: StudyFile, identifier: Identifier, resolver: Resolver, places: Sequence[str]) -> None:
        self._file, self._identifier, self._resolver, self._places = file, identifier, resolver, places
        self.tried: list[Point] = []
        self.found: dict[str, PlannedExperiment] = {}
        self.merged: list[Merged] = []
        self.invalid: list[Invalid] = []

    def at(self, point: Point, said: Mapping[Any, Said]) -> str | None:
        """The id of the point's experiment; None for an invalid point. Raises UnknownPlugin, BrokenPlugin."""
        self.tried.append(point)
        try:
            planned = self._identifier(point, self._resolver(said, self._places))
        except ConfigError as error:
            self.invalid.append(invalid_point(self._file, point, error))
            return None
        except UnknownPlugin as error:
            raise _placed(error, point) from None
        if (first := self.found.setdefault(planned.id, planned)) is not planned:
            self.found[planned.id] = self._joined(first, planned)
            self.merged.append(Merged(point, first, _differing(planned, first)))
        return planned.id

    def _joined(self, first: PlannedExperiment, again: PlannedExperiment) -> PlannedExperiment:
        """Raises ConfigError, at the place of the setting: no result could hold the quality of both points."""
        try:
            return joined(first, again)
        except ConfigError as error:
            problems = invalid_point(self._file, again.point, error).problems
            raise ConfigError(f"invalid study {self._file.name!r}", problems=problems) from None


def _single(
    file: StudyFile,
    point: Point,
    identifier: Identifier,
    registry: Registry,
    resolved: Resolved,
    overrides: tuple[Layer, ...],
) -> Study:
    if file.reference is not None:
        problem = Problem(file.reference.where, "this is one experiment", "set `processes: 3` instead")
        raise ConfigError(f"invalid study {file.name!r}", problems=(problem,))
    planned = identifier(point, resolved)
    notes = tuple(_notes([planned], identifier, registry))
    if file.exclude:
        notes += ("`exclude` leaves nothing out: this is one experiment",)
    return Study(file, (planned,), tuple(schedule([planned], file.order)), overrides, notes=notes)


def _notes(planned: Collection[PlannedExperiment], identifier: Identifier, registry: Registry) -> Iterator[str]:
    yield from _missing_engines(planned, registry)
    yield from _missing_evaluators(planned, registry)
    yield from _may_not_fit(planned, identifier.gpu)
    yield from _without_arithmetic(planned, identifier.gpu)


def _missing_engines(planned: Iterable[PlannedExperiment], registry: Registry) -> Iterator[str]:
    """A plan is possible without the engines; a run is not."""
    for name in sorted({one.experiment.backend for one in planned}):
        if missing := registry.reference("backend", name).missing():
            yield f"backend {name!r} needs {', '.join(missing)}, which is not installed here"


def _missing_evaluators(planned: Iterable[PlannedExperiment], registry: Registry) -> Iterator[str]:
    wanted = {one.experiment.quality.evaluator for one in planned if one.experiment.quality is not None}
    for name in sorted(wanted):
        if missing := registry.reference("evaluator", name).missing():
            yield f"evaluator {name!r} needs {', '.join(missing)}, which is not installed here; its tasks are unchecked"


def _placed(error: UnknownPlugin, point: Point) -> UnknownPlugin:
    """The error with the place in the files where the name stands, if it is a point's own."""
    for path, value in point.values.items():
        names = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(name, str) and repr(name) in error.message for name in names):
            return attrs.evolve(error, message=f"{point.where[path]}: {error.message}")
    return error


def _differing(one: PlannedExperiment, other: PlannedExperiment) -> tuple[str, ...]:
    """Settings without effect that only one of two has."""
    return tuple(
        dict.fromkeys(
            setting
            for setting in (*one.no_effect, *other.no_effect)
            if (setting in one.no_effect) != (setting in other.no_effect)
        )
    )


def _may_not_fit(planned: Iterable[PlannedExperiment], gpu: Callable[[], GpuKind | None]) -> Iterator[str]:
    """Points whose cache would have to be smaller than all requests at their full length need."""
    known = [memory for one in planned if isinstance(memory := one.memory, MemoryEstimate)]
    kind = gpu() if known else None
    if kind is None:
        return
    large = [one for one in known if one.total_bytes > one.gpus * kind.memory_bytes]
    if large:
        most = max(large, key=lambda one: one.total_bytes)
        yield (
            f"{len(large)} of {len(known)} points may not fit: weights of {gib(most.weight_bytes)} and a key-value "
            f"cache of up to {gib(most.kv_bytes or 0)} on {gib(most.gpus * kind.memory_bytes)}, estimated; "
            "engines that page the cache let requests wait instead"
        )


def _without_arithmetic(planned: Iterable[PlannedExperiment], gpu: Callable[[], GpuKind | None]) -> Iterator[str]:
    """Number formats that the GPU does not compute in: engines refuse them, or go a slower way."""
    asked = [one.experiment.dtype for one in planned if one.experiment.device != "cpu"]
    kind = gpu() if asked else None
    peak = None if kind is None or kind.name is None else peak_of(kind.name)
    if kind is None or peak is None:
        return
    for dtype in sorted(set(asked) - {"auto"}):
        if peak.rate(dtype) is None:
            points = f"{asked.count(dtype)} of {len(asked)} points"
            yield f"{kind.name} has no {dtype} arithmetic: {points} will be slow, or refused by the engine"
