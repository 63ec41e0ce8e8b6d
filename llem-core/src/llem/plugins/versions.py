"""Versions of installed distributions, for a plugin's `llem_environment`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any

__all__ = ["installed_versions", "torch_versions"]


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Version by name, of those distributions that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def torch_versions(names: Iterable[str]) -> dict[str, Any]:
    """As `installed_versions`, and `torch_cuda` where torch is imported already: importing it is not our call."""
    found: dict[str, Any] = installed_versions(names)
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_cuda"] = torch.version.cuda
    return found
