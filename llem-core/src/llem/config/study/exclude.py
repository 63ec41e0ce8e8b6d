"""Points left out: those that match an entry of `exclude` in every setting that it names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.canonical import same
from llem.config.layers import Layer, leaves, overlay, plain
from llem.config.study.axes import Point
from llem.config.study.file import Stated

__all__ = ["Excluded", "Exclusions", "wanted"]


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

    def leave_out(self, point: Point, values: Mapping[str, Any]) -> bool:
        """Whether an entry matches the point's settings, given as sections; it is remembered."""
        if not self._entries:
            return False
        flat = dict(leaves(values))
        for where, asked in self._entries:
            if all(path in flat and _matches(flat[path], value) for path, value in asked.items()):
                self.found.append(Excluded(point, where))
                return True
        return False

    def notes(self) -> Iterator[str]:
        """Entries that no point matched; often a value that is spelt otherwise in the axes."""
        used = {one.by for one in self.found}
        return (f"{where} matches no point" for where, _ in self._entries if where not in used)


def wanted(entry: Stated) -> dict[str, Any]:
    """Dotted path to value of what an entry of `exclude` matches."""
    tree: dict[Any, Any] = {}
    overlay(tree, Layer("", entry.value))
    return dict(leaves(plain(tree)))


def _matches(value: Any, asked: Any) -> bool:
    """Equal, or one of several: a list stands for itself and for each of its entries."""
    if same(value, asked):
        return True
    return isinstance(asked, (list, tuple)) and any(same(value, one) for one in asked)
