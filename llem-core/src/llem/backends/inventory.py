"""The names of an engine's parameters in one version of it, as a backend's package stores them beside its code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["Inventory"]


@attrs.frozen
class Inventory:
    """Names of parameters, by the class or function that takes them, in one version of the engine."""

    version: str
    fields: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """From a file that `write` made."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(stored["version"], {owner: tuple(names) for owner, names in stored["fields"].items()})

    def write(self, path: Path) -> None:
        """As JSON that `read` understands."""
        text = json.dumps({"version": self.version, "fields": self.fields}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
