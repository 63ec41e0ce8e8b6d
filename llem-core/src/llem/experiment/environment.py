"""The machine of a result: facts stored with it (no secrets, no variables), and who else computes on its GPUs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem import __version__
from llem.devices.host import probe_host, told_container
from llem.devices.nvml import Nvml
from llem.plugins.claims import LoadFailure
from llem.plugins.reference import installed_versions
from llem.plugins.registry import Registry

__all__ = ["Tenants", "environment_facts"]

#: The name at the beginning of a requirement, which extras, versions and markers follow.
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def environment_facts(
    registry: Registry, nvml: Nvml | None, gpu_uuids: Sequence[str]
) -> tuple[Mapping[str, Any], Sequence[LoadFailure]]:
    """Everything that is the same for two runs on one machine in one state; nothing that changes by the minute.

    And the plugins whose facts cannot be had or stored. No plugin replaces a fact of ours.
    """
    plugins = {plugin.distribution: plugin.version for plugin in registry.found.plugins}
    facts: dict[str, Any] = {
        "llem": __version__,
        "host": attrs.asdict(probe_host()),
        "container": told_container(),
        "plugins": dict(sorted(plugins.items())),
        "driver": nvml.driver_version() if nvml else None,
        "gpus": [nvml.facts(uuid) for uuid in gpu_uuids] if nvml else [],
        "packages": _versions(plugins),
    }
    failures: list[LoadFailure] = []
    for plugin, extra in registry.ask("llem_environment", failures):
        try:
            json.dumps(dict(extra), allow_nan=False)
        except (TypeError, ValueError) as error:
            failures.append(LoadFailure(plugin, "call", error))
            continue
        facts.update({name: value for name, value in extra.items() if name not in facts})
    return facts, failures


def _versions(distributions: Mapping[str, str]) -> dict[str, str]:
    """Versions of what the plugins directly require, where it is installed."""
    names = set()
    for distribution in distributions:
        try:
            requirements = importlib.metadata.requires(distribution) or ()
        except importlib.metadata.PackageNotFoundError:  # run from its source, without having been installed
            continue
        names |= {match[0] for requirement in requirements if (match := NAME.match(requirement))}
    return installed_versions(sorted(names))


class Tenants:
    """Tells strangers on the GPUs from ourselves without relying on process ids being ours to see.

    In a container NVML shows the host's process ids, so "mine" is what appeared while the engine loaded, and this
    process, which a program that calls llem may have used on the GPU before.
    """

    def __init__(self, pids: Callable[[], set[int]]) -> None:
        self._pids = pids
        self._before = pids()
        self._own = {os.getpid()}

    @classmethod
    def on(cls, nvml: Nvml, uuids: Sequence[str]) -> Tenants:
        """Watch these GPUs."""
        return cls(lambda: {pid for uuid in uuids for pid in nvml.compute_pids(uuid)})

    def engine_loaded(self, pids: Iterable[int] = ()) -> None:
        """What is there now and was not before is the engine; and what it says are its own, however long they ran."""
        self._own |= (self._pids() - self._before) | set(pids)

    def strangers(self) -> tuple[int, ...]:
        """Process ids on the GPUs that are not the engine's."""
        return tuple(sorted(self._pids() - self._own))
