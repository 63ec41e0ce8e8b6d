"""Facts stored with each result: the machine, its GPUs, the versions that matter. No secrets, no variables."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem import __version__
from llem.devices.host import probe_host
from llem.devices.nvml import Nvml
from llem.plugins.registry import Registry

__all__ = ["environment_facts"]


def environment_facts(registry: Registry, nvml: Nvml | None, gpu_uuids: Sequence[str]) -> Mapping[str, Any]:
    """Everything that is the same for two runs on one machine in one state; nothing that changes by the minute."""
    plugins = {plugin.distribution: plugin.version for plugin in registry.found.plugins}
    facts: dict[str, Any] = {
        "llem": __version__,
        "host": attrs.asdict(probe_host()),
        "plugins": dict(sorted(plugins.items())),
        "driver": nvml.driver_version() if nvml else None,
        "gpus": [nvml.facts(uuid) for uuid in gpu_uuids] if nvml else [],
        "packages": _versions(plugins),
    }
    for extra in registry.found.pm.hook.llem_environment():
        facts.update(extra)
    return facts


def _versions(distributions: Mapping[str, str]) -> dict[str, str]:
    """Versions of what the plugins directly require, where it is installed."""
    names = set()
    for distribution in distributions:
        for requirement in importlib.metadata.requires(distribution) or ():
            names.add(requirement.split(";")[0].split("[")[0].split(" ")[0].rstrip("<>=!~0123456789., "))
    found = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
