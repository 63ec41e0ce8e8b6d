"""Settings given on the command line, as layers over those of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llem.config.layers import Layer

__all__ = ["flag_layers"]


def flag_layers(
    model: str | None, backend: str | None, preset: str | None, assignments: tuple[str, ...]
) -> list[Layer]:
    """The layers of `-m`, `-b`, `--preset` and each `--set`, later ones above. Raises ConfigError for a bad one."""
    from llem.config.layers import Layer
    from llem.config.text import parse_assignment

    flags = {"model": model, "backend": backend, "preset": preset}
    layers = [Layer("flag", {name: value for name, value in flags.items() if value is not None})]
    return layers + [Layer("flag --set", dict([parse_assignment(text)])) for text in assignments]
