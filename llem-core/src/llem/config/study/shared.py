"""What all points of a study have in common (settings, sections of backends), and which points are left out. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.converter import structure_all
from llem.config.identity import same
from llem.config.layers import Layer, Leaf, Tree, leaves, overlay, plain
from llem.config.models import config_class
from llem.config.said import Around, Said, merged, setting
from llem.config.study.axes import POINT, Point
from llem.config.study.file import Stated, StudyFile
from llem.errors import ConfigError, Problem
from llem.plugins.registry import Registry

__all__ = ["Excluded", "Exclusions", "Shared", "matches", "wanted"]


class Shared:
    """What all points share: settings, and sections of backends, of which each point takes its own backend's alone."""

    def __init__(
        self, file: StudyFile, registry: Registry, base: tuple[Layer, ...], overrides: tuple[Layer, ...]
    ) -> None:
        self._around = Around(base, overrides, POINT)
        self.places = [layer.source for layer in (*base, Layer(POINT, {}), *overrides)]
        self._backends = frozenset(registry.names("backend"))
        self._used: set[str] = set()
        self._kept: dict[str, bool] = {}
        self._fixed = [path for one in merged(overrides).values() for path in one.leaves]
        tree: Tree = {}
        for layer in (*base, *overrides):
            overlay(tree, layer)
        self._sections = self._backends & tree.keys()
        problems = [problem for name in sorted(self._sections) for problem in _section_problems(name, tree, registry)]
        if problems:
            told = tuple(attrs.evolve(problem, path=file.where(problem)) for problem in problems)
            raise ConfigError(f"invalid study {file.name!r}", problems=told)

    def of(self, point: Point) -> tuple[Point, Mapping[Any, Said]]:
        """A point with what it really sets, and all that is said of its settings before defaults.

        It does not set what stands in another backend's section, or what an override sets.
        """
        found = self._around.of(point.settings)
        backend = found["backend"].values if "backend" in found else None
        others = self._backends - {backend} if isinstance(backend, str) else frozenset()
        self._used |= self._backends - others
        if others & found.keys():
            found = {name: one for name, one in found.items() if name not in others}
        gone = []
        for path, stands in point.where.items():
            place, other = _bare(stands), path.partition(".")[0] in others
            self._kept[place] = self._kept.get(place, False) or not other
            if other or self._is_fixed(path):
                gone.append(path)
        if gone:
            own, where = (_but(mapping, gone) for mapping in (point.values, point.where))
            point = attrs.evolve(point, values=own, where=where)
        return point, found

    def _is_fixed(self, path: str) -> bool:
        """Whether an override sets this, or what it is in, or something in it."""
        return any(path == one or path.startswith(f"{one}.") or one.startswith(f"{path}.") for one in self._fixed)

    def notes(self) -> Iterator[str]:
        """Sections, and values of points, that were dropped wherever they stand."""
        yield from (f"no point uses the section {name!r}" for name in sorted(self._sections - self._used))
        for place, kept in self._kept.items():
            if not kept:
                yield f"{place} is in the section of a backend that none of its points has, and sets nothing"


def _section_problems(name: str, tree: Tree, registry: Registry) -> Iterator[Problem]:
    """What is wrong with the section of a backend for whichever point it is used.

    Left to each point: what is missing, and rules over several fields, since axes may set the rest.
    """
    cls = config_class(registry, "backend", name)
    section = plain(tree[name])
    if cls is None:  # it takes no settings, which its points will tell
        return
    _, problems = structure_all(cls, section, name)
    for problem in problems:
        over_several = problem.path == name and isinstance(section, Mapping)
        if not over_several and problem.message != "is missing":
            yield attrs.evolve(problem, source=_source(tree, problem.path))


@functools.cache
def _bare(place: str) -> str:
    """The place of an axis, of that of one of its values."""
    return re.sub(r"\[\d+\]$", "", place)


def _but(mapping: Mapping[str, Any], gone: Sequence[str]) -> dict[str, Any]:
    return {path: value for path, value in mapping.items() if path not in gone}


def _source(tree: Tree, path: str) -> str:
    """Where the setting at a path, or the first within it, came from."""
    below: Any = tree
    for step in path.partition("[")[0].split("."):
        if not isinstance(below, dict) or step not in below:
            break
        below = below[step]
    while isinstance(below, dict) and below:
        below = next(iter(below.values()))
    return below.source if isinstance(below, Leaf) else ""


@attrs.frozen
class Excluded:
    """A point that was left out, and the entry that did it: `study.yaml: exclude[0]`."""

    point: Point
    by: str


class Exclusions:
    """The entries of `exclude`, and what they have left out so far."""

    def __init__(self, entries: Sequence[Stated]) -> None:
        self._entries = [(entry.where, wanted(entry)) for entry in entries]
        self.found: list[Excluded] = []

    def leave_out(self, point: Point, found: Mapping[Any, Said]) -> bool:
        """Whether an entry matches the point's settings; it is remembered."""
        for where, asked in self._entries:
            if matches(found, asked):
                self.found.append(Excluded(point, where))
                return True
        return False

    def notes(self) -> Iterator[str]:
        """Entries that no point matched; often a value that is spelt otherwise in the axes."""
        used = {one.by for one in self.found}
        return (f"{where} matches no point" for where, _ in self._entries if where not in used)


def wanted(entry: Stated) -> dict[str, Any]:
    """Dotted path to value of what an entry of `exclude`, or `reference`, matches."""
    tree: dict[Any, Any] = {}
    overlay(tree, Layer("", entry.value))
    return dict(leaves(plain(tree)))


def matches(found: Mapping[Any, Said], asked: Mapping[str, Any]) -> bool:
    """Whether settings have all that an entry asks for (see `wanted`)."""
    return all(
        (leaf := setting(found, path)) is not None and _matches(leaf.value, value) for path, value in asked.items()
    )


def _matches(value: Any, asked: Any) -> bool:
    """Equal, or one of several: a list stands for itself and for each of its entries."""
    if same(value, asked):
        return True
    return isinstance(asked, (list, tuple)) and any(same(value, one) for one in asked)
