"""Which settings say what leaving them out says too: for `Backend.canonical`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["same", "unset"]


def same(one: Any, other: Any) -> bool:
    """Equal; True and 1 are not, nor False and 0."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def unset(section: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a section that have their default, as the change that leaves them out."""
    return {name: None for name, default in defaults.items() if same(getattr(section, name), default)}
