"""Reading a document of a store: in the present version, and with all that its readers take for granted.

What was damaged, or written by hand, is then a message that names the file and the key, before any number is made from
it. Keys beyond those of a shape are for whoever looks at them.

Documents of older versions are brought up to date one step at a time: `STEPS[n]` turns one of version n into one of
version n + 1. Version 2 knows serving loads. No step leads on from version 1, whose results lack metrics that cannot be
told from altered ones. Version 3 calls an engine process by its name: `restart` became `process`, the setting
`restarts` became `processes`, and `slo.percentile` became `slo.attainment`. Version 4 has other statistics: documents
of version 3 stay as they are, and results of it are computed again from their trials (`llem.metrics.result.current`).
Version 5 has other rules for what a serving window counts: documents of version 4 stay as they are, what their trials
do not tell is None, and `llem.metrics.accounts` counts it from their rows. Version 6 knows parts of trials, and
the setting `phases`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from llem.errors import StoreError
from llem.store.convert import load
from llem.store.files import DIGEST, corrupt, parsed, read_text
from llem.store.json_text import has_halves
from llem.store.models import SCHEMA_VERSION, Result
from llem.store.names import PROCESS, TRIAL
from llem.store.parts import parts_of
from llem.store.shapes import RESULT, Shape, fault

__all__ = [
    "STEPS",
    "read_json",
    "read_model",
    "read_result",
    "read_shaped",
    "upgrade",
    "with_version",
]

T = TypeVar("T")


def _said(name: str, experiment_id: str) -> dict[str, Any]:
    """What a document of an experiment says, by its name and its folder's."""
    if name in ("result.json", "experiment.json"):
        return {"id": experiment_id}
    if (match := TRIAL.fullmatch(name)) is not None:
        return {"experiment_id": experiment_id, "index": int(match[1])}
    if (match := PROCESS.fullmatch(name)) is None:
        return {}
    return {"process": int(match[1]), **({"phase": match[2]} if match[2] else {})}


def displaced(path: Path, document: Mapping[str, Any]) -> str | None:
    """What of a document is of another place than that it lies in: it was copied, or exchanged for another."""
    *_, room, experiment_id, name = ("", "", *path.parts)
    for key, value in _said(name, experiment_id).items() if room == "experiments" else ():
        if isinstance(document.get(key), type(value)) and document[key] != value:  # its shape is looked at elsewhere
            return f"it is of `{key}` {document[key]!r:.80}, and lies in the place of {value!r}"
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A document in the present version, without its digest (`llem verify` compares that)."""
    return with_version(path)[0]


def with_version(path: Path, wanted: Mapping[str, Collection[str] | None] | None = None) -> tuple[dict[str, Any], int]:
    """A document as `read_json` gives it, and the version in which it was written.

    Args:
        wanted: parts that suffice (see `llem.store.parts.parts_of`); None reads all.
    """
    text = read_text(path)
    some = None if wanted is None or has_halves(text) else parts_of(text, {"schema_version": None, **wanted})
    data = parsed(path, text) if some is None else some
    data.pop(DIGEST, None)
    version: Any = data.get("schema_version")
    found = data if version == SCHEMA_VERSION else upgrade(data, str(path))  # refuses what is no number
    if (what := displaced(path, found)) is not None:
        raise corrupt(path, what)
    return found, version


def read_shaped(path: Path, shape: Shape) -> dict[str, Any]:
    """A document with all that its readers take for granted. Raises StoreError (store_corrupt) where it is not."""
    document = read_json(path)
    if (what := fault(document, shape)) is not None:
        raise corrupt(path, what)
    return document


def read_model(path: Path, kind: type[T]) -> T:
    """A document that is a model. Raises StoreError (store_corrupt) where it is none."""
    return load(read_json(path), kind, str(path))


def read_result(path: Path) -> tuple[Result, int]:
    """A stored Result, every value of its type, and the version that computed it.

    Raises StoreError (store_corrupt) where any is not.
    """
    document, version = with_version(path)
    result = load(document, Result, str(path))
    if (what := fault(document, RESULT)) is not None:
        raise corrupt(path, what)
    return result, version


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


def _to_6(document: dict[str, Any]) -> dict[str, Any]:
    """Any document of version 5 with the setting that it had none of."""
    config = document.get("config")
    return {**document, "config": {"phases": "none", **config}} if isinstance(config, Mapping) else document


STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _to_3, 3: dict, 4: dict, 5: _to_6}


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
