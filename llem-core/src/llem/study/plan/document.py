"""What `study.json` holds of a study: as asked, word for word, and as resolved. JSON values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.converter import unstructure
from llem.config.study.axes import Point
from llem.study.plan.expand import Study

__all__ = ["study_document"]


def study_document(study: Study) -> dict[str, Any]:
    """The study's part of `study.json`.

    `experiments` are the ids in running order, `points` what each of them sets; then every point that does not run,
    with its reason. `texts` are the files as they were read, `overrides` what flags or arguments laid over them.
    """
    return {
        "name": study.name,
        "experiments": [one.identified.id for one in study.experiments],
        "axes": list(study.axes),
        "points": {one.identified.id: _point(one.point) for one in study.experiments},
        "order": unstructure(study.file.order),
        "limits": unstructure(study.file.limits),
        "parallel": study.file.parallel,
        "declared": study.declared,
        "excluded": [{**_point(one.point), "by": one.by} for one in study.excluded],
        "invalid": [{**_point(one.point), "reasons": [str(p) for p in one.problems]} for one in study.invalid],
        "merged": [
            {**_point(one.point), "into": one.into.identified.id, "because": list(one.because)} for one in study.merged
        ],
        "notes": list(study.notes),
        "texts": dict(study.file.texts),
        "overrides": [
            {"source": layer.source, "values": _plain(layer.values)} for layer in study.overrides if layer.values
        ],
    }


def _point(point: Point) -> dict[str, Any]:
    return {"number": point.number, "values": _plain(point.values)}


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
