"""A study that is ready to run, all that it leaves out, and what `study.json` holds of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.converter import unstructure
from llem.config.layers import Layer
from llem.config.models import Experiment
from llem.config.study.axes import Point
from llem.config.study.file import StudyFile
from llem.config.study.mistakes import Invalid
from llem.config.study.shared import Excluded
from llem.foreign.secrets import HIDDEN, is_secret, without_secrets
from llem.study.plan.planned import PlannedExperiment
from llem.study.plan.schedule import Job

__all__ = ["Merged", "Study", "study_document"]


@attrs.frozen
class Merged:
    """A point that is the same experiment as one before it: what differs changes nothing that is executed.

    Attributes:
        because: settings of either, as `path=value`, that the backend says have no effect; none where the points differ
            in what is no part of the execution, or in nothing.
    """

    point: Point
    into: PlannedExperiment
    because: tuple[str, ...] = ()


@attrs.frozen
class Study:
    """A study that is ready to run, and all that it leaves out.

    Attributes:
        file: as asked.
        experiments: in the order of their first trials.
        jobs: what each engine process measures, in running order.
        overrides: settings laid over every point (flags, arguments).
        reference: id of the experiment that several engine processes measure, spread over the study; None for none.
        axes: paths of the settings that vary, in the file's order.
        notes: what is not wrong and yet good to know.
    """

    file: StudyFile
    experiments: tuple[PlannedExperiment, ...]
    jobs: tuple[Job, ...]
    overrides: tuple[Layer, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    invalid: tuple[Invalid, ...] = ()
    merged: tuple[Merged, ...] = ()
    axes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reference: str | None = None

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
        return sum(one.experiment.least_trials for one in self.experiments)


def study_document(study: Study) -> dict[str, Any]:
    """The study's part of `study.json`: as asked, word for word but for secrets, and as resolved. JSON values only.

    `experiments` are the ids in running order, `points` what each of them sets; then every point that does not run,
    with its reason. `texts` are the files, `overrides` what flags or arguments laid over them, both with
    `***` in place of what looks like a secret.
    """
    return {
        "name": study.name,
        "experiments": [one.id for one in study.experiments],
        "axes": list(study.axes),
        "points": {one.id: _point(one.point) for one in study.experiments},
        "order": unstructure(study.file.order),
        "limits": unstructure(study.file.limits),
        "parallel": study.file.parallel,
        "reference": study.reference,
        "declared": study.declared,
        "excluded": [{**_point(one.point), "by": one.by} for one in study.excluded],
        "invalid": [{**_point(one.point), "reasons": [str(p) for p in one.problems]} for one in study.invalid],
        "merged": [{**_point(one.point), "into": one.into.id, "because": list(one.because)} for one in study.merged],
        "notes": list(study.notes),
        "texts": dict(study.file.texts),
        "overrides": [
            {"source": layer.source, "values": _hidden(_plain(layer.values), study)}
            for layer in study.overrides
            if layer.values
        ],
    }


def _point(point: Point) -> dict[str, Any]:
    return {"number": point.number, "values": _plain(point.values)}


def _hidden(value: Any, study: Study, path: str = "") -> Any:
    """Without secrets: by their own form, and by names that users gave. A setting such as `stop_token` is none by its
    name, and `config` of each experiment has it too."""
    if isinstance(value, Mapping):
        return {key: _hidden(inner, study, f"{path}.{key}" if path else key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner, study, path) for inner in value]
    if not isinstance(value, str):
        return value
    named = is_secret(path) and not any(_has(one.experiment, path) for one in study.experiments)
    return HIDDEN if named else without_secrets(value)


def _has(experiment: Experiment, path: str) -> bool:
    """Whether the path is a setting of llem or of a plugin, and not a name within a setting that takes any names."""
    first, _, rest = path.partition(".")
    sections = {experiment.backend: experiment.options, **experiment.meter_options}
    part, steps = (sections[first], rest.split(".")) if first in sections else (experiment, path.split("."))
    for step in steps:
        if not attrs.has(type(part)) or step not in attrs.fields_dict(type(part)):
            return False
        part = getattr(part, step)
    return True


def _plain(value: Any) -> Any:
    """As JSON can say it: what a point sets may be any value, since invalid ones are listed too."""
    if attrs.has(type(value)):
        return _plain(unstructure(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return repr(value)
