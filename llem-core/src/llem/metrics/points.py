"""What study.json says that each point sets, against what its experiment was configured with. Pure.

Only a whole number in the place of a fraction is changed on the way from one to the other (`llem.config.converter`),
and sections get the defaults of what they do not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llem.config.layers import leaves

__all__ = ["unlike"]

#: In place of a value that is not there.
_NOTHING = object()


def unlike(study: Mapping[str, Any], name: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where a point's values are not those of its experiment's configuration: the path, and both values.

    What says nothing of the experiment is left out: a setting that an option overrode, one of a section that its
    backend does not have, and the quality of an experiment that is several points.
    """
    fixed = [path for layer in study.get("overrides") or () for path, _ in leaves(layer["values"])]
    several = any(one.get("into") == name for one in study.get("merged") or () if isinstance(one, Mapping))
    values = (study.get("points") or {}).get(name, {}).get("values", {})
    for path, value in values.items():
        top = path.partition(".")[0]
        if top not in config or (several and top == "quality") or _meets(path, fixed):
            continue
        found = _at(config, path)
        if not _within(value, found) and not (value is None and path == "backend"):  # llem then chooses
            yield f"points.{name}.values.{path}", value, None if found is _NOTHING else found


def _meets(path: str, fixed: Sequence[str]) -> bool:
    """Whether one of these is the setting, what it is in, or in it."""
    return any(path == one or path.startswith(f"{one}.") or one.startswith(f"{path}.") for one in fixed)


def _at(config: Any, path: str) -> Any:
    """What stands at a dotted path; the names on it may have dots themselves."""
    if not isinstance(config, Mapping):
        return _NOTHING
    if path in config:
        return config[path]
    steps = path.split(".")
    for count in range(1, len(steps)):
        name, rest = ".".join(steps[:count]), ".".join(steps[count:])
        if name in config and (found := _at(config[name], rest)) is not _NOTHING:
            return found
    return _NOTHING


def _within(value: Any, found: Any) -> bool:
    """Whether a configured value is what was said, or that with defaults."""
    if isinstance(value, Mapping):
        return isinstance(found, Mapping) and all(_within(one, found.get(key, _NOTHING)) for key, one in value.items())
    if isinstance(value, list):
        alike = isinstance(found, list) and len(value) == len(found)
        return alike and all(_within(one, other) for one, other in zip(value, found, strict=True))
    if isinstance(value, bool) or isinstance(found, bool):
        return value is found
    return bool(value == found)
