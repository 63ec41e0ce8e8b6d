"""What a backend takes where nobody says otherwise, and what it finds on this machine, as layers under all others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from llem.config.converter import settings as fields_of
from llem.config.converter import structure_all
from llem.config.kinds import open_settings
from llem.config.layers import Layer, Tree
from llem.config.models import Experiment, config_class
from llem.config.said import Said
from llem.errors import BrokenPlugin, LlemError
from llem.plugins.reference import resolve
from llem.plugins.registry import Registry

__all__ = ["Find", "Finder", "backend_layers"]


class Find(Protocol):
    """Asks a backend what runs already; see `llem.plugins.Reference.found`."""

    def __call__(self, backend: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings as nested mappings; none where the backend looks for nothing."""


class Finder:
    """Looks at this machine, once for each address that points of a study name.

    Args:
        lenient: where a backend cannot look, nothing is found: for a plan, which needs nothing that runs.
    """

    def __init__(self, registry: Registry, *, lenient: bool) -> None:
        self._registry, self._lenient = registry, lenient
        self._known: dict[str, Mapping[str, Any]] = {}

    def __call__(self, backend: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises LlemError where the backend cannot look."""
        target = self._registry.reference("backend", backend).found
        if target is None:
            return {}
        read = {name: settings.get(name) for name in (backend, "model", "device", "gpus")}
        key = json.dumps([backend, read], sort_keys=True, default=repr)
        if key not in self._known:
            try:
                self._known[key] = _told(backend, target, settings, self._registry)
            except LlemError as error:
                if not self._lenient or isinstance(error, BrokenPlugin):
                    raise
                self._known[key] = {}
        return self._known[key]


def backend_layers(asked: Mapping[Any, Said], registry: Registry, find: Find | None) -> Iterator[Layer]:
    """What the backend that is asked for adds where nothing is said; none where none that is known is named.

    These layers say nothing that is said, so they may lie above or below the others. What is found lies over the
    defaults. See `llem.config.kinds.open_settings` for sections that have kinds.

    Raises LlemError, from `find`.
    """
    name = asked["backend"].values if "backend" in asked else None
    if not isinstance(name, str) or name not in registry.names("backend"):
        return
    target = registry.reference("backend", name).defaults
    if target is None and find is None:
        return
    settings = {key: one.values for key, one in asked.items()}
    tree: Tree = {key: one.tree for key, one in asked.items()}
    own = {} if target is None else _told(name, target, settings, registry)
    there = {} if find is None else find(name, settings)
    for source, told in ((f"default of backend {name}", own), (f"found by backend {name}", there)):
        if told:
            yield from open_settings(source, told, tree, registry)


#: What a backend may look at before settings are checked, besides its own section.
_LOOKED_AT = ("model", "device", "gpus", "dtype", "processes")


def _told(backend: str, target: str, settings: Mapping[str, Any], registry: Registry) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = resolve(target)(settings)
    except LlemError:
        raise
    except Exception as error:  # a stranger's function may raise anything
        if _mistaken(backend, settings, registry):
            return {}
        message = f"backend {backend!r} does not say its defaults ({type(error).__name__}: {error})"
        raise BrokenPlugin(message, "report it to the plugin's authors") from error
    return found


def _mistaken(backend: str, settings: Mapping[str, Any], registry: Registry) -> bool:
    """Whether a setting that the backend looked at has a wrong type, of which the check of the settings tells."""
    kinds = {field.name: field.type for field in fields_of(Experiment) if field.name in _LOOKED_AT}
    kinds[backend] = config_class(registry, "backend", backend)
    asked = {name: kind for name, kind in kinds.items() if name in settings and kind is not None}
    return any(structure_all(kind, settings[name])[1] for name, kind in asked.items())
