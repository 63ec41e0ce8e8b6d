"""Stored files of older versions, brought up to date one step at a time.

`STEPS[n]` turns a document of version n into one of version n + 1.

Version 2 knows serving loads. No step leads on from version 1, whose results lack metrics that cannot be told from
altered ones. Version 3 calls an engine process by its name: `restart` became `process`, the setting `restarts` became
`processes`, and `slo.percentile` became `slo.attainment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llem.errors import StoreError
from llem.store.models import SCHEMA_VERSION

__all__ = ["STEPS", "upgrade"]

#: Settings of version 2 and their names in version 3, by dotted path.
_SETTINGS_3 = {"restarts": "processes", "slo.percentile": "slo.attainment"}


def _to_3(document: dict[str, Any]) -> dict[str, Any]:
    """Any document of version 2 with the names of version 3."""
    found = _renamed(document, {"restart": "process"})
    for key in ("config", "sources"):
        if isinstance(found.get(key), Mapping):
            found[key] = _settings_3(found[key])
    if isinstance(found.get("findings"), list):
        found["findings"] = [_finding_3(one) for one in found["findings"]]
    if isinstance(found.get("axes"), list):  # study.json
        found["axes"] = [_SETTINGS_3.get(path, path) for path in found["axes"]]
    if isinstance(found.get("points"), Mapping):
        found["points"] = {name: _values_3(point) for name, point in found["points"].items()}
    for key in ("excluded", "invalid", "merged", "overrides"):
        if isinstance(found.get(key), list):
            found[key] = [_values_3(one) for one in found[key]]
    return found


def _renamed(mapping: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in mapping.items()}


def _settings_3(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as sections or by dotted path."""
    found = _renamed(settings, _SETTINGS_3)
    if isinstance(found.get("slo"), Mapping):
        found["slo"] = _renamed(found["slo"], {"percentile": "attainment"})
    return found


def _values_3(one: Any) -> Any:
    """What holds the settings of a point, or of a flag, under `values`."""
    if not isinstance(one, Mapping) or not isinstance(one.get("values"), Mapping):
        return one
    return {**one, "values": _settings_3(one["values"])}


def _finding_3(found: Any) -> Any:
    if not isinstance(found, Mapping) or not isinstance(found.get("evidence"), Mapping):
        return found
    names = {"percentile": "target"} if found.get("code") == "slo_missed" else {"restart": "process"}
    return {**found, "evidence": _renamed(found["evidence"], names)}


STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _to_3}


def upgrade(data: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The document in the present version. `where` names the file in errors.

    Raises StoreError: store_too_old (no step leads on from its version), store_too_new, store_corrupt (no version).
    """
    version = data.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise StoreError(f"{where}: schema_version is missing or not a number", "restore the file", "store_corrupt")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: written by a newer llem (schema version {version}; this one reads up to {SCHEMA_VERSION})",
            "upgrade llem-core",
            "store_too_new",
        )
    document = dict(data)
    while version < SCHEMA_VERSION:
        step = STEPS.get(version)
        if step is None:
            raise StoreError(
                f"{where}: written by an llem that is too old to read (schema version {version}; "
                f"this one reads from {min(STEPS, default=SCHEMA_VERSION)})",
                "read it with the llem-core version that study.json names",
                "store_too_old",
            )
        version += 1
        document = {**step(document), "schema_version": version}
    return document
