"""The config classes that plugins bring for their sections."""

from __future__ import annotations

from typing import Any

import attrs

from llem.config.converter import kinds_of, settings
from llem.config.models import Quality
from llem.errors import BrokenPlugin
from llem.plugins.registry import Kind, Registry

__all__ = ["config_class", "plugin_fields"]


def config_class(registry: Registry, kind: Kind, name: str) -> Any:
    """The attrs class that types a plugin's section; None where it takes no settings. An evaluator takes some always.

    Raises:
        UnknownPlugin: no such plugin.
        BrokenPlugin: its class does not import, is no attrs class, for a workload has no field `kind`, or for an
            evaluator is no `Quality`.
    """
    reference = registry.reference(kind, name)
    try:
        cls = reference.load_config()
        if cls is not None:
            settings(cls)  # resolves annotations, which may name what cannot be imported
    except Exception as error:  # a stranger's module may raise anything
        raise _broken(kind, name, f"{type(error).__name__}: {error}") from error
    if kind == "workload" and (cls is None or name not in kinds_of(cls)):
        raise _broken(kind, name, f"it needs a field `kind: Literal[{name!r}]`, by which the section names it")
    if kind == "evaluator":
        cls = Quality if cls is None else cls
        if not issubclass(cls, Quality):
            raise _broken(kind, name, "it must inherit from llem.config.models.Quality")
    return cls


def _broken(kind: str, name: str, why: str) -> BrokenPlugin:
    return BrokenPlugin(
        f"the config class of {kind} {name!r} cannot be used: {why}", "reinstall or remove the package that provides it"
    )


def plugin_fields(registry: Registry, kind: Kind, name: str) -> tuple[str, ...]:
    """Names of the settings of one plugin."""
    cls = config_class(registry, kind, name)
    return () if cls is None else tuple(field.name for field in attrs.fields(cls))
