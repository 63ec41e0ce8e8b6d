"""What layers of settings say, name by name: names of which two points say the same are merged and read once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from llem.config.layers import Layer, Leaf, Tree, leaves, merge, named, plain

__all__ = ["Around", "Remembered", "Said", "merged", "said", "setting", "sources_of"]

T = TypeVar("T")
#: Results that are remembered at once, of each function: the points of a study come with the last axis changing
#: fastest, so what is read again was mostly read not long ago.
MOST = 4096


@attrs.frozen(eq=False)
class Said:
    """What layers say of one name at the top of an experiment.

    Two are equal only if they are one object, so whoever reads it may remember by it what came of reading.

    Attributes:
        parts: source and value of each layer that says something of it, lower ones first.
        values: all layers over each other.
        leaves: dotted path to each value in them, with its source.
    """

    parts: tuple[tuple[str, Any], ...]
    tree: Tree | Leaf
    values: Any
    leaves: Mapping[str, Leaf]


def said(name: Any, parts: Iterable[tuple[str, Any]]) -> Said:
    """What sources say of a name, lower ones first."""
    tree: Tree = {}
    parts = tuple(parts)
    for source, value in parts:
        merge(tree, name, value, source)
    return Said(parts, tree[name], plain(tree[name]), dict(leaves(tree)))


def merged(layers: Iterable[Layer], below: Mapping[Any, Said] | None = None) -> dict[Any, Said]:
    """What layers say over each other, and over what is said below them, by name."""
    parts: dict[Any, list[tuple[str, Any]]] = {}
    for layer in layers:
        for name, _, value in named(layer.values):
            parts.setdefault(name, []).append((layer.source, value))
    under = below or {}
    return {
        **under,
        **{name: said(name, (*(under[name].parts if name in under else ()), *own)) for name, own in parts.items()},
    }


def sources_of(found: Mapping[Any, Said]) -> dict[str, str]:
    """Dotted path of each value to its source."""
    return {path: leaf.source for one in found.values() for path, leaf in one.leaves.items()}


def setting(found: Mapping[Any, Said], path: str) -> Leaf | None:
    """What stands at a dotted path that leads to a value; None where nothing is said of it."""
    one = found.get(path.partition(".")[0])
    return None if one is None else one.leaves.get(path)


class Around:
    """The layers below and above one that varies, such as a point of a study: merged once where it says nothing.

    Args:
        source: of what varies.
    """

    def __init__(self, below: Sequence[Layer], above: Sequence[Layer], source: str) -> None:
        self._below, self._above, self._source = merged(below), merged(above), source
        self._alone = merged(above, self._below)
        self._known: dict[Any, Said] = {}

    def of(self, settings: Mapping[Any, Any]) -> dict[Any, Said]:
        """All layers over each other, with these settings between them. Names stand in the order of the layers."""
        own: dict[Any, list[tuple[Any, Any, Any]]] = {}
        for name, key, value in named(settings):
            own.setdefault(name, []).append((key, settings[key], value))
        found = {name: self._alone[name] for name in self._below}
        for name, entries in own.items():
            found[name] = self._between(name, entries)
        for name in self._above:
            found.setdefault(name, self._alone[name])
        return found

    def _between(self, name: Any, entries: Sequence[tuple[Any, Any, Any]]) -> Said:
        """The same object for the same entries."""
        key = name, *((written, _identity(value)) for written, value, _ in entries)
        if (known := self._known.get(key)) is not None:
            return known
        if len(self._known) >= MOST:
            self._known.clear()
        parts = [(self._source, value) for _, _, value in entries]
        below, above = (side[name].parts if name in side else () for side in (self._below, self._above))
        made = self._known[key] = said(name, (*below, *parts, *above))
        return made


def _identity(value: Any) -> Any:
    """Equal for values that say the same in every respect; what is no scalar is the same only if it is one object."""
    kind = type(value)  # 1, 1.0 and True are equal, and say different things
    if kind is float:
        return kind, repr(value)  # so do 0.0 and -0.0
    return (kind, value) if kind in (int, str, bool) or value is None else id(value)


class Remembered(Generic[T]):
    """A function whose results are remembered by the identity of its arguments."""

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._known: dict[tuple[int, ...], tuple[tuple[Any, ...], T]] = {}

    def __call__(self, *arguments: Any) -> T:
        """What the function returns; what it raises is not remembered."""
        key = tuple(map(id, arguments))
        if (known := self._known.get(key)) is not None:
            return known[1]
        if len(self._known) >= MOST:
            self._known.clear()
        found = self._function(*arguments)
        self._known[key] = arguments, found  # with the arguments, so that no other object gets their identity
        return found
