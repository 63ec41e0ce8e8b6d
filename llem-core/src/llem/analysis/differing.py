"""What two experiments do not have alike beside their figures: settings, workload, what the engine says, where. Pure
but for the reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.metrics.result import place_of
from llem.store.models import Result
from llem.store.store import Store

__all__ = ["Differing", "What", "differing"]

#: What a difference is of: a setting, the engine's own account of what it runs, the GPU or machine, the software.
What = Literal["setting", "workload", "effective", "place", "software"]
#: Parts of an engine's account that follow from the run and not from what was asked for.
INCIDENTAL = (
    "num_gpu_blocks",
    "kv_cache_blocks",
    "kv_cache_size_tokens",
    "kv_cache_max_concurrency",
    "port",
    "instance_id",
    "cache_dir",
)


@attrs.frozen
class Differing:
    """One thing that A and B do not have alike. `a`, `b`: the values as text; `–` for none."""

    what: What
    path: str
    a: str
    b: str


def differing(store: Store, a: Result, b: Result) -> list[Differing]:
    """What differs, settings first.

    Of what an engine says of itself, a value that repeats a setting and a value that follows from the run are left out.
    """
    settings = list(_between("setting", a.config, b.config))
    found = [attrs.evolve(one, what="workload") if one.path.startswith("workload") else one for one in settings]
    told = {(_last(one.path), one.a, one.b) for one in settings}
    effective = _between("effective", a.effective, b.effective)
    found += [one for one in effective if not _repeats(one, told) and _last(one.path) not in INCIDENTAL]
    return [*found, *_places(store, a, b)]


def _between(what: What, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Differing]:
    left, right = dict(_leaves(a)), dict(_leaves(b))
    for path in dict.fromkeys((*left, *right)):
        if left.get(path) != right.get(path):
            yield Differing(what, path, _text(left, path), _text(right, path))


def _leaves(document: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            value = {str(number): one for number, one in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _text(leaves: Mapping[str, Any], path: str) -> str:
    if path not in leaves:
        return "–"
    value = leaves[path]
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _repeats(one: Differing, told: set[tuple[str, str, str]]) -> bool:
    """Whether an engine only says again what was set: dtypes with the library's name before them, too."""
    plain = tuple(value.removeprefix("torch.") for value in (one.a, one.b))
    return any((plain == (a, b)) and (_last(one.path) == name or name.endswith(_last(one.path))) for name, a, b in told)


def _places(store: Store, a: Result, b: Result) -> Iterator[Differing]:
    """GPUs, and of other environments what is not the same."""
    boards = [_boards(store.engines(one.id)) for one in (a, b)]
    if boards[0] != boards[1]:
        yield Differing("place", "GPUs", *(", ".join(sorted(found)) or "–" for found in boards))
    if a.environment != b.environment and a.environment and b.environment:
        first, second = (store.read_environment(one.environment) for one in (a, b))
        for one in _between("software", first, second):
            if one.path not in ("digest", "host.hostname"):
                yield one


def _boards(engines: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The GPUs of each engine process."""
    return frozenset(str(place) for place in map(place_of, engines) if place.gpus)
