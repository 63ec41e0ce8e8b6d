"""Settings given on the command line, as layers over those of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llem.config.layers import Layer

__all__ = ["flag_layers"]


def flag_layers(
    model: str | None, backend: str | None, preset: str | None, assignments: tuple[str, ...]
) -> list[Layer]:
    """The layers of `-m`, `-b`, `--preset` and each `--set`, later ones above.

    Raises ConfigError if a `--set` is no KEY=VALUE, or contradicts `-m`, `-b` or `--preset`.
    """
    from llem.config.layers import Layer
    from llem.config.text import parse_assignment
    from llem.errors import ConfigError

    flags = {"model": model, "backend": backend, "preset": preset}
    given = {name: value for name, value in flags.items() if value is not None}
    settings = [parse_assignment(text) for text in assignments]
    for path, value in settings:
        if path in given and value != given[path]:
            raise ConfigError(f"--{path} {given[path]} and --set {path}={value} disagree", "give one of the two")
    return [Layer("flag", given), *(Layer("flag --set", {path: value}) for path, value in settings)]
