"""Studies written as mappings, on the echo backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from llem.config.layers import Layer
from llem.config.study import parse_study
from llem.plugins.registry import registry
from llem.study.expand import Study, expand

BASE = {"backend": "echo", "device": "cpu"}


def expanded(base: Mapping[str, Any] = BASE, overrides: Mapping[str, Any] | None = None, **parts: Any) -> Study:
    """The study with this base and these parts."""
    layers = [Layer("flag --set", overrides)] if overrides else []
    return expand(parse_study({"base": base, **parts}), registry(), overrides=layers)


@pytest.fixture
def study() -> Callable[..., Study]:
    """`study(axes={...}, exclude=[...])`: expanded, on echo unless `base` says otherwise."""
    return expanded
