"""Settings from several places laid over each other, each value remembering where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from llem.config.converter import unstructure

__all__ = ["Layer", "Leaf", "Tree", "leaves", "merge", "named", "overlay", "plain"]


@attrs.frozen
class Layer:
    """Settings from one place.

    Attributes:
        source: as it shall be shown: "flag", "file study.yaml", "python", "preset quick".
        values: nested mappings; keys at the top may be dotted paths (`load.batch_size`). attrs objects count as
            mappings of all their fields.
    """

    source: str
    values: Mapping[str, Any]


@attrs.frozen
class Leaf:
    """One value and its source. Lists are leaves: a later list replaces an earlier one."""

    value: Any
    source: str


Tree: TypeAlias = dict[Any, Any]  # of Leaf and Tree; keys are what the user wrote, which need not be text


def overlay(tree: Tree, layer: Layer) -> None:
    """Lay a layer over a tree, in place.

    Mappings are merged key by key, everything else replaces what was there. A section that states another `kind` than
    the one below it replaces that section, since its settings belong to another class; only what the same source has
    said before stays, so that the order of `--set load.concurrency=8 --set load.kind=closed` does not matter.
    """
    for name, _, value in named(layer.values):
        merge(tree, name, value, layer.source)


def named(settings: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Of settings whose keys may be dotted paths: the name at the top, the key as written, and what is said of the
    name."""
    for key, value in settings.items():
        steps = str(key).split(".") if isinstance(key, str) else [key]
        for step in reversed(steps[1:]):
            value = {step: value}
        yield steps[0], key, value


def merge(tree: Tree, key: Any, value: Any, source: str) -> None:
    """Lay what a source says of one name over a tree, in place; see `overlay`."""
    if attrs.has(type(value)):
        value = unstructure(value)
    if not isinstance(value, Mapping):
        tree[key] = Leaf(value, source)
        return
    below = tree.get(key)
    if isinstance(below, dict) and _other_kind(below, value):
        below = tree[key] = _said_by(source, below)
    if not isinstance(below, dict):
        if not value:
            tree[key] = Leaf({}, source)
            return
        below = tree[key] = {}
    for inner, inner_value in value.items():
        merge(below, inner, inner_value, source)


def _other_kind(below: Tree, above: Mapping[Any, Any]) -> bool:
    kind = below.get("kind")
    return "kind" in above and isinstance(kind, Leaf) and kind.value != above["kind"]


def _said_by(source: str, tree: Tree) -> Tree:
    """What of a tree comes from this source; all options of one command line are one."""
    kept: Tree = {}
    for key, below in tree.items():
        if isinstance(below, Leaf):
            if below.source.partition(" --")[0] == source.partition(" --")[0]:
                kept[key] = below
        elif inner := _said_by(source, below):
            kept[key] = inner
    return kept


def plain(tree: Any) -> Any:
    """The values alone."""
    return tree.value if isinstance(tree, Leaf) else {key: plain(below) for key, below in tree.items()}


def leaves(tree: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything that is not a mapping; an empty mapping counts as a value."""
    for key, value in tree.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value
