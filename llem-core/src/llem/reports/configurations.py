"""A configuration in few words: what all rows of a table have alike, and what each has of its own. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.analysis.overview import Overview
from llem.config.arrival import GREATEST
from llem.reports.figures import setting

__all__ = [
    "BASE",
    "OWN_COLUMNS",
    "configuration",
    "headings",
    "in_common",
    "load_text",
    "own_columns",
    "own_words",
    "point_text",
    "varied",
]

#: With more axes than this, a table has one column of words instead of a column for each.
OWN_COLUMNS = 2
#: A point that sets nothing of what varies.
BASE = "base"


def load_text(load: Mapping[str, Any]) -> str:
    """How requests arrive, in few words."""
    kind = load.get("kind", "offline")
    if kind == "closed":
        clients = load.get("concurrency", "?")
        return f"{clients} client" + ("" if clients == 1 else "s")
    if kind == "open":
        share = load.get("capacity_share")
        if load.get("request_rate") == GREATEST:
            return "greatest rate under the SLO"
        return f"{_rate(load.get('request_rate'))} requests/s" if share is None else f"{share:.0%} of capacity"
    if kind == "replay":
        return "trace" + ("" if load.get("speed") == 1 else f" × {_rate(load.get('speed'))}")
    if kind == "command":
        return str(load.get("name") or shlex.join(load.get("argv", ())))
    return f"batch {load.get('batch_size', '?')}"


def _rate(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else "?"


def configuration(row: Overview, *, load: bool = True) -> str:
    """Backend, model, dtype and load in a line."""
    asked = (row.backend, row.model, row.dtype, load_text(row.load) if load else None)
    return " · ".join(str(part) for part in asked if part)


def _parts(row: Overview) -> dict[str, str]:
    """What `configuration` says, by the setting that it is of."""
    found = {"backend": row.backend, "model": row.model, "dtype": row.dtype, "load": load_text(row.load)}
    return {name: part for name, part in found.items() if part}


def varied(study: Mapping[str, Any], ids: Iterable[str]) -> list[str]:
    """Paths that are not the same for all these experiments, in the study's order."""
    values = [study.get("points", {}).get(name, {}).get("values", {}) for name in ids]
    return [path for path in study.get("axes", ()) if len({repr(one.get(path)) for one in values}) > 1]


def in_common(rows: Iterable[Overview], *, load: bool = False) -> str:
    """What of backend, model and dtype (and load) all rows have alike."""
    found = [_parts(row) for row in rows]
    names = ("backend", "model", "dtype", *(("load",) if load else ()))
    return " · ".join(found[0][name] for name in names if name in found[0] and _alike(found, name)) if found else ""


def _alike(found: Iterable[Mapping[str, str]], name: str) -> bool:
    return len({parts.get(name) for parts in found}) < 2


def headings(paths: Sequence[str]) -> list[str]:
    """Each path by its shortest ending that no other path has."""
    found = []
    for path in paths:
        steps = path.split(".")
        endings = [".".join(steps[-count:]) for count in range(1, len(steps) + 1)]
        alone = (end for end in endings if sum(other == end or other.endswith(f".{end}") for other in paths) == 1)
        found.append(next(alone, path))
    return found


def own_columns(axes: Sequence[str]) -> tuple[str, ...]:
    """The axes that have a column each: all of few, none of many."""
    return tuple(axes) if len(axes) <= OWN_COLUMNS else ()


def point_text(values: Mapping[str, Any], axes: Sequence[str]) -> str:
    """What a point sets of these axes, each by its shortest ending: `max_num_seqs=32, dtype=float16`."""
    names = dict(zip(axes, headings(axes), strict=True))
    return ", ".join(f"{names[path]}={_value(path, values[path])}" for path in axes if path in values) or BASE


def _value(path: str, value: Any) -> str:
    return load_text(value) if path == "load" and isinstance(value, Mapping) else setting(value)


def own_words(rows: Sequence[Overview], axes: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What rows differ in beside the axes that have a column each, by id; nothing where no row differs.

    Args:
        axes: all that vary. values: what each experiment sets, by id and path.
    """
    found = {row.id: _parts(row) for row in rows}
    told = {path.partition(".")[0] for path in axes}
    apart = [name for name in ("backend", "model", "dtype", "load") if not _alike(found.values(), name)]
    kept = [name for name in apart if name not in told]
    words = {one: " · ".join(parts.get(name, "–") for name in kept) for one, parts in found.items()} if kept else {}
    if own_columns(axes) or not axes:
        return words
    points = {row.id: point_text(values.get(row.id, {}), axes) for row in rows}
    return {one: ", ".join(filter(None, (words.get(one, ""), text))) for one, text in points.items()}
