"""What a worker tells while it works: JSON lines, one event each. Never between a window's beginning and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Emit", "Event", "silent"]

Event = Mapping[str, Any]
Emit = Callable[[Event], None]


def silent(_: Event) -> None:
    """Tell nobody."""
