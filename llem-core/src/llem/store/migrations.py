"""Stored files of older versions, brought up to date one step at a time.

`STEPS[n]` turns a document of version n into one of version n + 1.

Version 2 knows serving loads: trials say how one went, and results have their metrics. An llem that reads version 1
alone would take such a trial for a broken file. No step leads on from version 1, whose results lack metrics that
cannot be told from altered ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llem.errors import StoreError
from llem.store.models import SCHEMA_VERSION

__all__ = ["STEPS", "upgrade"]

STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


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
